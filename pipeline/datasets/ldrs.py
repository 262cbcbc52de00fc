"""LDRS: reflection axes of landscapes and objects, one LabelMe JSON an image."""

import json
from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.errors import DataError


def samples(root: Path, split: str) -> list[Sample]:
    """The images of `split` (train, val, test); `root` holds `LDRS/SPLIT/NAME.json` and `NAME.jpg`."""
    folder = root / "LDRS" / split
    annotations = sorted(folder.glob("*.json"))
    if not annotations:
        raise DataError(f"{folder}: expected NAME.json and NAME.jpg files, found none")
    return [_sample(path) for path in annotations]


def _sample(path: Path) -> Sample:
    try:
        segments = [shape["points"] for shape in json.loads(path.read_text())["shapes"]]
        axes = tuple(ReflectionAxis(*map(float, start), *map(float, end)) for start, end in segments)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected LabelMe JSON, shapes of two points each, got {error!r}") from None
    return Sample(name=path.stem, image=path.with_suffix(".jpg"), annotation=Annotation(axes=axes))
