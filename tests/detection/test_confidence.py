"""Scores to probabilities, by hand and by symmetry."""

import math

import pytest

from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.detection.confidence import Calibration, calibrated, terms

WEIGHTS = Calibration(bias=1.0, score=1.5, length=2.0, middle=-3.0, least=0.5)
LONG, SHORT = DetectedAxis(50, 10, 52, 90, 0.6), DetectedAxis(15, 20, 15, 30, 0.9)
SHAPE = 100, 120


def test_the_terms_of_an_axis():
    score, length, middle = terms(DetectedAxis(10, 20, 10, 60, 0.8), (100, 50))
    assert score == pytest.approx(math.log(4)) and length == pytest.approx(math.log(0.4))
    assert middle == pytest.approx(math.hypot(24.5 - 10, 49.5 - 40) / 100)


def test_the_terms_of_a_centre():
    assert terms(DetectedCentre(24.5, 19.5, 0.5, 4), (100, 50)) == pytest.approx((0, 0, 0.3))


def test_a_probability():
    (axis,) = calibrated([DetectedAxis(59.5, 9.5, 59.5, 89.5, 0.5)], SHAPE, WEIGHTS)
    assert axis.score == pytest.approx(1 / (1 + math.exp(-(1 + 2 * math.log(80 / 120)))))


def test_the_probability_of_one_aside():
    (axis,) = calibrated([DetectedAxis(11.5, 9.5, 11.5, 89.5, 0.5)], SHAPE, WEIGHTS)
    assert axis.score == pytest.approx(1 / (1 + math.exp(-(1 + 2 * math.log(80 / 120) - 3 * 48 / 120))))


def test_a_long_axis_in_the_middle_comes_before_a_short_one_aside():
    first, second = calibrated([SHORT, LONG], SHAPE, WEIGHTS)
    assert (first[:4], second[:4]) == (LONG[:4], SHORT[:4]) and first.score > second.score


@pytest.mark.parametrize(
    "move, shape",
    [
        (lambda x, y: (119 - x, y), SHAPE),  # mirrored
        (lambda x, y: (y, 119 - x), SHAPE[::-1]),  # turned by a quarter
        (lambda x, y: (2 * x + 0.5, 2 * y + 0.5), (200, 240)),  # twice as large
    ],
)
def test_it_is_the_same_however_the_picture_lies(move, shape):
    moved = DetectedAxis(*move(*LONG[:2]), *move(*LONG[2:4]), LONG.score)
    assert terms(moved, shape) == pytest.approx(terms(LONG, SHAPE))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_extreme_scores_and_points(score):
    (axis,) = calibrated([DetectedAxis(5, 5, 5, 5, score)], SHAPE, WEIGHTS)
    assert 0 <= axis.score <= 1


@pytest.mark.parametrize("sign", [-1, 1])
def test_weights_as_large_as_a_checkpoint_may_hold(sign):
    (axis,) = calibrated([LONG], SHAPE, Calibration(sign * 1e6, sign * 1e6, 0, 0, 0.5))
    assert axis.score == max(sign, 0)


def test_the_fold_of_a_centre_stays():
    (centre,) = calibrated([DetectedCentre(3.0, 4.0, 0.5, 6)], SHAPE, WEIGHTS)
    assert centre.fold == 6 and calibrated([], SHAPE, WEIGHTS) == []
