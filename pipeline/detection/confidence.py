"""Scores -> probabilities that what was found is right.

A heat map tells where both sides of a picture agree. What people mark depends on more: long axes near the middle of a
picture are marked, short ones aside hardly ever. A logistic regression on marked photographs weighs the three against
each other (`ship` of weights/dvc.yaml); docs/weights.md says how well it does.

Coordinates: x right, y down, pixels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre

SUREST = 0.999  # score that heat maps are taken at their word for; and of 0.001
Candidate = TypeVar("Candidate", DetectedAxis, DetectedCentre)


class Calibration(NamedTuple):
    """Of a logistic regression: what is always added, and the weights of the terms; `least`: the probability from which
    what was found is reported."""

    bias: float
    score: float
    length: float
    middle: float
    least: float


def terms(found: DetectedAxis | DetectedCentre, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """What tells whether one is right, of an image of this height and width.

    The logarithm of the odds that are its score; that of its length, 0 for a centre; and how far its middle is from the
    middle of the image. Both lengths as shares of the image's longer side.
    """
    height, width = shape[:2]
    side, score = max(height, width), min(max(found.score, 1 - SUREST), SUREST)
    if isinstance(found, DetectedCentre):
        x, y, length = found.x, found.y, 1.0
    else:
        x, y = (found.x1 + found.x2) / 2, (found.y1 + found.y2) / 2
        length = max(1.0, math.dist(found[:2], found[2:4])) / side
    away = math.dist((x, y), ((width - 1) / 2, (height - 1) / 2)) / side
    return math.log(score / (1 - score)), math.log(length), away


def calibrated(found: Sequence[Candidate], shape: tuple[int, ...], weights: Calibration) -> list[Candidate]:
    """The same, the most probable first; `score`: the probability."""
    sure = [one._replace(score=_probability(terms(one, shape), weights)) for one in found]
    return sorted(sure, key=lambda one: -one.score)


def _probability(of: tuple[float, float, float], weights: Calibration) -> float:
    score, length, middle = of
    odds = weights.bias + weights.score * score + weights.length * length + weights.middle * middle
    return (1 + math.tanh(odds / 2)) / 2  # the logistic function, which cannot overflow so
