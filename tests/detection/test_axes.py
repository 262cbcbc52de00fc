"""Axes from drawn heat maps, whose truth is known."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import erf

from pipeline.detection.axes import ANGLES, _Ridges, _worth, find_axes
from pipeline.detection.centres import find_centres
from pipeline.detection.square import SIDE, to_square

SHAPE = 240, 320


def strokes(*segments, shape=SHAPE, width=3.0, value=0.8):
    """A map with blurred segments x1, y1, x2, y2, at half height where they end; pixel centres at integers."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    heat_map = np.zeros(shape)
    for x1, y1, x2, y2 in segments:
        length = math.dist((x1, y1), (x2, y2))
        u, v = (x2 - x1) / length, (y2 - y1) / length
        along, across = (x - x1) * u + (y - y1) * v, (y - y1) * u - (x - x1) * v
        inside = (erf(along / width / 2**0.5) - erf((along - length) / width / 2**0.5)) / 2
        heat_map = np.maximum(heat_map, value * inside * np.exp(-(across**2) / (2 * width**2)))
    return heat_map.astype(np.float32)


def segment(cx, cy, degrees, length):
    dx, dy = (length / 2 * f(math.radians(degrees)) for f in (math.cos, math.sin))
    return cx - dx, cy - dy, cx + dx, cy + dy


def distance(axis, truth):
    """Largest distance of the two ends, whichever way round."""
    (a, b), (c, d) = ((axis.x1, axis.y1), (axis.x2, axis.y2)), (truth[:2], truth[2:])
    return min(max(math.dist(a, c), math.dist(b, d)), max(math.dist(a, d), math.dist(b, c)))


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 180), st.floats(120, 200), st.floats(90, 150), st.floats(80, 170))
def test_one_axis_at_any_angle(degrees, cx, cy, length):
    truth = segment(cx, cy, degrees, length)
    first, *others = find_axes(strokes(truth))
    assert not others
    assert distance(first, truth) < 2
    angle = math.degrees(math.atan2(first.y2 - first.y1, first.x2 - first.x1))
    assert abs((angle - degrees + 90) % 180 - 90) < 0.5
    middle = np.array([first.x1 + first.x2, first.y1 + first.y2]) / 2 - (cx, cy)
    across = abs(middle @ (-math.sin(math.radians(degrees)), math.cos(math.radians(degrees))))
    assert across < 0.75
    assert 0.65 < first.score <= 0.8


@pytest.mark.parametrize(
    "truth",
    [
        [segment(80, 120, 90, 180), segment(240, 120, 90, 120)],
        [segment(160, 120, 0, 260), segment(160, 120, 90, 200)],
        [segment(160, 120, 20, 200), segment(160, 120, 80, 200), segment(160, 120, 140, 200)],
        [segment(60, 60, 45, 90), segment(200, 70, 135, 90), segment(150, 190, 5, 240)],
    ],
)
def test_several_axes(truth):
    found = find_axes(strokes(*truth))
    assert len(found) == len(truth)
    for line in truth:
        assert min(distance(axis, line) for axis in found) < 4


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("short", "width"),
    [
        (segment(188, 178, 15, 19), 2),
        (segment(184, 3, 130, 23), 4),
        (segment(7, 179, 135, 15), 3),
        (segment(8, 189, 160, 27), 3),
        (segment(37, 182, 125, 27), 4),
    ],
)
def test_short_ridges_at_the_edge(short, width):
    """Their fit turns them out of the square; the long one must be found all the same."""
    long = segment(96, 96, 80, 120)
    found = find_axes(strokes(short, long, shape=(192, 192), width=width))
    assert min(distance(axis, long) for axis in found) < 3
    assert np.isfinite([tuple(axis) for axis in found]).all()
    assert all(-1 <= axis.x1 <= 192 and -1 <= axis.y1 <= 192 for axis in found)


def test_the_best_comes_first():
    weak, strong = segment(80, 120, 90, 150), segment(240, 120, 90, 150)
    heat_map = np.maximum(strokes(weak, value=0.4), strokes(strong, value=0.9))
    first, second = find_axes(heat_map)
    assert first.score > 0.7 and distance(first, strong) < 2
    assert second.score < 0.4 and distance(second, weak) < 2


def test_filled_and_curved_regions_are_no_lines():
    y, x = np.mgrid[:240, :320]
    radius = np.hypot(x - 160, y - 120)
    disc = (radius < 80).astype(np.float32)
    box = ((abs(x - 160) < 90) & (abs(y - 120) < 60)).astype(np.float32)
    ring = np.exp(-((radius - 70) ** 2) / 18).astype(np.float32)
    for filled in (disc, box, ring, np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)):
        assert find_axes(filled) == []


def test_turning_the_map_turns_the_axes():
    heat_map = strokes(segment(150, 110, 65, 150), segment(90, 180, 10, 110))
    upright, turned = find_axes(heat_map), find_axes(np.rot90(heat_map).copy())
    assert len(upright) == len(turned) == 2
    for axis, twin in zip(upright, turned):  # anticlockwise: x, y -> y, width - 1 - x
        assert distance(twin, (axis.y1, 319 - axis.x1, axis.y2, 319 - axis.x2)) < 2


@pytest.mark.parametrize("scale", [0.5, 3])
def test_ends_scale_with_the_map(scale):
    truth = [scale * value for value in segment(150, 110, 65, 150)]
    shape = tuple(round(scale * side) for side in SHAPE)
    (axis,) = find_axes(strokes(truth, shape=shape, width=3 * scale))
    assert distance(axis, truth) < 2 * scale


def test_the_search_passes_no_line_over():
    rng = np.random.default_rng(0)
    ends = rng.uniform(20, SIDE - 20, (12, 4))
    ridges = _Ridges(strokes(*ends, shape=(SIDE, SIDE), value=rng.uniform(0.2, 0.9)))
    for number in range(10):
        line, everything = ridges.best_line(), _worth(ridges.left(np.arange(ANGLES * SIDE)))
        angle, offset = divmod(int(everything.argmax()), SIDE)
        assert (line.theta, line.offset) == (angle * math.pi / ANGLES, offset)
        kept = np.clip((np.arange(SIDE)[:, None] - 19 * number) / 10, 0, 1)
        ridges.leave(kept * np.ones(SIDE))


def test_ridges_along_every_line():
    """Against SciPy's interpolation: the lines that are made by turning and mirroring the map are where they should."""
    rng = np.random.default_rng(0)
    square = gaussian_filter(rng.uniform(0, 2, (SIDE, SIDE)), 2).astype(np.float32)
    heights = _Ridges(square).heights.reshape(SIDE, ANGLES, SIDE)
    place = np.arange(SIDE) - (SIDE - 1) / 2
    for number in range(ANGLES):
        cos, sin = math.cos(number * math.pi / ANGLES), math.sin(number * math.pi / ANGLES)
        x, y = cos * place[:, None] - sin * place, sin * place[:, None] + cos * place
        turned = map_coordinates(np.pad(square, 50), [at + 50 + (SIDE - 1) / 2 for at in (y, x)], order=1)
        sides = np.pad(turned, ((0, 0), (8, 8)))
        lower = np.minimum(np.maximum(sides[:, 4:-12], sides[:, 12:-4]), np.maximum(sides[:, :SIDE], sides[:, 16:]))
        np.testing.assert_allclose(heights[:, number], np.maximum(turned - lower, 0), atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_worth_of_a_line(heights):
    above = [h - 0.08 for h in heights]
    stretches = [sum(above[a:b]) for a in range(len(above)) for b in range(a + 1, len(above) + 1)]
    assert _worth(np.array(heights)[:, None])[0] == pytest.approx(max(stretches))


@pytest.mark.parametrize("shape", [(480, 640), (100, 333), (192, 192), (250, 192), (1, 500)])
def test_the_square_holds_means(shape):
    heat_map = np.random.default_rng(0).random(shape, np.float32)
    square, scale, (left, top) = to_square(heat_map)
    height, width = (max(1, round(side / scale)) for side in shape)
    for y, x in ((0, 0), (height - 1, width - 1), (height // 2, width // 3)):
        rows, columns = (
            slice(math.floor(at * side / small), math.ceil((at + 1) * side / small))
            for at, side, small in ((y, shape[0], height), (x, shape[1], width))
        )
        assert square[top + y, left + x] == pytest.approx(heat_map[rows, columns].mean(), abs=1e-5)
    square[top : top + height, left : left + width] = 0
    assert not square.any()


def test_small_maps_are_made_larger():
    square, scale, corner = to_square(np.tile(np.arange(48, dtype=np.float32), (48, 1)))
    assert scale == 0.25 and corner == (0, 0)
    np.testing.assert_allclose(square, np.tile(np.clip((np.arange(SIDE) - 1.5) / 4, 0, 47), (SIDE, 1)), atol=1e-5)


def test_without_torch():
    """Detection starts in a tenth of a second: what it looks for axes with is to need NumPy alone."""
    names = "'torch', 'scipy', 'skimage', 'cv2', 'pydantic'"
    code = f"import sys, pipeline.detection.axes; print([name for name in ({names}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_small_and_thin_maps():
    for shape in ((1, 1), (1, 200), (300, 2), (7, 9)):
        for value in (0, 1):
            heat_map = np.full(shape, value, np.float32)
            assert all(math.isfinite(axis.x1) for axis in find_axes(heat_map))
            assert len(find_centres(heat_map)) <= 10
