"""Stage `train`: a model of the chosen parameters, under models/main."""

from pathlib import Path

from pipeline.data.packed.split import packed_splits
from pipeline.params import load_params
from pipeline.scoring.threshold import detection_threshold
from pipeline.training.loop import train
from stages.command import run_stage


def main() -> None:
    """Train on the packed training splits; choose the best epoch and the threshold of detection on validation."""
    params, packed = load_params(), Path("data/packed/model")
    training, validation = (packed_splits(packed, params.train.datasets, s, params.task) for s in ("train", "val"))
    train(params, training, validation, Path("models/main"), detection_threshold)


if __name__ == "__main__":
    run_stage(main)
