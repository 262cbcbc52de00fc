"""Composites: the marks are where the symmetry is, and the same generator gives the same image."""

import math

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage.filters import gaussian

from pipeline.data.synthesis.backdrops import Backdrops
from pipeline.data.synthesis.composites import Recipe, compose

SIZE = 300, 260
MIRRORS = Recipe(mirrors=(1,), extent=(0.6, 0.8), upright=0.2)
SCENES = Recipe(scenes=1.0)
DIHEDRAL = Recipe(rotations=(1,), dihedral=1.0, extent=(0.6, 0.8))
CYCLIC = Recipe(rotations=(1,), dihedral=0.0, extent=(0.6, 0.8))
CONTINUOUS = Recipe(rotations=(1,), continuous=1.0, extent=(0.6, 0.8))


@pytest.fixture(scope="module")
def photographs():
    """Smooth random colours, so that interpolation costs little: any misplaced mark shows."""
    noise = np.random.default_rng(0).random((4, 200, 240, 3))
    smooth = [gaussian(colours, 4, channel_axis=2) for colours in noise]
    return [(255 * (colours - colours.min()) / np.ptp(colours)).astype(np.uint8) for colours in smooth]


def draw(photographs, recipe, seed, disturb=False):
    return compose(np.random.default_rng(seed), photographs, Backdrops(photographs), SIZE, recipe, disturb)


def colours(image, x, y):
    return np.stack([map_coordinates(channel.astype(float), [y, x], order=1) for channel in np.moveaxis(image, 2, 0)])


def mirror_error(image, axis, shift=0.0):
    """Median difference in grey levels across `axis`, moved sideways by `shift` pixels, close to its middle part."""
    start, end = np.array([axis.x1, axis.y1]), np.array([axis.x2, axis.y2])
    length = math.dist(start, end)
    along, across = np.meshgrid(np.linspace(0.25, 0.75, 40), np.linspace(0.02, 0.15, 20) * length)
    normal = np.array([start[1] - end[1], end[0] - start[0]]) / length
    x, y = (s + along * (e - s) + shift * n for s, e, n in zip(start, end, normal, strict=True))
    near, far = (colours(image, x + k * across * normal[0], y + k * across * normal[1]) for k in (1, -1))
    return np.median(np.abs(near - far))


def turn_error(image, x, y, turn, radius):
    """Median difference in grey levels between the disc around (x, y) and itself turned by `turn` radians."""
    r, angle = np.meshgrid(np.linspace(0.2, 1, 20) * radius, np.linspace(0, 2 * math.pi, 60))
    before, after = (colours(image, x + r * np.cos(a), y + r * np.sin(a)) for a in (angle, angle + turn))
    return np.median(np.abs(before - after))


@pytest.mark.parametrize("recipe", [MIRRORS, SCENES, DIHEDRAL])
def test_axes_are_exact(photographs, recipe):
    for seed in range(8):
        image, annotation = draw(photographs, recipe, seed)
        for axis in annotation.axes:
            error = mirror_error(image, axis)
            assert error < 1.5
            assert error < min(mirror_error(image, axis, shift) for shift in (-1.0, 1.0))


@pytest.mark.parametrize("recipe", [CYCLIC, DIHEDRAL, CONTINUOUS])
def test_centres_are_exact(photographs, recipe):
    for seed in range(8):
        image, annotation = draw(photographs, recipe, seed)
        (centre,) = annotation.centres
        if annotation.discs:
            top, bottom, left, right = annotation.discs[0].points[1:]
            if not math.isclose(math.dist(top, bottom), math.dist(left, right)):
                continue  # an ellipse is a circle seen aslant: turning the picture does not reproduce it
        turn = 2 * math.pi / centre.fold if centre.fold else 1.0
        error = turn_error(image, centre.x, centre.y, turn, 25)
        assert error < 1.5
        assert error < min(turn_error(image, centre.x + dx, centre.y + dy, turn, 25) for dx, dy in ((1, 0), (0, 1)))


def test_discs_outline_their_rings(photographs):
    for seed in range(8):
        image, annotation = draw(photographs, CONTINUOUS, seed)
        (disc,), (centre,) = annotation.discs, annotation.centres
        x, y = (np.array(disc.polygon()) - (centre.x, centre.y)).T
        rings = [colours(image, centre.x + k * x, centre.y + k * y) for k in (0.3, 0.6, 0.9)]
        assert max(ring.std(axis=1).mean() for ring in rings) < 3


@pytest.mark.parametrize("recipe", [MIRRORS, SCENES, DIHEDRAL, CYCLIC, CONTINUOUS])
def test_disturbed_marks_stay_in_the_image(photographs, recipe):
    height, width = SIZE
    for seed in range(8):
        image, annotation = draw(photographs, recipe, seed, disturb=True)
        assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
        for axis in annotation.axes:
            assert math.dist((axis.x1, axis.y1), (axis.x2, axis.y2)) > 30
            inside = [
                0 <= axis.x1 + t * (axis.x2 - axis.x1) < width and 0 <= axis.y1 + t * (axis.y2 - axis.y1) < height
                for t in np.linspace(0.001, 0.999, 50)
            ]
            assert np.mean(inside) > 0.9
        points = [(centre.x, centre.y) for centre in annotation.centres]
        points += [point for disc in annotation.discs for point in disc.points]
        assert all(0 <= x < width and 0 <= y < height for x, y in points)


def test_objects_as_asked_for(photographs):
    _, annotation = draw(photographs, Recipe(mirrors=(2,), rotations=(1,), folds=(3,), dihedral=1.0), 1, disturb=True)
    assert len(annotation.axes) == 2 + 3 and [centre.fold for centre in annotation.centres] == [3]
    assert draw(photographs, Recipe(), 1, disturb=True)[1].axes == ()


def test_the_generator_alone_decides(photographs):
    first, marks = draw(photographs, MIRRORS, 5, disturb=True)
    again, same_marks = draw(photographs, MIRRORS, 5, disturb=True)
    other, other_marks = draw(photographs, MIRRORS, 6, disturb=True)
    assert np.array_equal(first, again) and marks == same_marks
    assert not np.array_equal(first, other) and marks != other_marks


ROUND = Recipe(round=1.0, rotations=(1,))


def test_round_things_are_marked_in_their_middle():
    """White discs on black, without clutter: the marks are the middles of what is bright, within the image."""
    black, white = np.zeros((200, 240, 3), np.uint8), np.full((200, 240, 3), 255, np.uint8)
    marked = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        image, marks = compose(rng, [white], Backdrops([black]), SIZE, ROUND, disturb=False)
        assert image.shape == (*SIZE, 3) and not marks.axes and len(marks.discs) == len(marks.centres)
        for disc, centre in zip(marks.discs, marks.centres, strict=True):
            (x, y), (_, top), (_, bottom), (left, _), (right, _) = disc.points
            assert (x, y) == (centre.x, centre.y) == pytest.approx(((left + right) / 2, (top + bottom) / 2))
            for edge in ((0.9 * left + 0.1 * x, y), (x, 0.9 * bottom + 0.1 * y)):
                inside = 0 < edge[0] < SIZE[1] - 1 and 0 < edge[1] < SIZE[0] - 1
                assert not inside or image[round(edge[1]), round(edge[0])].mean() > 90
            assert centre.fold == 0 and 0 < centre.x < SIZE[1] - 1 and 0 < centre.y < SIZE[0] - 1
            assert image[round(centre.y), round(centre.x)].mean() > 90
        marked += len(marks.centres)
    assert marked > 60


def test_grey_photographs_serve_as_round_things():
    grey = np.random.default_rng(0).integers(0, 256, (100, 120, 1), np.uint8)
    image, marks = compose(np.random.default_rng(1), [grey], Backdrops([grey]), SIZE, ROUND)
    assert image.dtype == np.uint8 and image.shape == (*SIZE, 3)
