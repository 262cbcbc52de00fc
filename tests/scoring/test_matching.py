"""Right and wrong axes and centres, worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations import ReflectionAxis, RotationCentre
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.scoring.matching import axis_is_right, best_threshold, level_counts, matches

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


def test_counts_at_each_level():
    """The rule of the competition: hits are of marked axes, what is wrong is of found ones."""
    other = ReflectionAxis(0, 50, 90, 50)
    axes = [found(100, 0, 100, 100, 0.9), found(0, 0, 90, 90, 0.5), found(101, 0, 101, 100, 0.5)]
    counts = level_counts([matches(axes, [UPRIGHT, other], 100), matches([], [other], 100)])
    assert counts.levels.tolist() == [0.5, 0.9] and counts.marked == 3
    assert counts.hits.tolist() == [1, 1] and counts.wrong.tolist() == [1, 0]
    assert counts.best == (0.9, pytest.approx(2 * 1 / (1 + 0 + 3)))
    assert [counts.f1_at(level) for level in (0.0, 0.5, 0.7, 0.95)] == pytest.approx([2 / 5, 2 / 5, 2 / 4, 0])
    nothing = level_counts([])
    assert nothing.best == (1.0, 0.0) and nothing.f1_at(0.5) == 0 and nothing.marked == 0


def test_the_first_of_the_best_scores_decides():
    wrong, right = found(0, 0, 90, 90, 0.5), found(100, 0, 100, 100, 0.5)
    assert not matches([wrong, right], [UPRIGHT], 100).best_is_right
    assert matches([right, wrong], [UPRIGHT], 100).best_is_right
    assert not matches([], [UPRIGHT], 100).best_is_right


@given(st.integers(0, 2**32 - 1))
def test_the_ends_of_axes_have_no_order(seed):
    rng = np.random.default_rng(seed)
    marked = [ReflectionAxis(*ends) for ends in rng.uniform(0, 40, (4, 4))]
    axes = [found(*ends, score) for ends, score in zip(rng.uniform(0, 40, (9, 4)), rng.random(9))]
    turned = [found(a.x2, a.y2, a.x1, a.y1, a.score) for a in axes]
    over = [ReflectionAxis(m.x2, m.y2, m.x1, m.y1) for m in marked]
    expected = matches(axes, marked, 40).right
    assert expected.shape == (9, 4)
    for these, those in ((turned, marked), (axes, over)):
        np.testing.assert_array_equal(matches(these, those, 40).right, expected)
