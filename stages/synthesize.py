"""Stage `synthesize` of weights/dvc.yaml: composites of `synthetic.photographs` for one task, packed for training.

`python -m stages.synthesize NAME TASK key=value ...` works with these values in params.yaml's place.
"""

import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.annotations import ReflectionAxis
from pipeline.datasets import own
from pipeline.datasets.backdrops import Backdrops
from pipeline.datasets.synthetic import generate, read_photographs
from pipeline.packing import SUFFIX
from pipeline.params import SyntheticParams, load_params
from pipeline.placement import placed
from pipeline.predictor import load
from pipeline.preparing import pack
from stages.command import run_stage

VALIDATION_IMAGES = 200
DOUBT = 0.8  # of the score from which a teacher is believed; below, it says that there is nothing


def main(name: str, task: str, *changes: str) -> None:
    """Leave images with their marks and packed splits under data/synthetic/NAME."""
    params = load_params(changes=[f"task={task}", *changes])
    size, folder = params.chosen.input_size, Path("data/synthetic") / name
    parts = read_photographs(params.synthetic.photographs, params.seed)
    backdrops = _sure(params.synthetic, parts[0]), None  # validation by geometry alone
    with placed(folder / "images") as part:
        counts = params.synthetic.images, VALIDATION_IMAGES
        for split, photographs, sure, count in zip(("train", "val"), parts, backdrops, counts):
            (part / split).mkdir()
            generate(photographs, part / split, task, count, size, params.seed, os.cpu_count(), sure)
    with placed(folder / "packed" / "own") as packed:
        for split in ("train", "val"):
            pack(own.samples(folder / "images", split, []), task, size, packed / f"{split}{SUFFIX}", f"{name} {split}")


def _sure(params: SyntheticParams, photographs: list[np.ndarray]) -> Backdrops | None:
    """The photographs with the axes that the teacher finds in them, without those about which it is in doubt."""
    if params.teacher is None:
        return None
    detector, shown = load("reflection", params.teacher), tqdm(photographs, desc="axes", unit="image")
    axes = [found.axes for found in detector.stream(shown, threshold=DOUBT * params.least)]
    sure = [number for number, some in enumerate(axes) if all(axis.score >= params.least for axis in some)]
    marks = [[ReflectionAxis(axis.x1, axis.y1, axis.x2, axis.y2) for axis in axes[number]] for number in sure]
    return Backdrops([photographs[number] for number in sure], marks)


if __name__ == "__main__":
    run_stage(main)
