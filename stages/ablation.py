"""Stage `ablation`, and those of ablation/dvc.yaml: one cell, trained and tested on DENDI.

`python -m stages.ablation PRESET/CELL key=value ...` works with these values in params.yaml's place, and leaves the
model and its scores under models/ablation/PRESET/CELL.
"""

import json
from pathlib import Path

from pipeline.data.packed.split import packed_splits
from pipeline.evaluation.cells import cell_scores, short
from pipeline.model.base import best_device
from pipeline.model.checkpoint import load_model
from pipeline.params import load_params
from pipeline.params.changes import read_yaml
from pipeline.processes import evaluation_shard
from pipeline.runtime.files import write_text
from pipeline.training.loop import train
from stages.command import run_stage


def main(cell: str, *changes: str) -> None:
    """Train the cell and write its scores; F1 in 0..1."""
    params = short(load_params(changes=changes))
    folder, packed = Path("models/ablation") / cell, Path("data/packed/ablation")
    training, validation, test = (
        packed_splits(packed, params.train.datasets, split, params.task) for split in ("train", "val", "test")
    )
    best = train(params, training, validation, folder)
    if evaluation_shard().rank:  # scoring takes seconds: the first process does it
        return
    model, _ = load_model(folder / "model.safetensors")
    threshold = best.thresholds["dendi"]
    scores = {
        "changes": {key: read_yaml(value) for key, _, value in (change.partition("=") for change in changes)},
        "task": params.task,
        **cell_scores(model.to(best_device()), test, params.train.batch, threshold, params.seed),
        "validation_f1": best.validation_f1,
        "epoch": best.epoch,
    }
    write_text(folder / "scores.json", json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
