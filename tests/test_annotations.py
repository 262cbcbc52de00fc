"""Marks: the outline of an ellipse by hand, and what the small methods promise."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre

numbers = st.floats(-1e6, 1e6)
points = st.tuples(numbers, numbers)
annotations = st.builds(
    Annotation,
    axes=st.lists(st.builds(ReflectionAxis, numbers, numbers, numbers, numbers), max_size=3).map(tuple),
    discs=st.lists(st.lists(points, min_size=4, max_size=5).map(tuple).map(ReflectionDisc), max_size=3).map(tuple),
    centres=st.lists(st.builds(RotationCentre, numbers, numbers, st.integers(0, 30)), max_size=3).map(tuple),
)


def outline(*points):
    return np.array(ReflectionDisc(points).polygon())


def upright(centre, width, height):
    """The polygon of an ellipse that is not turned: 120 steps of three degrees, with 3.14 for pi."""
    steps = np.arange(120) * 3 * 3.14 / 180
    return np.stack([centre[0] + width * np.sin(steps), centre[1] + height * np.cos(steps)], axis=1)


def centroid(polygon):
    """The centre of area: triangles from the origin, weighed by their areas."""
    following = np.roll(polygon, -1, axis=0)
    (x, y), (next_x, next_y) = polygon.T, following.T
    areas = (x * next_y - y * next_x) / 2
    return ((polygon + following) / 3 * areas[:, None]).sum(axis=0) / areas.sum()


def test_upright_circle():
    polygon = outline((10, 5), (10, 15), (5, 10), (15, 10))
    np.testing.assert_allclose(polygon, upright((10, 10), 5, 5), atol=1e-12)
    np.testing.assert_allclose(polygon[[0, 30, 60, 90]], [(10, 15), (15, 10), (10, 5), (5, 10)], atol=0.02)
    assert not np.allclose(polygon[90], (5, 10), atol=0.01)  # three quarters round, 3.14 lags behind pi by 0.0024 rad


def test_upright_ellipse():
    np.testing.assert_allclose(outline((7, 8), (7, 12), (-1, 10), (15, 10)), upright((7, 10), 8, 2), atol=1e-12)


def test_four_points_have_their_mean_as_centre():
    top, bottom, left, right = (10, 5), (10, 15), (4, 10), (18, 10)  # mean: (10.5, 10)
    side = np.hypot(0.5, 5)
    np.testing.assert_allclose(outline(top, bottom, left, right), upright((10.5, 10), 7, side), atol=1e-12)


def test_five_points_name_the_centre_first():
    polygon = outline((10, 10), (10, 5), (10, 15), (4, 10), (18, 10))  # semi-axes: means of 6 and 8, 5 and 5
    np.testing.assert_allclose(polygon, upright((10, 10), 7, 5), atol=1e-12)


@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"),
    [
        ((23, 16), (17, 24), (12, 14), (28, 26)),  # leans to the right: semi-axes 5 along (3, -4) and 10 along (8, 6)
        ((17, 16), (23, 24), (12, 26), (28, 14)),  # leans to the left
        ((20.001, 15), (19.999, 25), (10, 20), (30, 20)),
    ],
)
def test_tilted_ellipse_passes_through_its_four_points(top, bottom, left, right):
    polygon = outline(top, bottom, left, right)
    np.testing.assert_allclose(polygon[[0, 30, 60, 90]], [bottom, right, top, left], atol=0.06)


def test_lying_ellipse():
    polygon = outline((15, 20), (25, 20), (20, 30), (20, 10))  # its "top" lies at the left
    np.testing.assert_allclose(polygon[[0, 60]], [(15, 20), (25, 20)], atol=0.06)
    np.testing.assert_allclose(np.ptp(polygon, axis=0), (10, 20), atol=0.02)


def test_a_tilted_ellipse_turns_about_the_centroid_of_its_polygon():
    centre, up, left = np.array([200.0, 100.0]), np.array([-30.0, -40.0]), np.array([-72.0, 54.0])
    polygon = outline(*map(tuple, (centre + up, centre - up, centre + left, centre - left)))
    unturned = upright(centre, 90, 50)
    assert np.abs(centroid(unturned) - centre).max() > 1e-5  # 3.14 is not pi, so that the two points differ
    np.testing.assert_allclose(centroid(polygon), centroid(unturned), atol=1e-9)


def test_an_ellipse_without_extent():
    np.testing.assert_allclose(outline(*[(3, 4)] * 4), [(3, 4)] * 120)


@pytest.mark.parametrize("count", [0, 2, 3, 6])
def test_an_ellipse_takes_four_or_five_points(count):
    with pytest.raises(ValueError, match=f"4 or 5 points.*got {count}"):
        ReflectionDisc(((0.0, 0.0),) * count)


@settings(derandomize=True, deadline=None)
@given(annotations)
def test_from_dict_inverts_to_dict(annotation):
    assert Annotation.from_dict(annotation.to_dict()) == annotation
    assert Annotation.from_dict(json.loads(json.dumps(annotation.to_dict()))) == annotation


@pytest.mark.parametrize(
    ("axis", "ends"),
    [
        ((1, 9, 2, 3), ((1, 9), (2, 3))),
        ((2, 3, 1, 9), ((1, 9), (2, 3))),
        ((5, 9, 5, 3), ((5, 9), (5, 3))),
        ((1.5, 0, 1.2, 7), ((1.2, 7), (1.5, 0))),
    ],
)
def test_ordered_ends(axis, ends):
    assert ReflectionAxis(*axis).ordered_ends() == ends


@pytest.mark.parametrize(
    ("marks", "tasks"),
    [
        ({}, set()),
        ({"axes": (ReflectionAxis(0, 0, 1, 1),)}, {"reflection"}),
        ({"discs": (ReflectionDisc(((0, 0),) * 4),)}, {"reflection"}),
        ({"centres": (RotationCentre(0, 0, 4),)}, {"rotation"}),
        ({"axes": (ReflectionAxis(0, 0, 1, 1),), "centres": (RotationCentre(0, 0, 0),)}, {"reflection", "rotation"}),
    ],
)
def test_serves(marks, tasks):
    assert {task for task in ("reflection", "rotation") if Annotation(**marks).serves(task)} == tasks
