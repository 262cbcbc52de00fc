"""Views for the training of the folds."""

import numpy as np
import pytest

from pipeline.data.synthesis.discs import discs, framed, seen

GROUND = np.full((60, 80, 3), 50, np.uint8)


def test_the_place_is_the_middle_of_a_disc():
    """White discs on black: alike all around."""
    for number in range(20):
        image, ((x, y, _), *_) = discs(np.random.default_rng(number), 0 * GROUND, [GROUND * 5])
        assert image.shape == (60, 80, 3) and image.dtype == np.uint8
        assert -0.5 <= x <= 79.5 and -0.5 <= y <= 59.5
        assert image[round(y), round(x)].mean() > 100


def test_all_places_are_told():
    """Beyond the shadows of the discs that were told the ground is as it was."""
    for number in range(20):
        plain = np.full((120, 160, 3), 50, np.uint8)
        image, places = discs(np.random.default_rng(number), plain, [plain * 5])
        y, x = np.indices(image.shape[:2])
        outside = np.all([np.hypot(x - a, y - b) > 1.2 * r + 8 for a, b, r in places], axis=0)
        assert (image[outside] == 50).all()


def test_a_frame_keeps_what_is_around_the_centre():
    picture = np.random.default_rng(0).integers(100, 200, (200, 300, 3), dtype=np.uint8)
    for number in range(5):
        image, x, y = framed(np.random.default_rng(number), picture, 140, 90, GROUND)
        assert (x, y) == (140, 90) and image.shape == picture.shape
        np.testing.assert_allclose(image[85:96, 135:146].astype(int), picture[85:96, 135:146], atol=1)
    assert any((framed(np.random.default_rng(n), picture, 140, 90, GROUND)[0][0, 0] == 50).all() for n in range(5))


@pytest.mark.parametrize("number", range(5))
def test_a_view_shows_its_place(number):
    """A bright spot stays within some hundredths of the longer side of the place that is told."""
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[88:93, 138:143] = 255
    image, x, y = seen(np.random.default_rng(number), picture, 140, 90)
    assert 150 <= image.shape[1] <= 300 and image.shape[0] == pytest.approx(image.shape[1] * 2 / 3, abs=1)
    rows, columns = np.nonzero(image.max(2) > 128)
    assert np.hypot(columns.mean() - x, rows.mean() - y) < 0.03 * image.shape[1]
    again = seen(np.random.default_rng(number), picture, 140, 90)
    np.testing.assert_array_equal(image, again[0])
