"""Stage `synthesize` of weights/dvc.yaml: composites of `synthetic.photographs` for one task, packed for training.

`python -m stages.synthesize NAME TASK key=value ...` works with these values in params.yaml's place.
"""

import os
from pathlib import Path

from pipeline.data.formats.labelme import own
from pipeline.data.packed.split import SUFFIX
from pipeline.data.preparation.prepare import pack
from pipeline.data.synthesis.synthetic import generate, read_marks, read_photographs
from pipeline.params import load_params
from pipeline.params.project import located
from pipeline.runtime.files import atomic_folder
from stages.command import run_stage

SPLITS = "train", "val"
VALIDATION_IMAGES = 400
VALIDATION_BARE = 0.5  # of them whole photographs, in which nothing counts: by them thresholds know false alarms


def main(name: str, task: str, *changes: str) -> None:
    """Leave images with their marks and packed splits under data/synthetic/NAME."""
    params = load_params(changes=[f"task={task}", *changes])
    size, folder = params.chosen.input_size, Path("data/synthetic") / name
    parts = read_photographs(located(params.synthetic.photographs))
    marks = params.synthetic.marks
    known = read_marks(located(marks), parts[0], params.synthetic.least) if marks else None
    counts, backdrops = (params.synthetic.images, VALIDATION_IMAGES), (known, None)  # validation by geometry alone
    bare = params.synthetic.whole if known else 0.0, VALIDATION_BARE
    with atomic_folder(folder / "images") as part:
        for split, named, count, share, some in zip(SPLITS, parts, counts, bare, backdrops):
            (part / split).mkdir()
            generate([*named.values()], part / split, task, count, size, params.data_seed, os.cpu_count(), share, some)
    with atomic_folder(folder / "packed" / "own") as packed:
        for split in SPLITS:
            pack(
                own.samples(folder / "images", [], split, task, ()),
                task,
                size,
                packed / f"{split}{SUFFIX}",
                f"{name} {split}",
            )


if __name__ == "__main__":
    run_stage(main)
