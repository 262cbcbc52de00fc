"""Loy and Eklundh's detector on pictures whose symmetry is exact: places to a fraction of a pixel, and the folds."""

import math

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipeline.evaluation.classical import classical_axes, classical_centres

SIDE = 256


def mirrored() -> np.ndarray:
    """uint8 [256, 320, 3]: its left half mirrored about x = 159.5."""
    half = data.astronaut()[:SIDE, 60:220]
    return np.concatenate([half, half[:, ::-1]], 1)


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    """The picture turned about its middle, counter-clockwise as one sees it."""
    return np.array(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC))


def dial(fold: int) -> np.ndarray:
    """uint8 [256, 256, 3]: a sector of a photograph, copied `fold` times around (127.5, 127.5)."""
    y, x = np.mgrid[:SIDE, :SIDE] - 127.5
    angle, radius = np.arctan2(y, x) % (2 * math.pi / fold), np.hypot(x, y)
    column, row = 150 + radius * np.cos(angle), 100 + radius * np.sin(angle)
    return np.where((radius < 120)[..., None], data.astronaut()[row.astype(int), column.astype(int)], 128).astype(
        np.uint8
    )


@pytest.mark.parametrize("degrees", [0, 20, 77])
def test_an_axis_is_found_to_a_fifth_of_a_pixel(degrees):
    best = classical_axes(turned(mirrored(), degrees))[0]
    tilt = math.degrees(math.atan2(best.y2 - best.y1, best.x2 - best.x1)) % 180
    assert tilt == pytest.approx((90 - degrees) % 180, abs=0.2)
    middle = np.array([159.5 - best.x1, 127.5 - best.y1])  # turns leave the middle where it is
    along = np.array([best.x2 - best.x1, best.y2 - best.y1])
    assert abs(middle[0] * along[1] - middle[1] * along[0]) / np.hypot(*along) < 0.2
    assert best.score > 0.9


def test_places_are_those_of_the_image_however_large_it_is():
    small, large = mirrored(), np.array(Image.fromarray(mirrored()).resize((1280, 1024), Image.Resampling.BICUBIC))
    best, best_large = classical_axes(small)[0], classical_axes(large)[0]
    assert (best_large.x1 + 0.5) / 4 - 0.5 == pytest.approx(best.x1, abs=1)
    assert (best_large.x1 + best_large.x2) / 2 == pytest.approx(4 * 160 - 0.5, abs=0.8)


@pytest.mark.parametrize("fold", [2, 3, 4, 5, 6, 8])
def test_a_centre_is_found_with_its_fold(fold):
    best = classical_centres(dial(fold))[0]
    assert math.hypot(best.x - 127.5, best.y - 127.5) < 0.5
    assert best.fold == fold


def test_the_best_comes_first_and_scores_lie_in_0_to_1():
    for found in classical_axes(mirrored()), classical_centres(dial(4)):
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True) and 0 <= scores[-1] <= scores[0] < 1


@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (9, 300), (1, 3000)])
def test_nothing_is_found_where_nothing_is(shape):
    empty = np.full((*shape, 3), 90, np.uint8)
    assert classical_axes(empty) == [] and classical_centres(empty) == []


def test_a_photograph_that_is_not_mirrored_scores_less():
    assert max((axis.score for axis in classical_axes(data.coffee()[:, :300])), default=0) < 0.8
