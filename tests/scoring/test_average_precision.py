"""sAP, worked out by hand: what is right, and the area. tests/test_golden.py compares with AxisSym's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import line as drawn

from pipeline.scoring.average_precision import Ranked, average_precisions, axes_ranked, centres_ranked, line

NO_DISCS = np.zeros((128, 128), bool), np.empty((0, 2), np.float32)
UPRIGHT = [[10, 50], [90, 50]]  # points (y, x)


def lines(*ends):
    return np.array(ends, np.float32).reshape(-1, 2, 2)


def points(*places):
    return np.array(places, np.float32).reshape(-1, 2)


def scores(count):
    return np.linspace(0.9, 0.1, count)


def right(axes, truth, discs=NO_DISCS):
    return axes_ranked(axes, scores(len(axes)), truth, *discs).right.astype(int).tolist()


def moved(by):
    """The upright axis, both ends moved to the right: at a distance of 2 * by^2."""
    return [[10, 50 + by], [90, 50 + by]]


def test_the_distance_is_that_of_both_ends_squared():
    """1.5 pixels: 4.5; 2: 8; 2.7: 14.58; 2.8: 15.68. None may be at a limit, either: 5^(1/2) on one end is 5."""
    found = [right(lines(moved(by)), lines(UPRIGHT)) for by in (1.5, 2, 2.7, 2.8)]
    assert found == [[[1], [1], [1]], [[0], [1], [1]], [[0], [0], [1]], [[0], [0], [0]]]
    assert right(lines([[11, 52], [90, 50]]), lines(UPRIGHT)) == [[0], [1], [1]]  # 1 + 4
    assert right(lines([[90, 51], [10, 51]]), lines(UPRIGHT)) == [[1], [1], [1]]  # the other way round


def test_only_the_nearest_is_asked_for():
    """The second is nearer to the first axis, which is taken, though the other one would do."""
    truth = lines(UPRIGHT, moved(2.4))
    assert right(lines(UPRIGHT, moved(1)), truth) == [[1, 0]] * 3
    assert right(lines(UPRIGHT, moved(1.3)), truth) == [[1, 1]] * 3


def test_the_order_decides_who_takes_an_axis():
    axes = lines(moved(1.7), UPRIGHT)
    assert right(axes, lines(UPRIGHT)) == [[0, 1], [1, 0], [1, 0]]  # 5.78: the first takes it from 10 on
    assert right(axes[::-1], lines(UPRIGHT)) == [[1, 0]] * 3


def test_nothing_found():
    for truth, discs in ((lines(UPRIGHT), NO_DISCS), (lines(UPRIGHT), disc()), (lines(), disc())):
        found = axes_ranked(lines(), scores(0), truth, *discs)
        assert found.right.shape == (3, 0) and found.marked == len(truth)


def disc(first=(64, 64), radius=20):
    y, x = np.mgrid[:128, :128]
    return (y - first[0]) ** 2 + (x - first[1]) ** 2 <= radius**2, points(first, (20, 20))


def test_axes_through_the_first_disc_are_right_however_many():
    """Middle within 2.5, 5, 7.5 squared; 70 % of the pixels inside: of 57 at most 17 outside."""
    far = lines([[0, 5], [0, 100]])  # an axis that is marked, far away
    through = lines([[64, 40], [64, 88]], [[40, 64], [88, 64]])  # 41 of 49 pixels
    assert right(through, far, disc()) == [[1, 1]] * 3
    assert right(lines([[64, 42], [64, 90]]), far, disc()) == [[0], [1], [1]]  # middle 2 pixels beside: 4
    assert right(lines([[64, 41], [67, 89]]), far, disc()) == [[0], [1], [1]]  # 1 + 2.25 = 3.25
    assert right(lines([[64, 35], [64, 93]]), far, disc()) == [[0]] * 3  # 41 of 59: 69.5 %
    assert right(lines([[20, 10], [20, 30]]), far, disc()) == [[0]] * 3  # through the second
    assert right(through, lines(), disc()) == [[0, 0]] * 3  # no axis is marked
    mask, centres = disc()
    assert right(lines([[64, 50], [64, 78]]), far, (mask & False, centres)) == [[0]] * 3


def test_just_seventy_per_cent_is_enough():
    mask = np.zeros((128, 128), bool)
    mask[64, 60:67] = True  # 7 of the 10 pixels from 60 to 69
    centre = points((64, 64.5))
    assert right(lines([[64, 60], [64, 69]]), lines([[0, 5], [0, 100]]), (mask, centre)) == [[1]] * 3
    mask[64, 60] = False
    assert right(lines([[64, 60], [64, 69]]), lines([[0, 5], [0, 100]]), (mask, centre)) == [[0]] * 3


def test_a_marked_axis_comes_before_a_disc():
    """The first takes the axis, the second is right by the disc; recall is 2 of 1."""
    axes, truth = lines([[44, 64], [84, 64]], [[44, 65], [84, 65]]), lines([[44, 64], [84, 64]])
    found = axes_ranked(axes, scores(2), truth, *disc())
    assert found.right.tolist() == [[True, True]] * 3
    assert average_precisions([found]) == pytest.approx([2, 2, 2])


def test_pixels_beyond_the_square_count_as_its_edge():
    mask, _ = disc((0, 64))
    truth = lines([[100, 5], [100, 100]])
    assert right(lines([[-20, 64], [20, 64]]), truth, (mask, points((0, 64)))) == [[1]] * 3


def test_centres():
    """Squared distances below 2.5, 5, 7.5; each marked one once."""
    truth = points((10, 10), (10, 60))
    found = centres_ranked(points((11, 11), (12, 10), (10, 61), (12, 61.8), (100, 100)), scores(5), truth)
    assert found.right.astype(int).tolist() == [[1, 0, 1, 0, 0]] * 3 and found.marked == 2
    near = centres_ranked(points((12, 10), (10, 58), (12, 58.5)), scores(3), points((10, 10), (10, 60)))
    assert near.right.astype(int).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert centres_ranked(points((1, 1)), scores(1), points()) is None  # false alarms do not count either
    assert centres_ranked(points(), scores(0), truth).marked == 2


def test_folds():
    truth, marked = points((10, 10), (10, 60), (60, 60)), np.array([4, 5, 12])
    found = points((10, 10), (10, 60), (60, 60), (10, 10.5))

    def by_fold(*folds):
        return centres_ranked(found, scores(4), truth, (np.array(folds), marked))

    assert by_fold(4, 5, 12, 4).right[0].tolist() == [True, True, False, False] and by_fold(4, 5, 0, 4).marked == 2
    assert by_fold(3, 5, 0, 4).right[0].tolist() == [False, True, False, True]  # a wrong fold takes nothing
    assert by_fold(4, 5, 0, 0).right.tolist() == [[True, True, False, False]] * 3
    unknown = centres_ranked(points((60, 60)), scores(1), truth[2:], (np.array([12]), marked[2:]))
    assert unknown.right.tolist() == [[False]] * 3 and unknown.marked == 0  # its false alarm counts
    assert centres_ranked(points(), scores(0), truth, (np.array([], int), marked)) is None


def rank(scores, right, marked):
    return Ranked(np.array(scores), np.array([right] * 3, bool).reshape(3, -1), marked)


def test_the_area():
    """Right, wrong, right of 4 marked: precision 1 up to recall 1/4, then 2/3 up to 1/2."""
    image = rank([0.9, 0.8, 0.7], [1, 0, 1], 4)
    assert average_precisions([image]) == pytest.approx([1 / 4 + 2 / 3 / 4] * 3)
    parts = [rank([0.7, 0.9], [1, 1], 1), rank([], [], 2), rank([0.8], [0], 1)]
    assert average_precisions(parts) == pytest.approx([1 / 4 + 2 / 3 / 4] * 3)
    assert average_precisions([rank([0.5, 0.5], [0, 1], 1)]) == pytest.approx([0.5] * 3)  # ties: the first one first
    assert average_precisions([rank([0.5], [0], 1)]) == average_precisions([rank([], [], 3)]) == [0, 0, 0]
    assert average_precisions([]) is None and average_precisions([rank([0.5], [0], 0)]) is None


def test_precision_is_the_best_at_this_recall_or_later():
    assert average_precisions([rank([3, 2, 1], [0, 1, 1], 2)]) == pytest.approx([2 / 3] * 3)


@given(st.integers(0, 2**32 - 1))
def test_the_ends_have_no_order(seed):
    rng = np.random.default_rng(seed)
    truth, axes = (rng.uniform(40, 60, (count, 2, 2)).astype(np.float32) for count in (3, 12))
    expected = axes_ranked(axes, scores(12), truth, *disc()).right
    turned = axes.copy()
    turned[::2] = turned[::2, ::-1]
    np.testing.assert_array_equal(axes_ranked(turned, scores(12), truth[:, ::-1], *NO_DISCS).right,
                                  axes_ranked(axes, scores(12), truth, *NO_DISCS).right)  # fmt: skip
    np.testing.assert_array_equal(axes_ranked(axes, scores(12), truth[:, ::-1], *disc()).right, expected)


@given(st.lists(st.integers(-20, 150), min_size=4, max_size=4))
def test_lines_are_those_of_scikit_image(ends):
    np.testing.assert_array_equal(line(*ends), drawn(*ends))
