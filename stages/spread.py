"""Stage `spread` of ablation/dvc.yaml: how much the F1 of a training vary with its seed, under metrics/spread.json."""

import json
from pathlib import Path
from statistics import stdev

from pipeline.errors import DataError
from pipeline.params import load_params
from pipeline.runtime.files import write_text
from stages.command import run_stage


def main() -> None:
    """Write the standard deviation, of a sample, of each F1 in 0..1; null where the test set has no ground truth."""
    seeds = load_params().presets.seeds
    if len(seeds) < 2:
        raise DataError(f"presets.seeds: expected 2 or more, whose F1 are to be compared, got {list(seeds)}")
    runs = [json.loads(Path(f"models/ablation/seeds/{seed}/scores.json").read_text()) for seed in seeds]
    spread = {
        name: {key: None if value is None else stdev(run[name][key] for run in runs) for key, value in scores.items()}
        for name, scores in runs[0].items()
    }
    write_text(Path("metrics/spread.json"), json.dumps(spread, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
