"""Marks that cannot be meant as they stand, mended or left out once the image's size is known.

Coordinates: x right, y down, pixels of the image. Painting truncates them, so that what lies at -1 < x < width and
-1 < y < height leaves a mark in it.
"""

from collections.abc import Iterator

from pipeline.annotations import Annotation, Point, ReflectionAxis, Sample
from pipeline.data.reading.images import LYING, UPRIGHT, Photograph
from pipeline.errors import DataError

Size = tuple[int, int]  # width, height, in pixels
Change = tuple[str, str]  # a sort of repair, and its detail
FAR_OUT = 0.1  # of a side: marks beyond the border by more than this are not just drawn past it
SHORTEST = 1.0  # pixels; a shorter axis has no direction


def points(annotation: Annotation) -> Iterator[Point]:
    """All points of all marks."""
    for axis in annotation.axes:
        yield axis.x1, axis.y1
        yield axis.x2, axis.y2
    for disc in annotation.discs:
        yield from disc.points
    for centre in annotation.centres:
        yield centre.x, centre.y


def outside(annotation: Annotation, width: int, height: int) -> float:
    """How far the farthest point lies beyond the border, relative to that side; 0 where all are inside."""
    return max(
        (max(-x / width, x / width - 1, -y / height, y / height - 1, 0) for x, y in points(annotation)), default=0
    )


def aligned(sample: Sample, photograph: Photograph) -> tuple[Annotation, bool, list[Change]]:
    """A sample's marks in the pixels of its photograph, whether that is to be turned by EXIF, and what was changed.

    The size that the marks were drawn on tells whether the tool turned the photograph, and how it was resized since.
    Where it is not known, or tells nothing, the photograph is turned if the marks then fit as well. Raises DataError
    where it is neither of the photograph's sizes, even resized.
    """
    height, width = photograph.pixels.shape[:2]
    stored, annotation, changes = (width, height), sample.annotation, []
    seen = (height, width) if photograph.orientation in LYING else stored
    drawn = sample.drawn or seen
    if drawn not in (seen, stored) and not _alike(drawn, seen) and not _alike(drawn, stored):
        raise DataError(
            f"{sample.image}: its marks were drawn on an image of {drawn[0]} x {drawn[1]} pixels, but it has {seen[0]} "
            f"x {seen[1]}, another aspect ratio; bring the image that was marked, or mark this one"
        )
    fits = [size for size in (seen, stored) if size == drawn] or [
        size for size in (seen, stored) if _alike(drawn, size)
    ]
    if fits[0] != drawn:
        across, down = fits[0][0] / drawn[0], fits[0][1] / drawn[1]
        annotation = annotation.moved(lambda x, y: (x * across, y * down))
        sizes = "drawn on {} x {}, the image has {} x {}".format(*drawn, *fits[0])
        changes.append(("marks scaled to the image", sizes))
    told = sample.drawn is not None and seen != stored
    turned = photograph.orientation != UPRIGHT and (
        seen in fits if told else outside(annotation, *seen) <= outside(annotation, *stored)
    )
    if turned:
        changes.append(("turned as EXIF says", f"orientation {photograph.orientation}"))
    return annotation, turned, changes


def _alike(drawn: Size, size: Size) -> bool:
    """Whether two sizes have the same aspect ratio, within the rounding of either to whole pixels."""
    return abs(drawn[0] * size[1] - drawn[1] * size[0]) <= max(sum(drawn), sum(size))


def exchanged(annotation: Annotation) -> Annotation:
    """The annotation with x and y exchanged in every point."""
    return annotation.moved(lambda x, y: (y, x))


def repaired(annotation: Annotation, width: int, height: int) -> tuple[Annotation, list[Change]]:
    """The annotation as it must be meant, and what was changed: pairs of a sort and of its detail.

    x and y are exchanged where a mark lies far outside as they stand and none when exchanged. Then axes shorter than a
    pixel, and marks of which nothing lies inside the image, are left out.
    """
    changes = []
    if outside(annotation, width, height) > FAR_OUT and outside(exchanged(annotation), width, height) == 0:
        annotation = exchanged(annotation)
        changes.append(("x and y exchanged", f"marks leave the image of {width} x {height} unless they are exchanged"))
    axes, discs, centres = [], [], []
    for axis in annotation.axes:
        (x1, y1), (x2, y2) = axis.ordered_ends()
        name = f"axis ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})"
        if max(abs(x2 - x1), abs(y2 - y1)) < SHORTEST:
            changes.append(("axis without length left out", name))
        elif not crosses(axis, width, height):
            changes.append(("mark outside the image left out", f"{name} of {width} x {height}"))
        else:
            axes.append(axis)
    for disc in annotation.discs:
        (xs, ys) = zip(*disc.polygon())
        if max(xs) <= -1 or min(xs) >= width or max(ys) <= -1 or min(ys) >= height:
            changes.append(("mark outside the image left out", f"ellipse at {disc.points[0]} of {width} x {height}"))
        else:
            discs.append(disc)
    for centre in annotation.centres:
        if -1 < centre.x < width and -1 < centre.y < height:
            centres.append(centre)
        else:
            place = f"centre ({centre.x:g}, {centre.y:g}) of {width} x {height}"
            changes.append(("mark outside the image left out", place))
    return Annotation(tuple(axes), tuple(discs), tuple(centres)), changes


def crosses(axis: ReflectionAxis, width: int, height: int) -> bool:
    """Whether any part of the segment lies within the image (Liang and Barsky's clipping)."""
    dx, dy, first, last = axis.x2 - axis.x1, axis.y2 - axis.y1, 0.0, 1.0
    for step, room in ((-dx, axis.x1 + 1), (dx, width - axis.x1), (-dy, axis.y1 + 1), (dy, height - axis.y1)):
        if step == 0:
            if room <= 0:
                return False
        elif step < 0:
            first = max(first, room / step)
        else:
            last = min(last, room / step)
    return first < last
