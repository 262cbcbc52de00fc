"""Stage `seeds` of ablation/dvc.yaml: the training of `train` with another seed, and its scores on each test set."""

import json
from pathlib import Path

from pipeline.data.packed.split import packed_splits
from pipeline.evaluation.evaluate import evaluate, figures
from pipeline.model.base import best_device
from pipeline.model.checkpoint import load_model
from pipeline.model.header import least_score
from pipeline.params import load_params
from pipeline.processes import evaluation_shard
from pipeline.runtime.files import write_text
from pipeline.scoring.sets import TEST_SETS
from pipeline.scoring.threshold import detection_threshold
from pipeline.training.loop import train
from stages.command import run_stage


def main(cell: str, *changes: str) -> None:
    """Write models/ablation/CELL: the model, and its scores as in metrics/, in 0..1; `changes`: like `seed=1`."""
    params, packed = load_params(changes=changes), Path("data/packed/model")
    folder = Path("models/ablation") / cell
    training, validation = (packed_splits(packed, params.train.datasets, s, params.task) for s in ("train", "val"))
    record = train(params, training, validation, folder, detection_threshold)
    if evaluation_shard().rank:  # scoring takes a minute: the first process does it
        return
    model, _ = load_model(folder / "model.safetensors")
    model, scores = model.to(best_device()), {}
    for name, datasets in TEST_SETS.items():
        splits = packed_splits(packed, datasets, "test", params.task)
        found = evaluate(model, splits, params.train.batch)
        detections = found.detections.summary(least_score(record.detection_threshold))
        scores[name] = figures(found.summary(record.threshold(name)), detections, params.task)
    write_text(folder / "scores.json", json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
