"""Stage `baselines`: the classical detector and maps that look at no image, on one test set. It depends on the data
alone, so that another training does not run it again."""

import json
from pathlib import Path

from pipeline.data.packed.split import packed_splits
from pipeline.evaluation.baselines import baselines
from pipeline.params import load_params
from pipeline.runtime.files import write_text
from pipeline.scoring.sets import TEST_SETS
from stages.command import run_stage


def main(test_set: str) -> None:
    """Write evaluation/baselines/SET.json: their scores in 0..1 by task and name."""
    params = load_params()
    splits = packed_splits(Path("data/packed/model"), TEST_SETS[test_set], "test", params.task)
    found = {params.task: baselines(splits, params.task, params.data_seed)}
    write_text(Path("evaluation/baselines", f"{test_set}.json"), json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
