"""The data sets by name, and which of their images serve which split."""

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from pipeline.annotations import Sample
from pipeline.data.reading.files import image_files
from pipeline.data.reading.findings import Finding
from pipeline.params.choices import Dataset, Task, Validation

# The module that reads a data set, by `samples(root, findings, split, task, labels)`. Imported when it is needed, so
# that a stage depends on no other reader.
READERS: dict[Dataset, str] = {
    "dendi": "pipeline.data.formats.dendi",
    "sdrw": "pipeline.data.formats.matlab.sdrw",
    "ldrs": "pipeline.data.formats.labelme.ldrs",
    "nyu": "pipeline.data.formats.matlab.nyu",
    "photos": "pipeline.data.formats.photos",
    "own": "pipeline.data.formats.labelme.own",
}
SPLITS: dict[Dataset, tuple[str, ...]] = {
    "dendi": ("train", "val", "test"),
    "sdrw": ("train", "val", "test"),
    "ldrs": ("train", "val", "test"),
    "nyu": ("train",),
    "photos": ("test",),
    "own": ("train", "val", "test"),
}
ROTATION_SETS = ("dendi", "photos", "own")  # the others mark reflection axes only
UNCLIPPED = ("sdrw", "ldrs", "nyu")  # whose released loader does not clip the training targets
HELD_OUT = 0.15  # share of SDRW's training images


def read(
    dataset: Dataset,
    root: Path,
    task: Task,
    split: str,
    sdrw_validation: Validation | None,
    seed: int | None,
    findings: list[Finding],
    labels: Collection[str] = (),
) -> list[Sample]:
    """The samples of one split; empty where the data set has no such split or no marks for the task.

    SDRW has no validation images. `held_out` sets a seeded share of its training images apart; `released` takes the
    test images, as the released code does (a leak, kept for comparison). This and the seed concern SDRW alone.
    `labels`: of the symmetry marks in own data; all where there is none. What is malformed becomes a fault in
    `findings`; raises DataError where the split itself cannot be read.
    """
    if split not in SPLITS[dataset] or (task == "rotation" and dataset not in ROTATION_SETS):
        return []
    reader = import_module(READERS[dataset])
    if dataset == "sdrw":
        return _sdrw(reader, root, split, task, sdrw_validation, seed, findings)
    return reader.samples(root, findings, split, task, labels)


def unused_images(root: Path, used: set[Path]) -> list[Finding]:
    """A note on each image under `root` that is not among the `used` ones."""
    return [
        Finding("note", "image in no split", f"{path}: no annotation of this task names it")
        for path in image_files(root, []) if path not in used
    ]  # fmt: skip


def _sdrw(
    reader: ModuleType, root: Path, split: str, task: Task, validation: Validation, seed: int, findings: list[Finding]
) -> list[Sample]:
    if split == "test" or (split == "val" and validation == "released"):
        return reader.samples(root, findings, "test", task, ())
    found: list[Finding] = []
    training = reader.samples(root, found, "train", task, ())
    if validation == "held_out":
        apart = set(np.random.default_rng(seed).permutation(len(training))[: max(1, round(HELD_OUT * len(training)))])
        training = [sample for number, sample in enumerate(training) if (number in apart) == (split == "val")]
    images = {str(sample.image) for sample in training}
    findings += [f for f in found if f.image in images or (split == "train" and not f.image)]
    return training
