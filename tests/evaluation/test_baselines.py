"""Heat maps that look at no image."""

import numpy as np
import pytest

from pipeline.evaluation.evaluate import centre_map, random_map

SHAPES = [(1, 1), (1, 33), (16, 16), (17, 3), (64, 90)]


@pytest.mark.parametrize("shape", SHAPES)
def test_random_map(shape):
    heat = random_map(*shape, np.random.default_rng(4))
    assert heat.shape == shape and heat.dtype == np.float32 and 0 <= heat.min() <= heat.max() <= 1
    np.testing.assert_array_equal(heat, random_map(*shape, np.random.default_rng(4)))
    assert (heat != random_map(*shape, np.random.default_rng(5))).any()


def test_random_map_varies_from_cell_to_cell_but_not_from_pixel_to_pixel():
    heat = random_map(200, 160, np.random.default_rng(0))
    assert heat.std() > 0.1
    for axis in (0, 1):
        assert 0 < np.abs(np.diff(heat, axis=axis)).max() <= 1 / 14  # a whole level within a cell of about 16 pixels


@pytest.mark.parametrize("task", ["reflection", "rotation"])
@pytest.mark.parametrize("shape", SHAPES)
def test_centre_map(shape, task):
    heat = centre_map(*shape, task)
    assert heat.shape == shape and heat.dtype == np.float32 and 0 <= heat.min() <= heat.max() <= 1
    np.testing.assert_array_equal(heat, heat[::-1, ::-1])
    height, width = shape
    assert heat[height // 2, width // 2] == heat.max()


def test_reflection_falls_off_from_the_vertical_centre_line():
    heat = centre_map(4, 7, "reflection")
    np.testing.assert_allclose(heat, [[0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]] * 4)


def test_rotation_falls_off_from_the_centre():
    heat = centre_map(7, 9, "rotation")  # the corners are 5 pixels away
    np.testing.assert_allclose(heat[3], 1 - np.abs(np.arange(-4, 5)) / 6, atol=1e-6)
    np.testing.assert_allclose(heat[:, 4], 1 - np.abs(np.arange(-3, 4)) / 6, atol=1e-6)
    assert heat[0, 0] == heat.min() == pytest.approx(1 / 6)
