"""Centres from drawn heat maps, whose truth is known."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, maximum_filter

from pipeline.detection.centres import _highest, _smoothed, find_centres

SHAPE = 240, 320


def blobs(*centres, shape=SHAPE, width=6.0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.max([v * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2)) for a, b, v in centres], 0)


@settings(max_examples=30, deadline=None)
@given(st.floats(20, 300), st.floats(20, 220))
def test_one_centre_to_a_fraction_of_a_pixel(x, y):
    (centre,) = find_centres(blobs((x, y, 0.9)))
    assert math.dist((centre.x, centre.y), (x, y)) < 0.5
    assert 0.85 < centre.score <= 0.9 and centre.fold is None


@pytest.mark.parametrize(("x", "y"), [(20, 20.5), (100.5, 90), (100.5, 90.5)])
def test_a_centre_between_pixels_that_are_equally_high_is_one(x, y):
    (centre,) = find_centres(blobs((x, y, 0.9)))
    assert math.dist((centre.x, centre.y), (x, y)) < 0.5


@pytest.mark.parametrize(("x", "y"), [(0, 0), (319, 0), (-3, 242), (319, 239)])
def test_what_only_rises_towards_a_corner_is_no_centre(x, y):
    found = find_centres(blobs((x, y, 0.9), (200, 100, 0.4), shape=(240, 320)))
    assert [(round(centre.x), round(centre.y)) for centre in found] == [(200, 100)]


@pytest.mark.parametrize(("x", "y"), [(6, 6), (313, 120), (100, 233), (319, 120)])
def test_a_centre_near_an_edge_is_found(x, y):
    (centre,) = find_centres(blobs((x, y, 0.9), shape=(240, 320)))
    assert math.dist((centre.x, centre.y), (x, y)) < 4


@pytest.mark.parametrize(("shape", "row"), [((60, 2000), 18), ((200, 2000), 18), ((40, 640), 6)])
def test_centres_of_flat_maps(shape, row):
    (centre,) = find_centres(blobs((shape[1] / 2, row, 0.9), shape=shape))
    assert abs(centre.x - shape[1] / 2) < 2 and centre.score > 0.85


def test_a_level_map_has_no_two_centres_near_each_other():
    places = [(centre.x, centre.y) for centre in find_centres(np.full((240, 320), 0.7))]
    assert 1 <= len(places) <= 10
    assert all(max(abs(a - c), abs(b - d)) > 12 for (a, b), (c, d) in combinations(places, 2))


def test_several_centres_best_first():
    truth = [(60, 60, 0.9), (200, 90, 0.7), (130, 180, 0.5)]
    found = find_centres(blobs(*truth))
    assert [round(c.x / 10) for c in found] == [6, 20, 13]
    assert [c.score >= 0.6 for c in found] == [True, True, False]
    assert find_centres(np.zeros(SHAPE)) == []


@pytest.mark.parametrize("shape", [(240, 320), (64, 10), (1, 7), (130, 3)])
def test_filters_of_centres(shape):
    """Against SciPy's."""
    heat_map = np.random.default_rng(0).random(shape, np.float32)
    for sigma in (1 / 3, 2.67, 5.0):
        np.testing.assert_allclose(_smoothed(heat_map, sigma), gaussian_filter(heat_map, sigma), atol=1e-6)
    for reach in (1, 16, 21):
        np.testing.assert_array_equal(_highest(heat_map, reach), maximum_filter(heat_map, size=2 * reach + 1))
