"""NYU: training images with one (S) or several (M) reflection axes, one .mat of segments an image."""

from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.datasets.matlab import read_matlab, segments
from pipeline.errors import DataError


def samples(root: Path) -> list[Sample]:
    """All images (they serve training only); `root` holds `NYU/S` and `NYU/M`."""
    return [sample for kind in ("S", "M") for sample in _samples(root / "NYU" / kind)]


def _samples(folder: Path) -> list[Sample]:
    images = sorted(folder.glob("*.png"))
    if not images:
        raise DataError(f"{folder}: expected I001.png and so on, with .mat files beside them; found no .png")
    return [_sample(image) for image in images]


def _sample(image: Path) -> Sample:
    path = image.with_suffix(".mat")
    variables = read_matlab(path)
    if "segments" not in variables:
        raise DataError(f"{path}: expected the key `segments`, got {sorted(k for k in variables if k[0] != '_')}")
    axes = tuple(ReflectionAxis(*mark) for mark in segments(path, variables["segments"]))
    return Sample(name=f"{image.parent.name}-{image.stem}", image=image, annotation=Annotation(axes=axes))
