"""Probabilities learnt from marks, on axes that are right as often as a known rule says."""

import numpy as np
import pytest

from pipeline.annotations import ReflectionAxis
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.confidence import Calibration, calibrated
from pipeline.errors import DataError
from pipeline.scoring.calibration import RIGHT, _least, learnt

SHAPE = 300, 400
RULE = Calibration(bias=2.0, score=1.2, length=2.0, middle=-4.0, least=0.5)


def image(rng):
    """A few upright axes apart from each other, and those of them that are marked, each as likely as RULE says."""
    found = []
    for x in (60, 160, 260, 360):
        length, score = rng.uniform(30, 280), rng.uniform(0.1, 0.9)
        found.append(DetectedAxis(x, 150 - length / 2, x, 150 + length / 2, score))
    sure = {axis.x1: axis.score for axis in calibrated(found, SHAPE, RULE)}
    return found, [ReflectionAxis(*axis[:4]) for axis in found if rng.random() < sure[axis.x1]], SHAPE


@pytest.fixture(scope="module")
def calibration():
    rng = np.random.default_rng(0)
    return learnt([image(rng) for _ in range(1500)])


def test_the_rule_is_found(calibration):
    assert calibration.weights[:4] == pytest.approx(RULE[:4], abs=0.6)


def test_probabilities_are_shares(calibration):
    table = calibration.reliability
    assert table.found.sum() == 6000
    assert np.abs(table.probability - table.right)[table.found >= 100].max() < 0.08


def test_three_in_four_of_what_is_reported_are_right(calibration):
    rng = np.random.default_rng(1)
    right = told = 0
    for found, marked, shape in (image(rng) for _ in range(1000)):
        places = {axis.x1 for axis in marked}
        for axis in calibrated(found, shape, calibration.weights):
            told += axis.score >= calibration.weights.least
            right += axis.score >= calibration.weights.least and axis.x1 in places
    assert told > 100 and right / told == pytest.approx(RIGHT, abs=0.05)


def test_the_least_probability():
    right = np.array([True, True, False, True, False, False])
    assert _least(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), right) == 0.6
    assert _least(np.array([0.9, 0.8]), np.array([False, False])) == 1


def test_too_little_to_learn_from():
    rng = np.random.default_rng(0)
    some = [image(rng) for _ in range(30)]
    with pytest.raises(DataError, match="expected 10 marked photographs or more.*got 9 in which"):
        learnt(some[:9])
    with pytest.raises(DataError, match="got 30 in which 0 of 120 are right"):
        learnt([(found, [], shape) for found, _, shape in some])
