"""Backdrops of composites: crops of photographs, with those axes and centres of theirs that are known.

Coordinates: x right, y down, in pixels, pixel centres at integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from pipeline.annotations import Annotation, ReflectionAxis
from pipeline.data.synthesis.painting import Photographs, tint

Size = tuple[int, int]  # height, width, in pixels
Place = tuple[float, float, float]  # a disc: x, y, radius, in pixels

TRIES = 60  # draws of a crop before one that cuts axes is taken


@dataclass(frozen=True)
class Backdrops:
    """Photographs, and what is known to be marked in each, in its pixels; nothing by default.

    `shares`: of the people who mark a photograph, how many draw each of its axes, in 0..1; by default all.
    """

    photographs: Photographs
    marks: Sequence[Annotation] = ()
    shares: Sequence[Sequence[float]] = ()

    def drawn(self, rng: Generator, number: int) -> Annotation:
        """What one person marks in a photograph: each axis as often as people draw it."""
        annotation = self.marks[number] if self.marks else Annotation()
        if not self.shares:
            return annotation
        shares = zip(annotation.axes, self.shares[number], strict=True)
        axes = tuple(axis for axis, share in shares if share == 1 or rng.random() < share)
        return Annotation(axes, annotation.discs, annotation.centres)


def backdrop(
    rng: Generator, backdrops: Backdrops, size: Size, share: tuple[float, float]
) -> tuple[np.ndarray, Annotation]:
    """A random crop of a photograph, float32 [height, width, 3] in [0, 1], and the known marks inside, in its pixels.

    `share`: of the photograph's shorter side. A crop that cuts no known axis is preferred.
    """
    height, width = size
    number = int(rng.integers(len(backdrops.photographs)))
    photograph = backdrops.photographs[number]
    annotation = backdrops.drawn(rng, number)
    rows, columns = photograph.shape[:2]
    for _ in range(TRIES):
        zoom = min(rows / height, columns / width) * rng.uniform(*share)
        left, top = rng.uniform(0, (columns - zoom * width, rows - zoom * height))
        moved = _cropped(annotation, left, top, zoom)
        inside = [_share_inside(axis, size) for axis in moved.axes]
        if all(part < 0.2 or part > 0.85 for part in inside):
            break
    box = left, top, left + zoom * width, top + zoom * height
    crop = Image.fromarray(photograph.squeeze()).resize((width, height), Image.Resampling.BICUBIC, box)
    crop = crop.filter(ImageFilter.GaussianBlur(max(0.0, rng.uniform(-1.5, 2))))
    pixels = np.asarray(crop, np.float32).reshape(height, width, -1) / 255
    flipped = rng.choice([-1, 1])
    if flipped < 0:
        moved = moved.moved(lambda x, y: (width - 1 - x, y))
    axes = tuple(axis for axis, part in zip(moved.axes, inside) if part > 0.6)
    centres = tuple(one for one in moved.centres if 0 <= one.x <= width - 1 and 0 <= one.y <= height - 1)
    return tint(rng, pixels[:, ::flipped]), Annotation(axes, centres=centres)


def _cropped(annotation: Annotation, left: float, top: float, zoom: float) -> Annotation:
    """A photograph's marks in the pixels of a crop, each `zoom` of the photograph's."""
    return annotation.moved(lambda x, y: ((x + 0.5 - left) / zoom - 0.5, (y + 0.5 - top) / zoom - 0.5))


def _along(axis: ReflectionAxis) -> tuple[np.ndarray, np.ndarray]:
    """x and y of points along an axis."""
    return np.linspace(axis.x1, axis.x2, 50), np.linspace(axis.y1, axis.y2, 50)


def _share_inside(axis: ReflectionAxis, size: Size) -> float:
    x, y = _along(axis)
    return float(((x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)).mean())


def uncovered(marks: Annotation, places: list[Place]) -> Annotation:
    """The axes of which objects hide a fifth at most, and the centres that none hides."""

    def hidden(x: np.ndarray | float, y: np.ndarray | float) -> float:
        return sum(float(np.mean(np.hypot(x - a, y - b) < radius)) for a, b, radius in places)

    axes = tuple(axis for axis in marks.axes if hidden(*_along(axis)) <= 0.2)
    return Annotation(axes, centres=tuple(centre for centre in marks.centres if not hidden(centre.x, centre.y)))
