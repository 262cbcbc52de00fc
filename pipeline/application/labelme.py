"""Detections as LabelMe's JSON, to be corrected in labelme and trained on as own data."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.errors import DataError, said
from pipeline.inference.detection import Detection


def annotate(path: Path, image: Path, detections: Sequence[Detection]) -> None:
    """Write the axes and centres found in an image file to `path`; a shape's description tells its score.

    A centre's label tells its fold where it is known: `rotation 5`. Raises DataError where there is a file already:
    somebody may have drawn or corrected it.
    """
    axes = [axis for found in detections for axis in found.axes]
    centres = [centre for found in detections for centre in found.centres]
    annotation = Annotation(
        tuple(ReflectionAxis(*axis[:4]) for axis in axes), (),
        tuple(RotationCentre(x, y, labelme.UNKNOWN_FOLD if fold is None else fold) for x, y, _, fold in centres),
    )  # fmt: skip
    height, width = detections[0].heatmap.shape  # as labelme turns it, too
    content = labelme.content(annotation, os.path.relpath(image, path.parent), height, width)
    marks: list[DetectedAxis | DetectedCentre] = [*axes, *centres]
    for shape, mark in zip(content["shapes"], marks, strict=True):
        shape |= {"description": f"score {mark.score:.2f}", "group_id": None}
        if isinstance(mark, DetectedCentre) and mark.fold is None:
            shape["label"] = "rotation"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            _write(file, json.dumps(content, indent=2) + "\n")
    except FileExistsError:
        raise DataError(f"{path}: there already, perhaps drawn or corrected by hand; left as it is") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {said(error)}") from None


def _write(file: TextIO, text: str) -> None:
    """All or nothing: a file that is there is never written again."""
    try:
        file.write(text)
        file.flush()
    except BaseException:
        Path(file.name).unlink()
        raise
