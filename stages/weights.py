"""Stage `weights` of weights/dvc.yaml: a model for one task, trained on its composites, under models/weights/TASK."""

from pathlib import Path

from pipeline.packing import packed_splits
from pipeline.params import load_params
from pipeline.training import train
from stages.command import run_stage


def main(task: str, *changes: str) -> None:
    """Train on data/packed/synthetic/TASK with some values in params.yaml's place."""
    params, packed = load_params(changes=[f"task={task}", *changes]), Path("data/packed/synthetic") / task
    training, validation = (packed_splits(packed, params.train.datasets, s, task) for s in ("train", "val"))
    train(params, training, validation, Path("models/weights") / task)


if __name__ == "__main__":
    run_stage(main)
