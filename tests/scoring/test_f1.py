"""The F1 counts against a plain loop over thresholds and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, maximum_filter
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support

from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count, dilate, lowest_alike, thresholds_passed

DISC = np.hypot(*np.mgrid[-5:6, -5:6]) <= 5
SHAPES = [(1, 1), (3, 7), (7, 3), (1, 40), (40, 1), (2, 2), (12, 11), (31, 24)]
shapes = st.tuples(st.integers(1, 25), st.integers(1, 25))
seeds = st.integers(0, 2**32 - 1)
checked = settings(derandomize=True, deadline=None, max_examples=50)  # the same examples each time, however slow


def random_image(shape, seed, share=0.03):
    """A heat map of which a third of the pixels lie exactly at thresholds, some at 0 and 1; and a sparse mask."""
    rng = np.random.default_rng(seed)
    heat = rng.random(shape, np.float32) ** 3
    ties, ends = rng.random(shape) < 0.33, rng.random(shape) < 0.1
    heat[ties], heat[ends] = rng.choice(THRESHOLDS, ties.sum()), rng.integers(0, 2, ends.sum())
    return heat, rng.random(shape) < share


def plain_counts(heat, mask):
    truth = binary_dilation(mask, DISC)
    predicted = [binary_dilation(heat > threshold, DISC) for threshold in THRESHOLDS]
    return [(p & truth).sum() for p in predicted], [p.sum() for p in predicted], truth.sum()


def assert_same(counts, expected):
    true, predicted, actual = expected
    assert counts.true.dtype == counts.predicted.dtype == np.int64
    np.testing.assert_array_equal(counts.true, true)
    np.testing.assert_array_equal(counts.predicted, predicted)
    assert counts.actual == actual and isinstance(counts.actual, int)


def triple(counts):
    return counts.true, counts.predicted, counts.actual


def test_thresholds():
    assert THRESHOLDS.dtype == np.float32
    np.testing.assert_allclose(THRESHOLDS, np.arange(1, 101) / 101, rtol=1e-6)
    released = torch.linspace(1 / 101, 100 / 101, 100).numpy()
    assert THRESHOLDS.tobytes() == released.tobytes() != (np.arange(1, 101) / 101).astype(np.float32).tobytes()


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_equal_a_plain_loop(shape):
    for seed in range(3):
        image = random_image(shape, seed)
        assert_same(count(*image), plain_counts(*image))


@checked
@given(shapes, seeds, st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_counts_equal_a_plain_loop_on_any_shape(shape, seed, share):
    image = random_image(shape, seed, share)
    assert_same(count(*image), plain_counts(*image))


@pytest.mark.parametrize("number", [0, 1, 49, 99])
def test_a_pixel_at_a_threshold_does_not_pass_it(number):
    heat, mask = np.full((3, 4), THRESHOLDS[number]), np.ones((3, 4), bool)
    np.testing.assert_array_equal(count(heat, mask).predicted, 12 * (np.arange(100) < number))
    np.testing.assert_array_equal(count(np.nextafter(heat, np.float32(1)), mask).true, 12 * (np.arange(100) <= number))


def test_thresholds_passed_beside_every_threshold():
    zero, one = np.float32([0, 1])
    ends = [zero, -zero, np.nextafter(zero, one), one, np.nextafter(one, 2 * one)]
    levels = np.concatenate([np.nextafter(THRESHOLDS, zero), THRESHOLDS, np.nextafter(THRESHOLDS, one), ends])
    expected = [(THRESHOLDS < level).sum() for level in levels]
    assert thresholds_passed(levels).dtype == np.uint8
    np.testing.assert_array_equal(thresholds_passed(levels), expected)


def test_thresholds_passed_by_values_that_no_heat_map_should_hold():
    levels = np.float32([-np.inf, -3, 1.5, 300, np.inf])
    np.testing.assert_array_equal(thresholds_passed(levels), [0, 0, 100, 100, 100])


@checked
@given(shapes, seeds)
def test_dilation_is_the_maximum_over_the_disc(shape, seed):
    values, mask = random_image(shape, seed)
    expected = maximum_filter(values, footprint=DISC, mode="constant", cval=-1)
    np.testing.assert_array_equal(dilate(values), expected)
    np.testing.assert_array_equal(dilate(mask), binary_dilation(mask, DISC))
    values -= 2  # what lies outside the image is not a zero
    np.testing.assert_array_equal(dilate(values), maximum_filter(values, footprint=DISC, mode="constant", cval=-9))


def test_a_dilated_point_is_the_disc():
    point = np.zeros((15, 13), bool)
    point[7, 6] = True
    np.testing.assert_array_equal(dilate(point)[2:13, 1:12], DISC)
    assert dilate(point).sum() == DISC.sum() == 81 and point.sum() == 1


@pytest.mark.parametrize(
    ("heat", "share", "precision", "recall", "best"),
    [(0, 0.1, 0, 0, 0), (1, 1.1, 1, 1, 0), (0, 1.1, 0, 0, 0), (1, 0, 0, 0, None), (0, 0, 0, 0, None)],
)
def test_constant_heat_maps(heat, share, precision, recall, best):
    _, mask = random_image((30, 20), 5, share)
    counts = count(np.full((30, 20), heat, np.float32), mask)
    np.testing.assert_array_equal(counts.precision, np.full(100, precision))
    np.testing.assert_array_equal(counts.recall, np.full(100, recall))
    np.testing.assert_array_equal(counts.f1, np.full(100, precision))
    assert counts.best == best


def test_best_is_the_highest_f1():
    _, mask = random_image((60, 50), 2, 0.002)
    heat = np.where(mask, np.float32(0.8), np.float32(0.3))
    counts = count(heat, mask)
    perfect = (THRESHOLDS >= np.float32(0.3)) & (THRESHOLDS < np.float32(0.8))
    np.testing.assert_array_equal(counts.f1 == 1, perfect)
    assert counts.best == perfect.argmax() == 30  # 31 / 101 is the first threshold above 0.3
    assert F1Counts.zero().best is None


def known_counts(curve: dict[int, int]) -> F1Counts:
    """Of an image with 100 pixels marked and 100 predicted, so that F1 at a threshold is the right ones in per cent."""
    right = np.zeros(100, np.int64)
    right[list(curve)] = list(curve.values())
    return F1Counts(right, np.full(100, 100), 100)


@pytest.mark.parametrize(("below", "chosen"), [((79, 41), 20), ((59, 59), 50), ((80, 39), 50)])
def test_the_lowest_threshold_within_a_standard_error(below, chosen):
    """The best F1 is 0.7, without the one image 0.6 and without the other 0.8: its standard error is 0.1."""
    each = [known_counts({20: share, 50: best, 60: best}) for share, best in zip(below, (80, 60), strict=True)]
    assert lowest_alike(each) == chosen


def test_the_standard_error_shrinks_with_the_number_of_images():
    few, many = ([known_counts({20: 62, 50: 80}), known_counts({20: 62, 50: 60})] * pairs for pairs in (1, 20))
    assert (lowest_alike(few), lowest_alike(many)) == (20, 50)


def test_one_image_has_no_standard_error():
    assert lowest_alike([known_counts({20: 69, 50: 70})]) == 50


def test_counts_add_up_in_any_order():
    images = [random_image(shape, seed) for seed, shape in enumerate(SHAPES)]
    counts = [count(*image) for image in images]
    total = sum(counts, F1Counts.zero())
    assert_same(sum(counts[::-1], F1Counts.zero()), triple(total))
    assert_same(sum(counts[:3], F1Counts.zero()) + sum(counts[3:], F1Counts.zero()), triple(total))
    assert_same(total, [sum(parts) for parts in zip(*(map(np.asarray, plain_counts(*i)) for i in images), strict=True)])
    assert_same(F1Counts.zero() + total, triple(total))
    assert not F1Counts.zero().true.any()


def test_agreement_with_scikit_learn():
    images = [random_image(shape, seed, 0.004) for seed, shape in enumerate([(30, 40), (50, 20), (1, 9)])]
    total = sum((count(*image) for image in images), F1Counts.zero())
    heat = np.concatenate([dilate(heat).ravel() for heat, _ in images])
    truth = np.concatenate([dilate(mask).ravel() for _, mask in images])
    for number, threshold in enumerate(THRESHOLDS):
        expected = precision_recall_fscore_support(truth, heat > threshold, average="binary", zero_division=0)[:3]
        found = total.precision[number], total.recall[number], total.f1[number]
        np.testing.assert_allclose(found, expected, atol=1e-12)
    precision, recall, levels = precision_recall_curve(truth, heat)
    places = np.searchsorted(levels, THRESHOLDS, side="right")  # the curve counts heat >= level
    places = places[places < len(levels)]
    assert len(places) > 90
    np.testing.assert_allclose(total.precision[: len(places)], precision[places], atol=1e-12)
    np.testing.assert_allclose(total.recall[: len(places)], recall[places], atol=1e-12)


def test_arguments_are_left_alone_and_any_float_will_do():
    heat, mask = random_image((9, 8), 1)
    copies = heat.copy(), mask.copy()
    counts = count(heat, mask)
    np.testing.assert_array_equal(heat, copies[0])
    np.testing.assert_array_equal(mask, copies[1])
    assert_same(count(heat.astype(float), mask), triple(counts))


@pytest.mark.parametrize("shape", [(3, 5), (5,), (5, 3, 1)])
def test_shapes_must_agree(shape):
    with pytest.raises(ValueError, match=r"heat map is \(5, 3\), mask is .*native size"):
        count(np.zeros((5, 3), np.float32), np.zeros(shape, bool))
