"""Marks that cannot be meant are mended, and nothing else is touched."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.data.packed.targets import mask
from pipeline.data.preparation.repair import FAR_OUT, aligned, crosses, exchanged, outside, points, repaired
from pipeline.data.reading.images import Photograph
from pipeline.errors import DataError

WIDTH, HEIGHT = 40, 20


def axes(*ends):
    return Annotation(axes=tuple(ReflectionAxis(*end) for end in ends))


def disc(x, y, radius):
    return ReflectionDisc(((x, y), (x, y - radius), (x, y + radius), (x - radius, y), (x + radius, y)))


ends = st.tuples(*[st.integers(0, 19)] * 4).filter(lambda end: end[:2] != end[2:])
discs = st.builds(disc, st.floats(5, 14), st.floats(5, 14), st.floats(1, 5))
centres = st.builds(RotationCentre, st.floats(0, 19), st.floats(0, 19), st.integers(0, 9))
inside = st.builds(
    Annotation,
    axes=st.lists(ends.map(lambda end: ReflectionAxis(*end)), max_size=3).map(tuple),
    discs=st.lists(discs, max_size=2).map(tuple),
    centres=st.lists(centres, max_size=2).map(tuple),
)


@given(inside)
def test_sound_marks_stay_as_they_are(annotation):
    assert repaired(annotation, WIDTH, HEIGHT) == (annotation, [])
    assert outside(annotation, WIDTH, HEIGHT) == 0


@given(inside)
def test_exchanging_twice_changes_nothing(annotation):
    assert exchanged(exchanged(annotation)) == annotation
    assert [(y, x) for x, y in points(exchanged(annotation))] == list(points(annotation))


def test_exchanged_coordinates():
    meant = Annotation(axes((30, 2, 35, 18)).axes, (disc(30, 10, 4),), (RotationCentre(33, 5, 3),))
    mended, changes = repaired(exchanged(meant), WIDTH, HEIGHT)
    assert mended == meant and [what for what, _ in changes] == ["x and y exchanged"]
    assert repaired(exchanged(meant), HEIGHT, WIDTH) == (exchanged(meant), [])  # there it fits


def test_marks_a_little_outside_are_not_exchanged():
    edge = WIDTH * (1 + FAR_OUT) - 0.5
    slightly = axes((5, 3, edge, 12))
    assert outside(exchanged(slightly), WIDTH, HEIGHT) > 0
    assert repaired(slightly, WIDTH, HEIGHT) == (slightly, [])
    drawn_past = axes((1, 2, 3, HEIGHT * (1 + FAR_OUT) - 0.1))
    assert outside(exchanged(drawn_past), WIDTH, HEIGHT) == 0
    assert repaired(drawn_past, WIDTH, HEIGHT) == (drawn_past, [])


def test_marks_outside_either_way_are_not_exchanged():
    either = axes((5, 30, 50, 31), (3, 3, 9, 9))
    assert repaired(either, WIDTH, HEIGHT)[0].axes == either.axes[1:]


@pytest.mark.parametrize("end", [(7, 8, 7, 8), (7, 8, 7.9, 8.5), (7.2, 8, 6.5, 8.9)])
def test_an_axis_without_length_is_left_out(end):
    mended, changes = repaired(axes(end, (1, 1, 9, 9)), WIDTH, HEIGHT)
    assert mended == axes((1, 1, 9, 9))
    assert [what for what, _ in changes] == ["axis without length left out"] and "(7" in changes[0][1]


def test_what_lies_outside_is_left_out():
    gone = Annotation(
        axes((-9, 2, -1, 15), (1, 20, 30, 25), (-5, 10, 5, 35)).axes,
        (disc(60, 10, 4), disc(10, -9, 4)),
        (RotationCentre(40, 3, 2), RotationCentre(3, -1, 2)),
    )
    kept = Annotation(
        axes((-9, 2, 5, 15), (-5, 10, 10, 12), (-0.5, 2, -0.5, 9)).axes,
        (disc(42, 10, 4),),
        (RotationCentre(39.9, 19.9, 2), RotationCentre(-0.9, 3, 2)),
    )
    both = Annotation(gone.axes + kept.axes, gone.discs + kept.discs, gone.centres + kept.centres)
    mended, changes = repaired(both, WIDTH, HEIGHT)
    assert mended == kept and [what for what, _ in changes] == ["mark outside the image left out"] * 7


@given(st.tuples(*[st.floats(-60, 80)] * 4))
def test_an_axis_that_leaves_a_mark_crosses_the_image(ends):
    axis = ReflectionAxis(*ends)
    if mask(Annotation(axes=(axis,)), "reflection", HEIGHT, WIDTH).any():
        x1, y1, x2, y2 = (int(end) for end in ends)  # what is painted
        assert crosses(axis, WIDTH, HEIGHT) or crosses(ReflectionAxis(x1, y1, x2, y2), WIDTH, HEIGHT)


def test_crosses():
    assert crosses(ReflectionAxis(-10, -10, 50, 30), WIDTH, HEIGHT)  # both ends outside
    assert crosses(ReflectionAxis(10, 10, 10, 10), WIDTH, HEIGHT)
    assert not crosses(ReflectionAxis(-10, 5, 10, -12), WIDTH, HEIGHT)  # past the corner
    assert not crosses(ReflectionAxis(50, 0, 50, 20), WIDTH, HEIGHT)


STORED, LYING, TURNED_OVER = (30, 60), 6, 3  # width and height of the photograph's pixels; orientations


@pytest.mark.parametrize(
    ("drawn", "orientation", "point", "expected", "turned"),
    [
        ((30, 60), 1, (10, 20), (10, 20), False),
        ((60, 120), 1, (10, 20), (5, 10), False),
        ((59, 117), 1, (59, 117), (30, 60), False),  # rounded: 58.5 x 117
        ((10, 20), 1, (10, 20), (30, 60), False),
        ((60, 30), LYING, (50, 20), (50, 20), True),
        ((30, 60), LYING, (20, 50), (20, 50), False),  # a tool that does not turn photographs
        ((120, 60), LYING, (50, 20), (25, 10), True),
        ((60, 120), LYING, (20, 50), (10, 25), False),
        ((30, 60), TURNED_OVER, (20, 50), (20, 50), True),  # the size does not tell
        ((15, 30), TURNED_OVER, (10, 25), (20, 50), True),
        (None, LYING, (50, 20), (50, 20), True),
        (None, LYING, (20, 50), (20, 50), False),
    ],
)
def test_the_size_that_was_drawn_on_tells_turn_and_scale(drawn, orientation, point, expected, turned):
    photograph = Photograph(np.zeros((*STORED[::-1], 3), np.uint8), "JPEG", "RGB", orientation)
    marks = Annotation(centres=(RotationCentre(*point, 4),))
    found, done, changes = aligned(Sample("a", Path("a.jpg"), marks, drawn), photograph)
    (centre,) = found.centres
    assert (centre.x, centre.y) == pytest.approx(expected) and done == turned
    assert [what for what, _ in changes] == ["marks scaled to the image"] * (expected != point) + [
        "turned as EXIF says"
    ] * turned


@pytest.mark.parametrize("drawn", [(30, 30), (60, 61), (66, 120), (200, 30)])
@pytest.mark.parametrize("orientation", [1, TURNED_OVER, LYING])
def test_another_image_than_the_one_that_was_marked(drawn, orientation):
    photograph = Photograph(np.zeros((*STORED[::-1], 3), np.uint8), "JPEG", "RGB", orientation)
    with pytest.raises(DataError, match=f"a.jpg: its marks were drawn on an image of {drawn[0]} x {drawn[1]} pixels"):
        aligned(Sample("a", Path("a.jpg"), Annotation(), drawn), photograph)
