"""SDRW (CVPR 2013 symmetry competition): images with one or several reflection axes, marked in .mat files."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.data.formats.matlab.file import read_matlab, rows, segments
from pipeline.data.reading.findings import Finding
from pipeline.data.reading.pairing import locate
from pipeline.errors import DataError
from pipeline.params.choices import Task

Mark = tuple[str, object]  # an image's name in the ground truth, and segments of its axes


def samples(root: Path, findings: list[Finding], split: str, task: Task, labels: Collection[str]) -> list[Sample]:
    """The images of `split`: `train` (the competition's training images) or `test`; `root` holds `SDRW/`.

    A malformed entry of the ground truth, or one whose image is missing, becomes a fault in `findings`.
    """
    if split == "train":
        folder = root / "SDRW" / "reflection_training"
        return [sample for kind in ("single", "multiple") for sample in _training(folder, kind, findings)]
    return _testing(root / "SDRW", findings)


def axes_by_name(path: Path) -> dict[str, list[ReflectionAxis]]:
    """The axes of each image that a file of the truth names, of training or test; images need not be there.

    Raises DataError, which names the file.
    """
    try:
        marks = _training_marks(path)
    except DataError as error:
        try:
            marks = [mark for some in _testing_marks(path).values() for mark in some]
        except DataError:
            raise error from None  # the likelier one
    axes: dict[str, list[ReflectionAxis]] = {}
    for number, (name, mark) in enumerate(marks):
        if not isinstance(name, str):
            raise DataError(f"{path}: entry {number}: expected the name of an image, got {name!r}")
        axes.setdefault(name.strip(), []).extend(ReflectionAxis(*row) for row in segments(path, mark))
    return axes


def _training(folder: Path, kind: str, findings: list[Finding]) -> list[Sample]:
    path = folder / f"{kind}GT_training" / f"{kind}GT_training.mat"
    return _samples(path, folder / f"{kind}_training", kind, _training_marks(path), findings)


def _training_marks(path: Path) -> list[Mark]:
    entries = list(np.atleast_1d(read_matlab(path, ["gt"])["gt"]))
    if not entries or not all(isinstance(e, dict) and {"name", "ax"} <= e.keys() for e in entries):
        raise DataError(f"{path}: expected a struct array `gt` with the fields `name` and `ax`")
    return [(entry["name"], entry["ax"]) for entry in entries]


def _testing(folder: Path, findings: list[Finding]) -> list[Sample]:
    path, found = folder / "reflectionTestGt2013.mat", []
    for kind, marks in _testing_marks(path).items():
        images = folder / "reflection_testing" / f"{kind}_testing"
        found += _samples(path, images, kind, marks, findings)
    return found


def _testing_marks(path: Path) -> dict[str, list[Mark]]:
    truth, found = read_matlab(path, ["gtS", "gtM"]), {}
    for kind, key in (("single", "gtS"), ("multiple", "gtM")):
        if not isinstance(truth[key], dict) or len(truth[key]) < 2:
            raise DataError(f"{path}: expected a struct `{key}` of names and segments")
        names, marks = list(truth[key].values())[:2]
        names, marks = list(np.atleast_1d(names)), rows(marks)
        if len(names) != len(marks):
            raise DataError(f"{path}: `{key}` holds {len(names)} names but {len(marks)} segments")
        found[kind] = list(zip(names, marks))
    return found


def _samples(path: Path, folder: Path, kind: str, marks: list[Mark], findings: list[Finding]) -> list[Sample]:
    """One sample an image; the marks of a name that repeats add up. An image with a malformed mark is left out."""
    axes: dict[Path, list[ReflectionAxis]] = {}
    faulty: set[Path] = set()
    for number, (name, mark) in enumerate(marks):
        try:
            image = locate(folder, name, findings)
        except ValueError as error:
            findings.append(Finding("fault", "annotation without an image", f"{path}: entry {number}: {error}"))
            continue
        try:
            axes.setdefault(image, []).extend(ReflectionAxis(*row) for row in segments(path, mark))
        except DataError as error:
            findings.append(Finding("fault", "malformed annotation", f"{error} (entry {number}, {name})"))
            faulty.add(image)
    return [
        Sample(f"{kind}-{image.stem}", image, Annotation(axes=tuple(found)))
        for image, found in axes.items() if image not in faulty
    ]  # fmt: skip
