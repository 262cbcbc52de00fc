"""Stage `evaluate`: the trained model on one test set; a few scores under metrics/, all else under evaluation/."""

import json
import logging
from functools import reduce
from operator import add
from pathlib import Path

from PIL import Image

from pipeline.data.packed.split import packed_splits
from pipeline.evaluation.evaluate import evaluate, figures, gallery
from pipeline.figures.pictures import LARGE, LINE, WIDTH, contact_sheet, save_curves
from pipeline.model.base import best_device
from pipeline.model.checkpoint import load_model
from pipeline.model.header import SHIPPED, least_score
from pipeline.params import load_params
from pipeline.processes import evaluation_shard, gathered
from pipeline.runtime.files import atomic_folder
from pipeline.scoring.sets import KINDS, PACKAGED, TEST_SETS, TRAINED
from stages.command import run_stage, write_metrics

logger = logging.getLogger(__name__)


def main(test_set: str) -> None:
    """Score one of dendi, sdrw, ldrs, mixed (SDRW and LDRS), photos and own; the first process writes.

    Beside the trained model stand the weights that come with the package, at its input size.
    """
    params, shard = load_params(), evaluation_shard()
    splits = packed_splits(Path("data/packed/model"), TEST_SETS[test_set], "test", params.task)
    device, batch = best_device(), params.train.batch
    model, record = load_model(Path("models/main/model.safetensors"))
    shipped, shipped_record = load_model(SHIPPED / f"lite_{params.task}.safetensors")
    found, beside = (reduce(add, gathered(evaluate(m.to(device), splits, batch, shard))) for m in (model, shipped))
    if shard.rank:
        return
    threshold, kind = record.threshold(test_set), KINDS[params.task]
    summary = found.summary(threshold)
    detections = found.detections.summary(least_score(record.detection_threshold))
    if summary["max_f1"] is None:
        logger.info("%s: no ground truth for task %s, so that there is no F1", test_set, params.task)
    with atomic_folder(Path("evaluation") / test_set) as folder:
        (folder / "gallery").mkdir()
        curves = {TRAINED: found.curve(), PACKAGED: beside.curve()}
        for file, curve in zip(("pr.csv", "pr_shipped.csv"), curves.values()):
            curve.to_csv(folder / file, index=False)
        save_curves(curves, folder / "pr.png", f"{test_set}, {params.task}")
        pictures = gallery(model, splits, batch, found.spread(params.evaluate.gallery, threshold))
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / "gallery" / f"{name}.png")
        contact_sheet(list(pictures.values()), LARGE + LINE, WIDTH).save(folder / "gallery.png")
        least = least_score(shipped_record.detection_threshold)
        shipped_scores = {**beside.summary(least), kind: beside.detections.summary(least)}
        both = {**summary, kind: detections, "shipped": shipped_scores}
        (folder / "summary.json").write_text(json.dumps({params.task: both}, indent=2) + "\n")
    write_metrics(test_set, {test_set: figures(summary, detections, params.task)})


if __name__ == "__main__":
    run_stage(main)
