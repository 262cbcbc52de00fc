"""The pictures that are shown: heat, lines, crosses and words."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.inference import overlay
from pipeline.inference.detection import Detection

GREEN, PINK, ORANGE, DARK = (60, 230, 90), (255, 70, 200), np.array([255, 60, 0]), (15, 15, 15)


def detection(axes=(), centres=(), height=300, width=400, heat=0.0):
    """On a grey picture."""
    task = "rotation" if centres else "reflection"
    pixels, heat_map = np.full((height, width, 3), 128, np.uint8), np.full((height, width), heat, np.float32)
    return Detection(task, heat_map, tuple(axes), tuple(centres), 0.9, 0.5, pixels)


def where(picture, colour):
    """Rows and columns of the pixels of a colour, or nearly so: letters have soft edges."""
    return np.argwhere((np.abs(np.asarray(picture).astype(int) - colour) < 60).all(2))


def test_axes_and_centres_with_a_dark_rim():
    marked = np.asarray(detection([DetectedAxis(50, 150, 350, 150, 0.9)]).overlay())
    assert marked.shape == (300, 400, 3) and tuple(marked[150, 100]) == GREEN
    assert tuple(marked[149, 100]) == tuple(marked[152, 100]) == DARK and tuple(marked[153, 100]) == (128,) * 3
    centre = np.asarray(detection(centres=[DetectedCentre(200, 100, 0.9)]).overlay())
    assert tuple(centre[100, 200]) == tuple(centre[100, 192]) == tuple(centre[92, 200]) == PINK


@pytest.mark.parametrize("height, width", [(150, 200), (3000, 4000)])
@pytest.mark.parametrize("axis", [(0.5, 0.2, 0.5, 0.8), (0, 0.5, 1, 0.5), (0.1, 0.1, 0.4, 0.9), (0, 0, 0, 0.9)])
def test_a_score_stands_beside_its_line(height, width, axis):
    """In the picture, as large as a 40th of it or 12 pixels, and not on the line."""
    x1, y1, x2, y2 = (place * side for place, side in zip(axis, (width - 1, height - 1) * 2))
    found = detection([DetectedAxis(x1, y1, x2, y2, 0.73)], height=height, width=width)
    pen = overlay._Pen(found.overlay())
    places = where(found.overlay(), GREEN).astype(float)
    along = np.array([x2 - x1, y2 - y1]) / np.hypot(x2 - x1, y2 - y1)
    across = np.abs((places[:, 1] - x1) * along[1] - (places[:, 0] - y1) * along[0])
    letters = places[across > 2 * pen.width]
    size = max(12, max(height, width) / 40)
    assert len(letters) > 0.2 * size**2  # four letters
    assert (np.ptp(letters, axis=0) < [size, 2.6 * size]).all() and np.ptp(letters[:, 0]) > 0.5 * size
    assert across[across > 2 * pen.width].min() < 3 * size


def test_words_do_not_cover_each_other():
    """Nor are any alike: each tells its own score and, where known, its fold."""
    axes = [DetectedAxis(x, 20, x, 280, 0.9 - x / 1000) for x in range(180, 220, 10)]
    pen = overlay._Pen(detection().overlay())
    for axis in axes:
        pen.beside_line(axis, f"{axis.score:.2f}")
    assert len(pen._taken) == 4
    assert not [(a, b) for a in pen._taken for b in pen._taken if a is not b and overlay._meet(a, b)]
    plain, folded = (np.asarray(detection(centres=[DetectedCentre(200, 100, 0.9, n)]).overlay()) for n in (None, 5))
    assert len(where(folded, PINK)) > len(where(plain, PINK)) + 50


def test_an_image_without_marks_says_so():
    """And one with marks does not."""
    picture = np.asarray(detection().overlay())
    words = where(picture, (255, 255, 255))
    assert len(words) > 100 and words.max(0)[0] < 20
    np.testing.assert_array_equal(picture[30:], detection().image[30:])
    assert not len(where(detection([DetectedAxis(50, 150, 350, 150, 0.9)]).overlay(), (255, 255, 255)))


def test_cool_parts_stay_as_they_are_and_heat_is_mixed_in(monkeypatch):
    monkeypatch.setattr(overlay, "ROWS", 16)
    monkeypatch.setattr(overlay._Pen, "text", lambda *_: None)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    heat = np.random.default_rng(1).random((50, 70), np.float32)
    found = Detection("reflection", heat, (), (), 0.9, 0.5, pixels)
    weight = 0.75 * np.clip((heat[..., None] - overlay.FLOOR) / (1 - overlay.FLOOR), 0, 1)
    expected = (pixels * (1 - weight) + weight * ORANGE).astype(np.uint8)
    drawn = np.asarray(found.overlay())
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(drawn[heat <= 0.2], pixels[heat <= 0.2])
    assert (drawn[heat > 0.3] != pixels[heat > 0.3]).any(1).mean() > 0.9
    np.testing.assert_array_equal(np.asarray(found.overlay(heat=False)), pixels)
    cool = replace(found, heatmap=np.full((50, 70), 0.15, np.float32))
    np.testing.assert_array_equal(np.asarray(cool.overlay()), pixels)


@pytest.mark.parametrize("height, width", [(1, 1), (9, 9), (2, 5000)])
def test_pictures_of_any_size(height, width):
    for found in (detection(height=height, width=width), detection([DetectedAxis(0, 0, 1, 1, 0.5)], (), height, width)):
        assert found.overlay().size == (width, height)
