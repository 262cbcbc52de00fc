"""The fold of a centre: exact dials and discs, pictures turned, scaled and large, and composites."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

from pipeline.data.synthesis.backdrops import Backdrops
from pipeline.data.synthesis.composites import compose, source
from pipeline.data.synthesis.synthetic import RECIPES
from pipeline.detection.centres import DetectedCentre
from pipeline.detection.folds import FOLDS, LONGEST, probabilities, ring_powers, with_folds

SIDE = 256


def dial(fold, corner=(150, 100), side=SIDE):
    """uint8 [side, side, 3]: a sector of a photograph, copied `fold` times around the middle; 0: along every circle."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * SIDE / side
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    angle = angle % (2 * math.pi / fold) if fold else np.full_like(angle, 0.7)
    column, row = corner[0] + radius * np.cos(angle), corner[1] + radius * np.sin(angle)
    content = data.astronaut()[row.astype(int), column.astype(int)]
    return np.where((radius < 70)[..., None], content, 128).astype(np.uint8)


def told(image, x=None, y=None):
    """The fold at a place, by default the middle."""
    height, width = image.shape[:2]
    (centre,) = with_folds(
        image, [DetectedCentre((width - 1) / 2 if x is None else x, (height - 1) / 2 if y is None else y, 0.5)]
    )
    return centre.fold


@pytest.mark.parametrize("fold", FOLDS)
def test_exact_dials(fold):
    assert told(dial(fold)) == fold


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("degrees", [17, 90, 200])
def test_a_turn_changes_no_fold(fold, degrees):
    image = Image.fromarray(dial(fold)).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128,) * 3)
    assert told(np.asarray(image)) == fold


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("side", [160, 512, 1500])
def test_the_size_changes_no_fold(fold, side):
    assert told(np.asarray(Image.fromarray(dial(fold)).resize((side, side), Image.Resampling.BICUBIC))) == fold


def test_fine_stripes_of_a_large_picture_do_not_alias():
    """Grey from afar, sectors around the middle from near."""
    stripes = np.zeros((1760, 1760, 3), np.uint8)
    stripes[::2] = 255
    plain = np.asarray(Image.fromarray(dial(4)).resize((1760, 1760)))
    assert told(np.where(np.abs(plain.astype(int) - 128).max(2, keepdims=True) < 3, stripes, plain)) == 4


def test_places_are_those_of_the_image_itself():
    wide = np.full((600, 900, 3), 128, np.uint8)
    wide[20 : 20 + SIDE, 500 : 500 + SIDE] = dial(5)
    assert max(wide.shape) > LONGEST and told(wide, 627.5, 147.5) == 5 and told(wide, 200, 450) is None


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (9, 300), (64, 64), (1000, 3)])
def test_nothing_is_told_where_nothing_is(shape):
    assert told(np.full((*shape, 3), 90, np.uint8)) is None
    assert told(np.full((*shape, 3), 90, np.uint8), 0, 0) is None


def test_small_pictures_and_places_outside_are_no_error():
    noise = np.random.default_rng(0).integers(0, 256, (12, 7, 3), dtype=np.uint8)
    for x, y in ((3, 6), (0, 0), (-5, 40)):
        assert told(noise, x, y) in (None, *FOLDS)
        assert np.isfinite(ring_powers(noise, x, y)).all()
    assert with_folds(noise, []) == []


def test_all_else_of_a_centre_stays():
    centre = DetectedCentre(127.5, 127.5, 0.75)
    assert with_folds(dial(3), [centre]) == [centre._replace(fold=3)]


def test_probabilities():
    some = probabilities(np.stack([ring_powers(dial(fold), 127.5, 127.5) for fold in FOLDS]))
    assert some.shape == (len(FOLDS), len(FOLDS))
    np.testing.assert_allclose(some.sum(1), 1, rtol=1e-5)


def test_a_coin_is_round_by_its_rim():
    """A picture inside, plain ground outside."""
    y, x = np.mgrid[:SIDE, :SIDE] - 127.5
    for radius, picture in ((30, data.coffee()), (50, data.astronaut()), (60, data.chelsea())):
        inside = np.asarray(
            Image.fromarray(picture[:200, 100:300]).resize((SIDE, SIDE)).filter(ImageFilter.GaussianBlur(1))
        )
        face = 170 + 0.4 * (inside - inside.mean())
        assert told(np.where(np.hypot(x, y)[..., None] < radius, face, 60).astype(np.uint8)) == 0


def test_composites():
    """Of photographs that the network has not seen, with the centre known."""
    photographs = [
        source(Image.fromarray(picture())) for picture in (data.astronaut, data.coffee, data.chelsea, data.rocket)
    ]
    recipe = replace(RECIPES["rotation"], rotations=(1,), round=0.0)
    right = total = 0
    for number in range(60):
        image, marks = compose(np.random.default_rng(number), photographs, Backdrops(photographs), (264, 352), recipe)
        found = with_folds(image, [DetectedCentre(centre.x, centre.y, 1) for centre in marks.centres])
        right += sum(one.fold == centre.fold for one, centre in zip(found, marks.centres))
        total += len(found)
    assert total == 60 and right / total > 0.85
