"""What is marked in a photograph.

Coordinates everywhere: x right, y down, in pixels of the native image, as floats; nothing is rounded here.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.params.choices import Task

Point = tuple[float, float]


@dataclass(frozen=True)
class ReflectionAxis:
    """A segment of a reflection axis, from (x1, y1) to (x2, y2)."""

    x1: float
    y1: float
    x2: float
    y2: float

    def ordered_ends(self) -> tuple[Point, Point]:
        """The two ends, the one further left first; in the order given where both are equally far left."""
        first, second = (self.x1, self.y1), (self.x2, self.y2)
        return (second, first) if self.x1 > self.x2 else (first, second)


@dataclass(frozen=True)
class ReflectionDisc:
    """An ellipse, which has infinitely many reflection axes (DENDI's `reflection-circle`).

    `points` holds either its top, bottom, left and right, or its centre followed by those four.
    """

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if len(self.points) not in (4, 5):
            raise ValueError(f"an ellipse takes 4 or 5 points (centre first), got {len(self.points)}")

    def polygon(self) -> list[Point]:
        """The outline as 120 vertices, by the rule that DENDI's masks were made with.

        The step angle uses the literal 3.14, and the outline turns about the polygon's centroid, as in the
        released data loader; both show in the masks.
        """
        top, bottom, left, right = self.points[-4:]
        cx, cy = self.points[0] if len(self.points) == 5 else _mean(self.points)
        width = (math.dist((cx, cy), left) + math.dist((cx, cy), right)) / 2
        height = (math.dist((cx, cy), top) + math.dist((cx, cy), bottom)) / 2
        steps = [i * 3 * 3.14 / 180 for i in range(120)]
        outline = [(cx + width * math.sin(d), cy + height * math.cos(d)) for d in steps]
        tilt = 90.0 if top[0] == bottom[0] else math.degrees(math.atan(-(bottom[1] - top[1]) / (bottom[0] - top[0])))
        return _rotate(outline, -((tilt + 180) % 180 - 90))


@dataclass(frozen=True)
class RotationCentre:
    """A centre of rotation of order `fold`: unchanged by a turn of 360 / fold degrees; 0 means by any turn."""

    x: float
    y: float
    fold: int


@dataclass(frozen=True)
class Annotation:
    """All that is marked in one image."""

    axes: tuple[ReflectionAxis, ...] = ()
    discs: tuple[ReflectionDisc, ...] = ()
    centres: tuple[RotationCentre, ...] = ()

    def serves(self, task: Task) -> bool:
        """Whether anything is marked for the task."""
        return bool(self.axes or self.discs) if task == "reflection" else bool(self.centres)

    def moved(self, move: Callable[[float, float], Point]) -> "Annotation":
        """The same marks with every point x, y at `move(x, y)`."""
        return Annotation(
            tuple(ReflectionAxis(*move(axis.x1, axis.y1), *move(axis.x2, axis.y2)) for axis in self.axes),
            tuple(ReflectionDisc(tuple(move(*point) for point in disc.points)) for disc in self.discs),
            tuple(RotationCentre(*move(centre.x, centre.y), centre.fold) for centre in self.centres),
        )

    def to_dict(self) -> dict:
        """Plain lists and numbers, ready for JSON; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, marks: dict) -> "Annotation":
        """The annotation that `to_dict` was called on."""
        discs = (tuple((float(x), float(y)) for x, y in disc["points"]) for disc in marks["discs"])
        return cls(
            axes=tuple(ReflectionAxis(**axis) for axis in marks["axes"]),
            discs=tuple(ReflectionDisc(points) for points in discs),
            centres=tuple(RotationCentre(**centre) for centre in marks["centres"]),
        )


@dataclass(frozen=True)
class Sample:
    """One image of a data set: its name (unique within the split), its file and its marks.

    `drawn`: width and height in pixels of the image that the marks were drawn on, where the annotation tells.
    """

    name: str
    image: Path
    annotation: Annotation
    drawn: tuple[int, int] | None = None


def _mean(points: tuple[Point, ...]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _rotate(polygon: list[Point], degrees: float) -> list[Point]:
    """Turn a polygon about its centroid; positive angles are anticlockwise in a frame with y up."""
    cx, cy = _centroid(polygon)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(cx + cos * (x - cx) - sin * (y - cy), cy + sin * (x - cx) + cos * (y - cy)) for x, y in polygon]


def _centroid(polygon: list[Point]) -> Point:
    """The centre of the enclosed area; of the vertices where the area is nil."""
    following = polygon[1:] + polygon[:1]
    cross = [x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(polygon, following)]
    area = sum(cross) / 2
    if area == 0:
        return _mean(tuple(polygon))
    cx = sum((a[0] + b[0]) * c for a, b, c in zip(polygon, following, cross)) / (6 * area)
    cy = sum((a[1] + b[1]) * c for a, b, c in zip(polygon, following, cross)) / (6 * area)
    return cx, cy
