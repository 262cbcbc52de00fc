"""Masks and targets: small ones by hand, the blur against a plain convolution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.data.packed.targets import blurred, mask, reflection_instances, rotation_orders, scaled, unscaled_target
from pipeline.geometry import Letterbox

checked = settings(derandomize=True, deadline=None, max_examples=100)  # the same examples each time, however slow
CLIP = {"reflection": np.float32(0.21260943), "rotation": np.float32(0.01)}


def axes(*ends):
    return Annotation(axes=tuple(ReflectionAxis(*end) for end in ends))


def disc(x, y, radius=0.0):
    return ReflectionDisc(((x, y - radius), (x, y + radius), (x - radius, y), (x + radius, y)))


def centres(*marks):
    return Annotation(centres=tuple(RotationCentre(*mark) for mark in marks))


def plain_blur(marked, side):
    """A 2-D convolution pixel by pixel; borders reflect without repeating the edge."""

    def reflect(index, length):
        index = abs(index) % max(2 * (length - 1), 1)
        return min(index, 2 * (length - 1) - index)

    reach, (height, width) = side // 2, marked.shape
    kernel = {
        (dy, dx): np.exp(-(dy**2 + dx**2) / (2 * 4.0**2))
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
    }
    total, found = sum(kernel.values()), np.zeros(marked.shape)
    for y, x in np.ndindex(*marked.shape):
        values = (k * marked[reflect(y + dy, height), reflect(x + dx, width)] for (dy, dx), k in kernel.items())
        found[y, x] = sum(values) / total
    return found


def test_axes_are_numbered_and_the_larger_number_stands():
    instances = reflection_instances(axes((0, 1, 4, 1), (2, 3, 2, 0), (0, 0, 0, 0)), 4, 5)
    expected = [
        [3, 0, 2, 0, 0],
        [1, 1, 2, 1, 1],
        [0, 0, 2, 0, 0],
        [0, 0, 2, 0, 0],
    ]
    assert instances.dtype == np.int32
    np.testing.assert_array_equal(instances, expected)


def test_coordinates_are_truncated_and_clipped():
    np.testing.assert_array_equal(mask(axes((0.9, 1.9, 2.99, 1.1)), "reflection", 3, 4)[1], [True, True, True, False])
    np.testing.assert_array_equal(mask(axes((-0.9, 0, -0.1, 2)), "reflection", 3, 2), [[True, False]] * 3)
    np.testing.assert_array_equal(mask(axes((-9, 2, 30, 2)), "reflection", 3, 4).sum(axis=1), [0, 0, 4])
    assert not mask(axes((-9, -3, 30, -3), (4, 0, 4, 3)), "reflection", 3, 4).any()


@checked
@given(*[st.floats(-10, 30)] * 4)
def test_the_direction_of_an_axis_does_not_matter(x1, y1, x2, y2):
    one, other = (mask(axes(ends), "reflection", 20, 17) for ends in ((x1, y1, x2, y2), (x2, y2, x1, y1)))
    if x1 != x2:
        np.testing.assert_array_equal(one, other)


def test_ellipses_are_filled_and_cover_axes():
    annotation = Annotation(axes((0, 5, 10, 5)).axes, (disc(5, 5, 3), disc(9.7, 9.2)))
    instances = reflection_instances(annotation, 12, 11)
    assert instances[5].tolist() == [1, 1, *[1001] * 6, 1, 1, 1]  # from 2 to 7, 8 being reached by no vertex
    assert instances[9, 9] == 1002 and (instances == 1002).sum() == 1
    assert set(np.unique(instances)) == {0, 1, 1001, 1002}
    assert 28 <= (instances == 1001).sum() <= 38  # the area, 28.3, and up to half the outline, 9.4
    overlapping = reflection_instances(Annotation(discs=(disc(5, 5, 4), disc(5, 5, 40))), 11, 11)
    assert (overlapping == 1002).all()


def test_no_marks():
    for task in ("reflection", "rotation"):
        marked = mask(Annotation(), task, 3, 4)
        assert marked.shape == (3, 4) and marked.dtype == bool and not marked.any()


@pytest.mark.parametrize(("fold", "value"), [(0, 255), (2, 1), (3, 2), (6, 5), (29, 19), (1, 1), (13, 1), (360, 1)])
def test_orders_of_rotation(fold, value):
    orders = rotation_orders(centres((2.9, 1.2, fold)), 3, 4)
    assert orders[1, 2] == value and np.count_nonzero(orders) == 1


def test_centres_outside_are_not_painted_and_the_larger_class_stands():
    outside = centres((-1, 0, 2), (4, 0, 2), (0, 3, 2), (0, -1.5, 2), (99, 99, 0))
    assert not rotation_orders(outside, 3, 4).any()
    truncated = rotation_orders(centres((-0.9, 2.9, 8), (3.9, -0.5, 8)), 3, 4)
    assert np.argwhere(truncated).tolist() == [[0, 3], [2, 0]]
    for order in ((5, 3), (3, 5)):
        assert rotation_orders(centres(*((1.2, 1.7, fold) for fold in order)), 3, 4)[1, 1] == 4
    assert rotation_orders(centres((1, 1, 0), (1.5, 1.5, 29)), 3, 4)[1, 1] == 255


@pytest.mark.parametrize(("task", "side"), [("reflection", 5), ("rotation", 11)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (6, 13), (14, 12)])
def test_blur_is_a_convolution_with_reflecting_borders(task, side, shape):
    for share in (0.05, 0.4, 1.1):
        marked = np.random.default_rng(3).random(shape) < share
        marked[0, 0] = True
        expected, (rows, columns) = plain_blur(marked, side), map(np.arange, shape)
        found = blurred(marked, task, rows, columns)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
        some = rows[::-2], columns[len(columns) // 2 :]
        np.testing.assert_array_equal(blurred(marked, task, *some), found[np.ix_(*some)])


def native_target(marked, task, clip=True):
    """The target of a square mask at its own size."""
    return scaled(unscaled_target(marked, task, Letterbox(*marked.shape, len(marked)), clip))


def test_targets_are_clipped_and_scaled():
    line, cross, places = *np.zeros((2, 21, 21), bool), np.arange(21)
    line[10] = cross[10] = cross[:, 10] = True
    blur = blurred(cross, "reflection", places, places)
    assert blurred(line, "reflection", places, places).max() == pytest.approx(CLIP["reflection"], abs=1e-6)  # hence it
    assert blur.max() > 0.3
    expected = np.minimum(blur, CLIP["reflection"]) / (CLIP["reflection"] + 1e-5)
    np.testing.assert_allclose(native_target(cross, "reflection"), expected, rtol=1e-6)
    point = mask(centres((10, 10, 0)), "rotation", 21, 21)
    target = native_target(point, "rotation")
    assert target.dtype == np.float32 and np.count_nonzero(target) == 121
    assert target[10, 10] == target.max() == pytest.approx(0.01 / (0.01 + 1e-5))
    assert blurred(point, "rotation", places, places).sum() == pytest.approx(1, abs=1e-5)


def star(axes, size=201):
    """A square mask with so many axes through its middle."""
    reach, middle = size, (size - 1) / 2
    angles = np.pi * (np.arange(axes) + 0.5) / axes
    ends = [(middle - reach * np.cos(a), middle - reach * np.sin(a)) for a in angles]
    through = ((x, y, 2 * middle - x, 2 * middle - y) for x, y in ends)
    return mask(Annotation(axes=tuple(ReflectionAxis(*end) for end in through)), "reflection", size, size)


@pytest.mark.parametrize(("axes", "clipped", "released"), [(1, 0.8, 1), (2, 0.8, 0.6), (4, 0.8, 0.4)])
def test_without_clipping_axes_sink_beside_a_crossing(axes, clipped, released):
    """As in the released loaders (docs/method.md, Training targets): at half of the axes' pixels, at least."""
    marked = star(axes)
    assert np.median(native_target(marked, "reflection")[marked]) > clipped
    assert np.median(native_target(marked, "reflection", clip=False)[marked]) < released
    places = np.arange(len(marked))
    raw = unscaled_target(marked, "reflection", Letterbox(*marked.shape, len(marked)), clip=False)
    np.testing.assert_array_equal(raw, blurred(marked, "reflection", places, places))


def test_a_target_fainter_than_the_clipping_value_is_scaled_by_its_own_maximum():
    marked = np.zeros((40, 40), bool)
    marked[20, 20] = True
    peak = blurred(marked, "reflection", np.arange(40), np.arange(40)).max()
    assert 0 < peak < CLIP["reflection"]
    assert native_target(marked, "reflection").max() == pytest.approx(peak / (peak + 1e-5))


def test_an_empty_target_stays_empty():
    assert not native_target(np.zeros((5, 5), bool), "reflection").any()


@checked
@given(st.lists(st.tuples(*[st.floats(-30, 60)] * 4), max_size=4), st.lists(st.floats(-20, 50), max_size=2))
def test_the_mask_is_where_an_instance_is(ends, places):
    annotation = Annotation(axes=axes(*ends).axes, discs=tuple(disc(x, 50 - x, 9.5) for x in places))
    found = mask(annotation, "reflection", 30, 40)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, reflection_instances(annotation, 30, 40) > 0)
