"""Stage `synthesize` of weights/dvc.yaml: composites of `synthetic.photographs` for one task, packed for training.

`python -m stages.synthesize NAME TASK key=value ...` works with these values in params.yaml's place.
"""

import os
from pathlib import Path

from pipeline.datasets import own
from pipeline.datasets.synthetic import generate, read_axes, read_photographs
from pipeline.packing import SUFFIX
from pipeline.params import load_params
from pipeline.placement import placed
from pipeline.preparing import pack
from stages.command import run_stage

VALIDATION_IMAGES = 200


def main(name: str, task: str, *changes: str) -> None:
    """Leave images with their marks and packed splits under data/synthetic/NAME."""
    params = load_params(changes=[f"task={task}", *changes])
    size, folder = params.chosen.input_size, Path("data/synthetic") / name
    parts = read_photographs(params.synthetic.photographs)
    axes, least = params.synthetic.axes, params.synthetic.least
    backdrops = read_axes(axes, parts[0], least) if axes else None, None  # validation by geometry alone
    with placed(folder / "images") as part:
        counts = params.synthetic.images, VALIDATION_IMAGES
        for split, photographs, sure, count in zip(("train", "val"), parts, backdrops, counts):
            (part / split).mkdir()
            generate([*photographs.values()], part / split, task, count, size, params.seed, os.cpu_count(), sure)
    with placed(folder / "packed" / "own") as packed:
        for split in ("train", "val"):
            pack(own.samples(folder / "images", split, []), task, size, packed / f"{split}{SUFFIX}", f"{name} {split}")


if __name__ == "__main__":
    run_stage(main)
