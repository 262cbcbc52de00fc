"""The consistency of two heat maps: counted by hand, symmetric, adding up."""

import numpy as np
import pytest

from pipeline.scoring.consistency import ConsistencySums, compare

WHOLE = np.ones((40, 40), bool)


def dot(row, column, value=0.9):
    """A heat map with one pixel, whose disc of 81 pixels lies within the map."""
    heat_map = np.zeros((40, 40), np.float32)
    heat_map[row, column] = value
    return heat_map


def noise(seed):
    return np.random.default_rng(seed).random((40, 40), np.float32) ** 8


def test_differences_by_hand():
    sums = compare(np.float32([[0.1, 0.5], [1, 0]]), np.float32([[0.3, 0.5], [0, 0.9]]), np.eye(2, dtype=bool), 0.5)
    assert sums.pixels == 2 and sums.mean_difference == pytest.approx((0.2 + 0.9) / 2)


def test_disagreement_by_hand():
    assert compare(dot(10, 10), dot(10, 10, 0.6), WHOLE, 0.5).disagreement == 0
    assert compare(dot(10, 10), dot(10, 30), WHOLE, 0.5).disagreement == 1
    beside = compare(dot(10, 10), dot(10, 11), WHOLE, 0.5)
    assert (beside.both, beside.marked) == (70, 162)  # the disc has eleven rows, each loses one pixel
    assert beside.disagreement == pytest.approx(1 - 140 / 162)
    one = compare(dot(10, 10), np.zeros((40, 40), np.float32), WHOLE, 0.5)
    assert one.disagreement == 1 and one.marked == 81


def test_a_pixel_at_the_threshold_does_not_pass_it():
    heat_map = dot(10, 10, 0.5)
    assert compare(heat_map, heat_map, WHOLE, 0.5).marked == 0
    assert compare(heat_map, heat_map, WHOLE, 0.49).marked == 162


def test_two_empty_maps_agree():
    empty = np.zeros((40, 40), np.float32)
    assert compare(empty, empty, WHOLE, 0.5).disagreement == 0
    nothing = ConsistencySums.zero()
    assert (nothing.mean_difference, nothing.disagreement) == (None, None)


def test_what_lies_outside_the_region_does_not_count():
    region = WHOLE.copy()
    region[:, :12] = False
    inside, outside = dot(10, 30), dot(10, 11)
    assert compare(inside, inside + outside, region, 0.5) == compare(inside, inside, region, 0.5)


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.9])
def test_symmetric_and_zero_for_equal_maps(threshold):
    region = noise(2) < 0.5
    assert compare(noise(0), noise(1), region, threshold) == compare(noise(1), noise(0), region, threshold)
    same = compare(noise(0), noise(0), region, threshold)
    assert same.mean_difference == same.disagreement == 0 and same.marked


def test_sums_add_up_over_shards():
    images = [compare(noise(seed), noise(seed + 9), noise(seed + 18) < 0.5, 0.6) for seed in range(5)]
    total, shards = sum(images, ConsistencySums.zero()), sum(images[:2], images[2]) + sum(images[3:-1], images[-1])
    assert (total.pixels, total.both, total.marked) == (shards.pixels, shards.both, shards.marked)
    assert total.difference == pytest.approx(shards.difference)
    assert 0 < total.disagreement < 1
    assert total.mean_difference == pytest.approx(sum(s.difference for s in images) / sum(s.pixels for s in images))
