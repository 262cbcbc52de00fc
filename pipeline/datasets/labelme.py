"""LabelMe JSON: shapes drawn on one image, as LabelMe and tools after its example write them."""

import math
import re
from pathlib import Path

from pipeline.annotations import Annotation, Point, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.datasets.files import point, read_json
from pipeline.errors import DataError

UNKNOWN_FOLD = 1
ALLOWED = "line, linestrip, circle, rectangle, polygon of 4 or 5 points, point"


def read_annotation(path: Path) -> Annotation:
    """The marks in one file. Raises DataError, which names the file and the shape.

    line, linestrip: reflection axes, one between each two points. circle (centre, a point of its edge), rectangle and
    oriented rectangle (the ellipse inside), polygon of 4 points (top, bottom, left, right of an ellipse) or 5 (its
    centre first): a disc. point: a rotation centre, its fold the first number in the label (`rotation 5`; 0: by any
    angle; without a number the fold is not known).
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{path}: expected LabelMe JSON with a list `shapes`")
    axes, discs, centres = [], [], []
    for number, shape in enumerate(content["shapes"]):
        try:
            points = [point(pair) for pair in shape["points"]]
            kind = shape.get("shape_type") or "line"
            if kind in ("line", "linestrip"):
                if len(points) < 2:
                    raise ValueError(f"expected two points or more, got {len(points)}")
                axes += [ReflectionAxis(*start, *end) for start, end in zip(points, points[1:])]
            elif kind == "point":
                centres.append(RotationCentre(*points[0], fold=_fold(shape["label"])))
            else:
                discs.append(ReflectionDisc(_ellipse(kind, points)))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(f"{path}: shape {number}: {error!r}") from None
    return Annotation(tuple(axes), tuple(discs), tuple(centres))


def content(annotation: Annotation, image: str, height: int, width: int) -> dict:
    """LabelMe's JSON of an annotation of the image file `image`; `read_annotation` is the inverse."""

    def shape(kind: str, label: str, *points: Point) -> dict:
        return {"label": label, "shape_type": kind, "points": [list(pair) for pair in points], "flags": {}}

    shapes = [shape("line", "axis", (axis.x1, axis.y1), (axis.x2, axis.y2)) for axis in annotation.axes]
    shapes += [shape("polygon", "disc", *disc.points) for disc in annotation.discs]
    shapes += [shape("point", f"rotation {centre.fold}", (centre.x, centre.y)) for centre in annotation.centres]
    return {
        "version": "5.5.0", "flags": {}, "shapes": shapes,
        "imagePath": image, "imageData": None, "imageHeight": height, "imageWidth": width,
    }  # fmt: skip


def _fold(label: object) -> int:
    digits = re.search(r"\d{1,4}", str(label))
    return int(digits.group()) if digits else UNKNOWN_FOLD


def _ellipse(kind: str, points: list[Point]) -> tuple[Point, ...]:
    """The points of a ReflectionDisc: centre, top, bottom, left, right. Raises ValueError for another shape."""
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
    if kind == "polygon" and len(points) in (4, 5):
        return tuple(points)
    raise ValueError(f"{kind!r} of {len(points)} points; allowed: {ALLOWED}")
