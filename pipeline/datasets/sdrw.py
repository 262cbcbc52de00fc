"""SDRW (CVPR 2013 symmetry competition): images with one or several reflection axes, marked in .mat files."""

from pathlib import Path

import numpy as np

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.datasets.matlab import read_matlab, segments
from pipeline.errors import DataError


def samples(root: Path, split: str) -> list[Sample]:
    """The images of `split`: `train` (the competition's training images) or `test`; `root` holds `SDRW/`."""
    if split == "train":
        return [s for kind in ("single", "multiple") for s in _training(root / "SDRW" / "reflection_training", kind)]
    return _testing(root / "SDRW")


def _training(folder: Path, kind: str) -> list[Sample]:
    path = folder / f"{kind}GT_training" / f"{kind}GT_training.mat"
    truth = read_matlab(path).get("gt")
    entries = list(np.atleast_1d(truth))
    if not entries or not all(isinstance(e, dict) and {"name", "ax"} <= e.keys() for e in entries):
        raise DataError(f"{path}: expected a struct array `gt` with the fields `name` and `ax`")
    images = folder / f"{kind}_training"
    return _samples(path, images, kind, [(str(entry["name"]), segments(path, entry["ax"])) for entry in entries])


def _testing(folder: Path) -> list[Sample]:
    path = folder / "reflectionTestGt2013.mat"
    truth, found = read_matlab(path), []
    for kind, key in (("single", "gtS"), ("multiple", "gtM")):
        if not isinstance(truth.get(key), dict) or len(truth[key]) < 2:
            raise DataError(f"{path}: expected a struct `{key}` of names and segments")
        names, marks = list(truth[key].values())[:2]
        names, marks = list(np.atleast_1d(names)), segments(path, marks)
        if len(names) != len(marks):
            raise DataError(f"{path}: `{key}` holds {len(names)} names but {len(marks)} segments")
        images = folder / "reflection_testing" / f"{kind}_testing"
        found += _samples(path, images, kind, [(str(name), [mark]) for name, mark in zip(names, marks)])
    return found


def _samples(path: Path, folder: Path, kind: str, marks: list[tuple[str, list[list[float]]]]) -> list[Sample]:
    """One sample an image; the marks of a name that repeats add up."""
    axes: dict[Path, list[ReflectionAxis]] = {}
    for name, rows in marks:
        axes.setdefault(_locate(path, folder, name.strip()), []).extend(ReflectionAxis(*row) for row in rows)
    return [Sample(f"{kind}-{image.stem}", image, Annotation(axes=tuple(found))) for image, found in axes.items()]


def _locate(path: Path, folder: Path, name: str) -> Path:
    """The image that the ground truth calls `name`; by its stem when that file is missing (wrong extensions occur)."""
    if (folder / name).is_file():
        return folder / name
    twins = sorted(file for file in folder.glob("*") if file.stem.strip() == Path(name).stem.strip())
    if len(twins) != 1:
        raise DataError(f"{path}: names {name!r}, but {folder} holds {len(twins)} images of that stem (expected 1)")
    return twins[0]
