"""Stage `evaluate`: the trained model on one test set; F1 under metrics/, all else under evaluation/."""

import json
import logging
from functools import reduce
from operator import add
from pathlib import Path

from PIL import Image

from pipeline.data.packed.split import packed_splits
from pipeline.evaluation.evaluate import evaluate
from pipeline.figures.pictures import contact_sheet, save_curve
from pipeline.model.checkpoint import load_model
from pipeline.model.clipsym import best_device
from pipeline.params import load_params
from pipeline.processes import evaluation_shard, gathered
from pipeline.runtime.files import atomic_folder, write_text
from pipeline.scoring.sets import TEST_SETS
from stages.command import run_stage

logger = logging.getLogger(__name__)


def main(test_set: str) -> None:
    """Score one of dendi, sdrw, ldrs, mixed (SDRW and LDRS), photos and own; the first process writes."""
    params = load_params()
    model, record = load_model(Path("models/main/model.safetensors"))
    splits = packed_splits(Path("data/packed/model"), TEST_SETS[test_set], "test", params.task)
    shard = evaluation_shard()
    parts = gathered(
        evaluate(model.to(best_device()), splits, params.train.batch, params.evaluate.gallery, params.seed, shard)
    )
    if shard.rank:
        return
    found = reduce(add, parts)
    summary = found.summary(record.thresholds[test_set])
    if summary["max_f1"] is None:
        logger.info("%s: no ground truth for task %s, so that there is no F1", test_set, params.task)
    with atomic_folder(Path("evaluation") / test_set) as folder:
        (folder / "gallery").mkdir()
        found.curve().to_csv(folder / "pr.csv", index=False)
        save_curve(found.curve(), folder / "pr.png", f"{test_set}, {params.task}")
        for name, picture in found.pictures.items():
            Image.fromarray(picture).save(folder / "gallery" / f"{name}.png")
        contact_sheet(list(found.pictures.values()), height=200, width=1200).save(folder / "gallery.png")
        (folder / "summary.json").write_text(json.dumps({params.task: summary}, indent=2) + "\n")
    figures = {"max_f1": summary["max_f1"], "f1": summary.get("f1_at_validation_threshold")}
    write_text(Path("metrics") / f"{test_set}.json", json.dumps({test_set: figures}, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
