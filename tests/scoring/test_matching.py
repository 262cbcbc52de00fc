"""Right and wrong axes and centres, worked out by hand."""

import pytest

from pipeline.annotations import ReflectionAxis, RotationCentre
from pipeline.detection.axes import DetectedAxis, DetectedCentre
from pipeline.scoring.matching import axis_is_right, best_threshold

UPRIGHT = ReflectionAxis(100, 0, 100, 100)


def found(x1, y1, x2, y2, score=0.5):
    return DetectedAxis(x1, y1, x2, y2, score)


@pytest.mark.parametrize(
    "axis, right",
    [
        (found(100, 0, 100, 100), True),
        (found(100, 100, 100, 0), True),  # either way round
        (found(119, 0, 119, 100), True),  # 19 of 100 pixels beside
        (found(121, 0, 121, 100), False),
        (found(100, 60, 100, 90), True),  # a part of it
        (found(107, 60, 107, 90), False),  # 7 of 30 pixels beside
        (found(100, 80, 100, 136), True),  # its middle 8 pixels past the end, of 56
        (found(100, 90, 100, 160), False),  # 25 past the end, of 70
        (found(92, 0, 108, 100), True),  # 9.1 degrees
        (found(91, 0, 109, 100), False),  # 10.2 degrees
        (found(100, 50, 100, 50), False),
    ],
)
def test_axis(axis, right):
    assert axis_is_right(axis, UPRIGHT) is right


def test_best_threshold_of_axes():
    other = ReflectionAxis(0, 50, 90, 50)
    first = (
        [found(100, 0, 100, 100, 0.9), found(101, 0, 101, 100, 0.8), found(0, 0, 90, 90, 0.3)],
        [UPRIGHT, other],
        100,
    )
    assert best_threshold([first]) == (0.8, pytest.approx(2 / 3))  # the second right one of an axis is not wrong
    second = [found(1, 50, 90, 50, 0.6)], [other], 100
    assert best_threshold([first, second]) == (0.6, pytest.approx(4 / 5))  # 2 hits, 0 wrong, of 3
    nothing = [found(0, 0, 50, 50, 0.95)], [], 100
    assert best_threshold([first, second, nothing]) == (0.6, pytest.approx(4 / 6))
    assert best_threshold([]) == best_threshold([nothing]) == (1.0, 0.0)
    unseen = [], *first[1:]
    assert best_threshold([first, unseen]) == (0.8, pytest.approx(2 / 5))  # 1 hit, 0 wrong, of 4


def test_best_threshold_of_centres():
    marks = [RotationCentre(50, 50, 4), RotationCentre(150, 50, 0)]
    centres = [DetectedCentre(54, 50, 0.7), DetectedCentre(150, 44, 0.6), DetectedCentre(150, 51, 0.4)]
    assert best_threshold([(centres, marks, 200)]) == (0.4, pytest.approx(4 / 5))
