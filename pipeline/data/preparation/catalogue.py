"""The data sets by name, and which of their images serve which split."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipeline.annotations import Sample
from pipeline.data.formats import dendi, photos
from pipeline.data.formats.labelme import ldrs, own
from pipeline.data.formats.matlab import nyu, sdrw
from pipeline.data.reading.files import pictures
from pipeline.data.reading.findings import Finding
from pipeline.params.choices import Dataset, Task, Validation

SPLITS = {
    "dendi": ("train", "val", "test"),
    "sdrw": ("train", "val", "test"),
    "ldrs": ("train", "val", "test"),
    "nyu": ("train",),
    "photos": ("test",),
    "own": own.SPLITS,
}
ROTATION_SETS = ("dendi", "photos", "own")  # the others mark reflection axes only
UNCLIPPED = ("sdrw", "ldrs", "nyu")  # whose released loader does not clip the training targets
HELD_OUT = 0.15  # share of SDRW's training images


def read(
    dataset: Dataset,
    root: Path,
    task: Task,
    split: str,
    sdrw_validation: Validation,
    seed: int,
    findings: list[Finding],
    labels: Collection[str] = (),
) -> list[Sample]:
    """The samples of one split; empty where the data set has no such split or no marks for the task.

    SDRW has no validation images. `held_out` sets a seeded share of its training images apart; `released` takes the
    test images, as the released code does (a leak, kept for comparison). `labels`: of the symmetry marks in own data;
    all where there is none. What is malformed becomes a fault in
    `findings`; raises pipeline.errors.DataError where the split itself cannot be read.
    """
    if split not in SPLITS[dataset] or (task == "rotation" and dataset not in ROTATION_SETS):
        return []
    if dataset == "dendi":
        return dendi.samples(root, task, split, findings)
    if dataset == "sdrw":
        return _sdrw(root, split, sdrw_validation, seed, findings)
    if dataset == "photos":
        return photos.samples(root, task)
    if dataset == "nyu":
        return nyu.samples(root, findings)
    if dataset == "ldrs":
        return ldrs.samples(root, split, findings)
    return own.samples(root, split, labels, findings)


def strays(root: Path, used: set[Path]) -> list[Finding]:
    """A note on each image under `root` that is not among the `used` ones."""
    return [
        Finding("note", "image in no split", f"{path}: no annotation of this task names it")
        for path in pictures(root, []) if path not in used
    ]  # fmt: skip


def _sdrw(root: Path, split: str, validation: Validation, seed: int, findings: list[Finding]) -> list[Sample]:
    if split == "test" or (split == "val" and validation == "released"):
        return sdrw.samples(root, "test", findings)
    found: list[Finding] = []
    training = sdrw.samples(root, "train", found)
    if validation == "held_out":
        apart = set(np.random.default_rng(seed).permutation(len(training))[: max(1, round(HELD_OUT * len(training)))])
        training = [sample for number, sample in enumerate(training) if (number in apart) == (split == "val")]
    images = {str(sample.image) for sample in training}
    findings += [f for f in found if f.image in images or (split == "train" and not f.image)]
    return training
