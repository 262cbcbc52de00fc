"""Stage `weights` of weights/dvc.yaml: a model for one task, trained on composites.

`python -m stages.weights NAME key=value ...` works with these values in params.yaml's place.
"""

from pathlib import Path

from pipeline.data.packed.split import packed_splits
from pipeline.params import load_params
from pipeline.training.loop import train
from stages.command import run_stage


def main(name: str, *changes: str) -> None:
    """Train on data/synthetic/NAME; leave the model under models/weights/NAME."""
    params, packed = load_params(changes=changes), Path("data/synthetic") / name / "packed"
    training, validation = (packed_splits(packed, params.train.datasets, s, params.task) for s in ("train", "val"))
    train(params, training, validation, Path("models/weights") / name)


if __name__ == "__main__":
    run_stage(main)
