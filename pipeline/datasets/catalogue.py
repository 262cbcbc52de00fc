"""The data sets by name, and which of their images serve which split."""

from pathlib import Path

import numpy as np

from pipeline.annotations import Sample
from pipeline.datasets import dendi, ldrs, nyu, photos, sdrw
from pipeline.names import Dataset, Task, Validation

SPLITS = {
    "dendi": ("train", "val", "test"),
    "sdrw": ("train", "val", "test"),
    "ldrs": ("train", "val", "test"),
    "nyu": ("train",),
    "photos": ("test",),
}
ROTATION_SETS = ("dendi", "photos")  # the others mark reflection axes only
HELD_OUT = 0.15  # share of SDRW's training images


def read(dataset: Dataset, root: Path, task: Task, split: str, sdrw_validation: Validation, seed: int) -> list[Sample]:
    """The samples of one split; empty where the data set has no such split or no marks for the task.

    SDRW has no validation images. `held_out` sets a seeded share of its training images apart; `released` takes the
    test images, as the released code does (a leak, kept for comparison). Raises pipeline.errors.DataError.
    """
    if split not in SPLITS[dataset] or (task == "rotation" and dataset not in ROTATION_SETS):
        return []
    if dataset == "dendi":
        return dendi.samples(root, task, split)
    if dataset == "sdrw":
        return _sdrw(root, split, sdrw_validation, seed)
    if dataset == "ldrs":
        return ldrs.samples(root, split)
    return nyu.samples(root) if dataset == "nyu" else photos.samples(root, task)


def _sdrw(root: Path, split: str, validation: Validation, seed: int) -> list[Sample]:
    if split == "test" or (split == "val" and validation == "released"):
        return sdrw.samples(root, "test")
    training = sdrw.samples(root, "train")
    if validation == "released":
        return training
    apart = set(np.random.default_rng(seed).permutation(len(training))[: max(1, round(HELD_OUT * len(training)))])
    return [sample for number, sample in enumerate(training) if (number in apart) == (split == "val")]
