"""What no training made: the classical detector's axes and centres as heat maps, and maps that look at no image."""

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre, Sample
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.prepare import pack
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.evaluation.baselines import baselines, centre_map, centre_mark, drawn, random_map
from tests.evaluation.test_classical import dial, mirrored

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


def test_axes_are_drawn_one_pixel_wide_with_their_score():
    heat = drawn(
        [DetectedAxis(1, 0, 1, 9, 0.5), DetectedAxis(-3, 2.4, 2.6, 1.6, 0.75), DetectedAxis(0, 2, 2, 2, 0.1)], 4, 5
    )
    assert heat.dtype == np.float32
    np.testing.assert_array_equal(
        heat, [[0, 0.5, 0, 0, 0], [0, 0.5, 0, 0, 0], [0.75, 0.75, 0.75, 0.75, 0], [0, 0.5, 0, 0, 0]]
    )


def test_centres_are_drawn_on_their_pixels():
    heat = drawn([DetectedCentre(3.4, 0.6, 0.5), DetectedCentre(-1, 0, 0.9), DetectedCentre(2.8, 1, 0.25)], 2, 4)
    np.testing.assert_array_equal(heat, [[0, 0, 0, 0], [0, 0, 0, 0.5]])
    assert not drawn([], 2, 4).any()


def test_the_mark_of_the_centre_map_is_its_highest_place():
    assert centre_mark(5, 8, "reflection") == [DetectedAxis(3.5, 0, 3.5, 4, 1)]
    assert centre_mark(5, 8, "rotation") == [DetectedCentre(3.5, 2, 1)]


def packed(folder, task, pictures):
    """A split of these pairs of a picture and its marks."""
    samples = []
    for number, (pixels, marks) in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number}.png")
        samples.append(Sample(f"{number}", folder / f"{number}.png", marks))
    pack(samples, task, 320, folder / "some" / "test.safetensors", "test")
    return PackedSplit(folder / "some" / "test.safetensors", task)


def test_axes_of_mirrored_pictures(tmp_path):
    """One axis is the centre line; that of the wider picture is not."""
    wide = np.pad(mirrored(), ((0, 0), (160, 0), (0, 0)), constant_values=90)
    marks = [Annotation(axes=(ReflectionAxis(x, 0, x, 255),)) for x in (159.5, 319.5)]
    split = packed(tmp_path, "reflection", [(mirrored(), marks[0]), (wide, marks[1])])
    found = baselines([split], "reflection", 0)
    assert list(found) == ["classical", "centre map", "random map"]
    assert found["classical"]["axes"]["top1"] == 1 and found["centre map"]["axes"]["top1"] == 0.5
    assert found["classical"]["max_f1"] > 0.7 > found["centre map"]["max_f1"] > found["random map"]["max_f1"] > 0


def test_centres_of_dials_and_their_folds(tmp_path):
    pictures = [(dial(fold), Annotation(centres=(RotationCentre(127.5, 127.5, fold),))) for fold in (3, 5)]
    found = baselines([packed(tmp_path, "rotation", pictures)], "rotation", 0)
    assert found["classical"]["centres"]["top1"] == found["centre map"]["centres"]["top1"] == 1
    assert found["classical"]["centres"]["fold_sap"]["released"]["5"] > 0.5 and found["classical"]["max_f1"] > 0.8


def test_without_images_or_marks_there_is_no_figure(tmp_path):
    empty = packed(tmp_path, "rotation", [(np.full((40, 30, 3), 90, np.uint8), Annotation())])
    for splits in ([], [empty]):
        found = baselines(splits, "rotation", 0)
        assert [scores["max_f1"] for scores in found.values()] == [None] * 3
        assert found["classical"]["centres"]["max_f1"] is None
