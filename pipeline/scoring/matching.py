"""Which found axes and centres are right beside the marked ones: the rule of the SDRW competition (CVPR 2013).

docs/evaluation.md says the rules and their sources. Coordinates: x right, y down, pixels of the image.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.params.choices import Task

ANGLE = 10.0  # degrees
DISTANCE = 0.2  # of the shorter of the two segments, from the middle of the found one to the marked one
NEAR = 0.025  # of the image's longer side, from a found centre to a marked one

Found = Sequence[DetectedAxis] | Sequence[DetectedCentre]
Marked = Sequence[ReflectionAxis] | Sequence[RotationCentre]


@dataclass(frozen=True)
class Matches:
    """Of one image: `scores` of what was found, float [N]; `right`: bool [N, M], about which of the M marked ones."""

    scores: np.ndarray
    right: np.ndarray

    @property
    def marked(self) -> int:
        """How many are to be found."""
        return self.right.shape[1]

    @property
    def best_is_right(self) -> bool:
        """Whether the one with the best score is right about any; the first of equals."""
        return bool(len(self.scores)) and bool(self.right[self.scores.argmax()].any())


@dataclass(frozen=True)
class LevelCounts:
    """Sums over images at each level that a score may be held to: the scores themselves, rising.

    `hits`: marked ones about which something with this score or more is right; `wrong`: found ones that are right about
    none; int [levels]. `marked`: how many are to be found.
    """

    levels: np.ndarray
    hits: np.ndarray
    wrong: np.ndarray
    marked: int

    @property
    def f1(self) -> np.ndarray:
        """float [levels], in 0..1: precision is hits / (hits + wrong), recall is hits / marked."""
        return 2 * self.hits / np.maximum(1, self.hits + self.wrong + self.marked)

    @property
    def best(self) -> tuple[float, float]:
        """The least level with the best F1, and that F1; (1, 0) where nothing is right."""
        f1 = self.f1
        return (float(self.levels[f1.argmax()]), float(f1.max())) if f1.any() else (1.0, 0.0)

    def f1_at(self, threshold: float) -> float:
        """The F1 of what has a score of `threshold` or more."""
        at = int(np.searchsorted(self.levels, threshold))
        return float(self.f1[at]) if at < len(self.levels) else 0.0


def ground_truth(annotation: Annotation, task: Task) -> Marked:
    """What is to be found for the task; discs, which have an axis at every angle, are left out."""
    return annotation.axes if task == "reflection" else annotation.centres


def axis_is_right(found: DetectedAxis, marked: ReflectionAxis) -> bool:
    """Whether the angle and the place of a found axis agree with a marked one."""
    a, b, c, d = (
        np.array(p)
        for p in ((found.x1, found.y1), (found.x2, found.y2), (marked.x1, marked.y1), (marked.x2, marked.y2))
    )
    u, v = b - a, d - c
    lengths = np.hypot(*u), np.hypot(*v)
    if min(lengths) == 0:
        return False
    angle = math.degrees(math.acos(min(1.0, abs(u @ v) / (lengths[0] * lengths[1]))))
    middle = (a + b) / 2
    nearest = c + np.clip((middle - c) @ v / (v @ v), 0, 1) * v
    return bool(angle < ANGLE and math.dist(middle, nearest) < DISTANCE * min(lengths))


def centre_is_right(found: DetectedCentre, marked: RotationCentre, side: float) -> bool:
    """Whether a found centre lies near a marked one, in an image whose longer side has `side` pixels."""
    return math.dist((found.x, found.y), (marked.x, marked.y)) < NEAR * side


def matches(found: Found, marked: Marked, side: float) -> Matches:
    """What was found in an image whose longer side has `side` pixels, beside all that is marked in it."""
    right = [[_is_right(f, m, side) for m in marked] for f in found]
    return Matches(np.array([f.score for f in found], float), np.array(right, bool).reshape(len(found), len(marked)))


def level_counts(images: Iterable[Matches]) -> LevelCounts:
    """The counts of all these images.

    A marked one is found when any found one is right about it; several right ones of the same are not wrong.
    """
    some = list(images)
    scores = np.concatenate([np.empty(0), *(image.scores for image in some)])
    bad = np.concatenate([np.empty(0, bool), *(~image.right.any(axis=1) for image in some)])
    found = [np.where(image.right, image.scores[:, None], -np.inf).max(axis=0, initial=-np.inf) for image in some]
    hits = np.concatenate([np.empty(0), *found])  # of each marked one the best score that is right about it
    levels = np.unique(scores)
    return LevelCounts(levels, _at_least(hits, levels), _at_least(scores[bad], levels), len(hits))


def best_threshold(pairs: Iterable[tuple[Found, Marked, float]]) -> tuple[float, float]:
    """The least score with the best F1 over all images, and that F1 in 0..1; (1, 0) where nothing is right.

    `pairs`: of each image what was found, what is marked, and the longer side in pixels.
    """
    return level_counts(matches(*pair) for pair in pairs).best


def _at_least(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """int [levels]: how many scores are at each level or above."""
    return len(scores) - np.searchsorted(np.sort(scores), levels, side="left")


def _is_right(found: DetectedAxis | DetectedCentre, marked: Any, side: float) -> bool:
    if isinstance(found, DetectedAxis):
        return axis_is_right(found, marked)
    return centre_is_right(found, marked, side)
