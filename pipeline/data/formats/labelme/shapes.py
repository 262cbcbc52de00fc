"""LabelMe JSON: shapes drawn on one image, as LabelMe and tools after its example write them."""

import base64
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.annotations import Annotation, Point, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.data.reading.files import point, read_json
from pipeline.data.reading.images import FORMATS
from pipeline.data.reading.pairing import image_path
from pipeline.errors import DataError

UNKNOWN_FOLD = 1
LINES = ("line", "linestrip")
FOLD = re.compile(r"[cd]?[ _-]?\d{1,4}")  # a label that is a fold and nothing else: 5, C5, D_5


@dataclass(frozen=True)
class Drawing:
    """What one file holds.

    `annotation`: the symmetry marks; `image`: what it calls its image, without folders, or empty; `size`: that image's
    width and height in pixels, None where the file does not tell; `left_out`: the other shapes, in words.
    """

    annotation: Annotation
    image: str
    size: tuple[int, int] | None
    left_out: tuple[str, ...]


def read_drawing(path: Path, labels: Collection[str]) -> Drawing:
    """What one file holds. Raises DataError, which names the file and the shape.

    line, linestrip: reflection axes, one between each two points. circle (centre, a point of its edge), rectangle and
    oriented rectangle (the ellipse inside), polygon of 4 points (top, bottom, left, right of an ellipse) or 5 (its
    centre first): a disc. point: a rotation centre, its fold the first number in the label (`rotation 5`; 0: by any
    angle; without a number the fold is not known).

    A mark's label is one of `labels`, or begins with one, whatever the capitals; where none are given, every label is.
    A line needs no word, a point no more than its fold. Other shapes are left out.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{path}: expected LabelMe JSON with a list `shapes`")
    axes, discs, centres, left_out = [], [], [], []
    for number, shape in enumerate(content["shapes"]):
        try:
            kind, label = shape.get("shape_type") or "line", shape.get("label")
            if not _is_mark(label, kind, labels):
                left_out.append(f"{label!r} ({kind})")
                continue
            points = [point(pair) for pair in shape["points"]]
            if kind in LINES:
                if len(points) < 2:
                    raise ValueError(f"expected two points or more, got {len(points)}")
                axes += [ReflectionAxis(*start, *end) for start, end in zip(points, points[1:])]
            elif kind == "point":
                centres.append(RotationCentre(*points[0], fold=_fold(label)))
            elif ellipse := _ellipse(kind, points):
                discs.append(ReflectionDisc(ellipse))
            else:
                left_out.append(f"{label!r} ({kind})")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(f"{path}: shape {number}: {error!r}") from None
    annotation = Annotation(tuple(axes), tuple(discs), tuple(centres))
    return Drawing(annotation, image_path(content).name, size(content), tuple(left_out))


def size(content: dict) -> tuple[int, int] | None:
    """Width and height in pixels of the image that was drawn on; None where a file does not tell."""
    width, height = _side(content.get("imageWidth")), _side(content.get("imageHeight"))
    return (width, height) if width and height else _embedded_size(content.get("imageData"))


def _side(told: Any) -> int | None:
    """A whole number of pixels, as a number or, by some tools, as text; None for anything else."""
    try:
        side = float(told) if type(told) in (int, float, str) else 0
        return int(side) if side >= 1 and side == int(side) else None
    except (ValueError, OverflowError):
        return None


def _embedded_size(data: Any) -> tuple[int, int] | None:
    """Width and height of the image that lies in a file itself, in base64: early LabelMe tells the size by it alone."""
    try:
        with Image.open(BytesIO(base64.b64decode(data)), formats=FORMATS) as image:
            return image.size
    except Exception:  # of a dozen kinds for what is no image
        return None


def content(annotation: Annotation, image: str, height: int, width: int) -> dict:
    """LabelMe's JSON of an annotation of the image file `image`; `read_drawing` is the inverse."""

    def shape(kind: str, label: str, *points: Point) -> dict:
        return {"label": label, "shape_type": kind, "points": [list(pair) for pair in points], "flags": {}}

    shapes = [shape("line", "axis", (axis.x1, axis.y1), (axis.x2, axis.y2)) for axis in annotation.axes]
    shapes += [shape("polygon", "disc", *disc.points) for disc in annotation.discs]
    shapes += [shape("point", f"rotation {centre.fold}", (centre.x, centre.y)) for centre in annotation.centres]
    return {
        "version": "5.5.0", "flags": {}, "shapes": shapes,
        "imagePath": image, "imageData": None, "imageHeight": height, "imageWidth": width,
    }  # fmt: skip


def _is_mark(label: object, kind: str, labels: Collection[str]) -> bool:
    """Whether a shape of this kind with this label is meant as a symmetry mark."""
    text = "" if label is None else str(label).strip().casefold()
    if not labels:
        return True
    if FOLD.fullmatch(text) or not text:  # numbered axes, bare folds; a numbered box may be anything
        return kind in (*LINES, "point")
    word = re.search(r"[^\W\d_]+", text)
    return not {text, word and word.group()}.isdisjoint(label.casefold() for label in labels)


def _fold(label: object) -> int:
    digits = re.search(r"\d{1,4}", str(label))
    return int(digits.group()) if digits else UNKNOWN_FOLD


def _ellipse(kind: str, points: list[Point]) -> tuple[Point, ...] | None:
    """The points of a ReflectionDisc: centre, top, bottom, left, right; None for a shape that is no ellipse."""
    if kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        return (x, y), (x, y - radius), (x, y + radius), (x - radius, y), (x + radius, y)
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    if kind in ("rectangle", "oriented_rectangle", "rotation") and len(points) == 4:
        middles = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in zip(points, points[1:] + points[:1])]
        top, right, bottom, left = middles
        return top, bottom, left, right
    if kind == "polygon" and len(points) in (4, 5) and _cross(*points[-4:]):
        return tuple(points)
    return None


def _cross(top: Point, bottom: Point, left: Point, right: Point) -> bool:
    """Whether the segments between opposite ends of an ellipse meet; in an outline, the four follow one another."""

    def side(a: Point, b: Point, p: Point) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    return (
        side(top, bottom, left) * side(top, bottom, right) <= 0
        and side(left, right, top) * side(left, right, bottom) <= 0
    )
