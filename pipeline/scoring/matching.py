"""Detected axes and centres against marked ones (docs/method.md, Axes: the protocol of the SDRW competition).

Coordinates: x right, y down, pixels.
"""

import math
from collections.abc import Sequence

import numpy as np

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre
from pipeline.detection.axes import DetectedAxis, DetectedCentre

ANGLE = 10.0  # degrees
DISTANCE = 0.2  # of the shorter of the two segments, from the middle of the found one to the marked one
NEAR = 0.025  # of the image's longer side, from a found centre to a marked one

Found = Sequence[DetectedAxis] | Sequence[DetectedCentre]
Pair = tuple[Found, Sequence[ReflectionAxis] | Sequence[RotationCentre], float]  # found, marked, longer side


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


def best_threshold(pairs: Sequence[Pair]) -> tuple[float, float]:
    """The least score with the best F1 over all images, and that F1 in 0..1; (1, 0) where nothing is right.

    A marked one is found when any found one is right about it; several right ones of the same are not wrong.
    """
    rows = []  # score, wrong; for each marked one the best score of a right one
    hits: list[float] = []
    for found, marked, side in pairs:
        right = np.array([[_is_right(f, m, side) for m in marked] for f in found], bool)
        right = right.reshape(len(found), len(marked))  # also where nothing was found or is marked
        rows += [(f.score, not right[number].any()) for number, f in enumerate(found)]
        scores = np.array([f.score for f in found])
        hits += [float(scores[right[:, number]].max(initial=-1.0)) for number in range(len(marked))]
    best = 1.0, 0.0
    for level in sorted({score for score, _ in rows}):
        hit = sum(score >= level for score in hits)
        wrong = sum(score >= level and bad for score, bad in rows)
        f1 = 2 * hit / max(1, hit + wrong + len(hits))
        best = max(best, (level, f1), key=lambda pair: pair[1])
    return best


def marked(annotation: Annotation, task: str) -> Sequence[ReflectionAxis] | Sequence[RotationCentre]:
    """What is to be found for the task; discs, which have an axis at every angle, are left out."""
    return annotation.axes if task == "reflection" else annotation.centres


def _is_right(found: DetectedAxis | DetectedCentre, marked: ReflectionAxis | RotationCentre, side: float) -> bool:
    if isinstance(found, DetectedAxis):
        return axis_is_right(found, marked)
    return math.dist((found.x, found.y), (marked.x, marked.y)) < NEAR * side
