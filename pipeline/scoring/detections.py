"""The scores of axes and centres found in images: records that add up over a data set, and what they come to.

docs/evaluation.md says what each score means. Coordinates: x right, y down, pixels of the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import numpy as np

from pipeline.annotations import Annotation, Point, RotationCentre
from pipeline.data.packed.targets import mask
from pipeline.detection.axes import DetectedAxis, find_axes
from pipeline.detection.centres import DetectedCentre, find_centres
from pipeline.geometry import Letterbox
from pipeline.params.choices import Task
from pipeline.scoring.average_precision import LIMITS, SIDE, Ranked, average_precisions, axes_ranked, centres_ranked
from pipeline.scoring.folds import Told, confusion, told_of_found
from pipeline.scoring.matching import Found, Matches, ground_truth, level_counts, matches

ORDERS = "released", "by_score"  # in which the predictions of an image are gone through for sAP
LETTERBOX = 511  # pixels of the square that the released code letterboxes into, before all is scaled to SIDE
LAST = SIDE - 0.5  # its map has 256 pixels, of which the last lies here
NO_FOLD = -1


@dataclass(frozen=True)
class ImageScores:
    """Of one image: what is right by the competition's rule, and for sAP, in each of ORDERS.

    `folds`: likewise where the fold of a centre must be the marked one, too; `tells_folds`: whether any found centre
    has one. None: the image does not count. `told`: of the marked centres that were found, the folds; `told_at_marks`:
    of all, looked at where they are marked.
    """

    matches: Matches
    sap: tuple[Ranked | None, ...]
    folds: tuple[Ranked | None, ...] = ()
    tells_folds: bool = False
    told: Sequence[Told] = ()
    told_at_marks: Sequence[Told] = ()


@dataclass(frozen=True)
class DetectionScores:
    """What was found in the images of a set, by the number of the image, beside what is marked there, of one task."""

    each: dict[int, ImageScores]

    def __add__(self, other: "DetectionScores") -> "DetectionScores":
        """The scores of both shards together."""
        return DetectionScores(self.each | other.each)

    def summary(self, threshold: float | None) -> dict[str, Any]:
        """The numbers of the report, in 0..1 but for the counts `marked` and `found`; None where nothing is marked.

        `threshold`: the score from which the model reports an axis or centre, for `f1`; None: no `f1`. `sap` and
        `fold_sap` hold each of ORDERS, and in it each of LIMITS; there is a `fold_sap` only where the fold of any
        centre was told, and then `folds`, with the `confusion` of those found and, where it is known, of those looked
        at where they are marked.
        """
        some = [self.each[number] for number in sorted(self.each)]
        counts = level_counts(image.matches for image in some)
        (level, best), known = counts.best, counts.marked > 0
        shares = [image.matches.best_is_right for image in some if image.matches.marked]
        summary: dict[str, Any] = {
            "marked": counts.marked,
            "found": sum(len(image.matches.scores) for image in some),
            "max_f1": best if known else None,
            "max_f1_score": level if known else None,
            "f1": counts.f1_at(threshold) if known and threshold is not None else None,
            "detection_threshold": threshold,
            "top1": sum(shares) / len(shares) if known else None,
            "sap": _by_order([image.sap for image in some]),
        }
        if any(image.tells_folds or image.told_at_marks for image in some):
            summary["fold_sap"] = _by_order([image.folds for image in some])
            places = {"found": [image.told for image in some], "at marks": [image.told_at_marks for image in some]}
            summary["folds"] = {place: confusion(chain(*told)) for place, told in places.items() if any(told)}
        return summary


def found_in(heat_map: np.ndarray, task: Task) -> Found:
    """What `symmetry detect` finds in a heat map, float [H, W] in 0..1, whatever its score."""
    return find_axes(heat_map) if task == "reflection" else find_centres(heat_map)


def heat_map_scores(heat_map: np.ndarray, annotation: Annotation, task: Task) -> ImageScores:
    """The scores of what is found in a heat map, float [H, W] in 0..1 at the image's size."""
    return found_scores(found_in(heat_map, task), annotation, task, *heat_map.shape)


def found_scores(found: Found, annotation: Annotation, task: Task, height: int, width: int) -> ImageScores:
    """The scores of what was found in one image of this size, in pixels, gone through in the order of AxisSym's map."""
    return image_scores(_raster(found, height, width), annotation, task, height, width)


def image_scores(found: Found, annotation: Annotation, task: Task, height: int, width: int) -> ImageScores:
    """The scores of what was found in one image of this size, in pixels; the order of `found` is the released one."""
    matched = matches(found, ground_truth(annotation, task), max(height, width))
    orders = np.arange(len(found)), np.argsort(-matched.scores, kind="stable")
    places = _in_square([_points(mark) for mark in found], task, height, width)
    if task == "reflection":
        truth = _in_square([_points(axis) for axis in annotation.axes], task, height, width)
        discs = _discs(annotation, height, width)
        return ImageScores(matched, tuple(axes_ranked(places[o], matched.scores[o], truth, *discs) for o in orders))
    kept = [centre for centre in annotation.centres if centre.fold != 7 and centre.fold <= 8]  # as the released loader
    truth = _in_square([_points(centre) for centre in kept], task, height, width)
    folds = np.array([getattr(centre, "fold", None) for centre in found])
    told = np.array([NO_FOLD if fold is None else fold for fold in folds], int)
    marked = np.array([centre.fold for centre in kept], int)
    return ImageScores(
        matched,
        tuple(centres_ranked(places[o], matched.scores[o], truth) for o in orders),
        tuple(centres_ranked(places[o], matched.scores[o], truth, (told[o], marked)) for o in orders),
        bool((told != NO_FOLD).any()),
        told_of_found(cast(Sequence[DetectedCentre], found), annotation.centres, matched),
    )


def _raster(found: Found, height: int, width: int) -> Found:
    """What was found in the order in which AxisSym reads its map of 256 x 256 pixels: row by row, by the middles."""
    move = _to_square(height, width)

    def place(mark: DetectedAxis | DetectedCentre) -> tuple[int, int]:
        x, y = np.mean([move(*point) for point in _points(mark)], axis=0)
        return round(2 * y), round(2 * x)

    return sorted(found, key=place)


def _by_order(images: Sequence[tuple[Ranked | None, ...]]) -> dict[str, dict[str, float] | None]:
    """{order: {threshold: sAP}} over the images that count."""
    found: dict[str, dict[str, float] | None] = {}
    for number, order in enumerate(ORDERS):
        areas = average_precisions(ranked for image in images if (ranked := image[number]) is not None)
        found[order] = None if areas is None else {str(limit): area for limit, area in zip(LIMITS, areas)}
    return found


def _points(mark: Any) -> tuple[Point, ...]:
    """The ends of an axis, or the one point of a centre."""
    if isinstance(mark, DetectedCentre | RotationCentre):
        return ((mark.x, mark.y),)
    return (mark.x1, mark.y1), (mark.x2, mark.y2)


def _to_square(height: int, width: int) -> Callable[[float, float], Point]:
    """What moves x, y of an image into the square of SIDE pixels."""
    box = Letterbox(height, width, LETTERBOX)
    (rows, columns), (top, left), scale = box.content, box.offset, SIDE / LETTERBOX
    return lambda x, y: (scale * (x / width * columns + left), scale * (y / height * rows + top))


def _in_square(marks: Sequence[Sequence[Point]], task: Task, height: int, width: int) -> np.ndarray:
    """float32 [N, 2 ends, (y, x)] of axes, [N, (y, x)] of centres, in the square; what lies beyond is at its edge."""
    move, shape = _to_square(height, width), (-1, 2, 2) if task == "reflection" else (-1, 2)
    places = [move(*point)[::-1] for points in marks for point in points]
    return np.clip(np.array(places, np.float32), 0, LAST).reshape(shape)


def _discs(annotation: Annotation, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """bool [SIDE, SIDE]: where discs are painted; float32 [D, (y, x)]: their middles in the square."""
    moved = Annotation(discs=annotation.discs).moved(_to_square(height, width))
    middles = [np.mean(disc.points[:1] if len(disc.points) == 5 else disc.points, axis=0) for disc in moved.discs]
    return mask(moved, "reflection", SIDE, SIDE), np.array(middles, np.float32).reshape(-1, 2)[:, ::-1]
