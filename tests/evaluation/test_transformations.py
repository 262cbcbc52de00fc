"""The transformations of the robustness study: maps and masks go the same way, the disc stays."""

import numpy as np
import pytest
import torch

from pipeline.annotations import Annotation, ReflectionAxis
from pipeline.data.packed.targets import mask
from pipeline.evaluation.transformations import TILT, TRANSFORMATIONS, disc, tilt, transformed, transformed_mask
from pipeline.geometry import rotate
from pipeline.scoring.f1 import dilate

ANGLES = [-45.0, -31.7, 0.0, 7.0, 45.0]
SIZES = [32, 33]


def smooth(size, batch=1):
    """Maps that interpolation hardly changes."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    return torch.stack([torch.stack([x + 0.5 * y, (2 * x).sin() * y]) * (1 + n) for n in range(batch)])


def painted(*ends, size=200):
    return mask(Annotation(axes=(ReflectionAxis(*ends),)), "reflection", size, size)


def test_by_hand():
    maps, marks = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([[True, False], [False, False]])
    assert transformed(maps, "quarter_turn", [0]).tolist() == [[[[2, 4], [1, 3]]]]  # anticlockwise
    assert transformed(maps, "flip", [0]).tolist() == [[[[2, 1], [4, 3]]]]
    assert torch.equal(transformed(maps, "identity", [0]), maps)
    assert np.argwhere(transformed_mask(marks, "quarter_turn", 0)).tolist() == [[1, 0]]
    assert np.argwhere(transformed_mask(marks, "flip", 0)).tolist() == [[0, 1]]


def test_rotation_turns_as_the_quarter_turn_does():
    maps, marks = torch.rand(1, 2, 9, 9), np.random.default_rng(0).random((9, 9)) < 0.3
    torch.testing.assert_close(transformed(maps, "rotation", [90.0]), transformed(maps, "quarter_turn", [0]))
    turned = transformed_mask(marks, "rotation", 90.0)
    np.testing.assert_array_equal(turned, transformed_mask(marks, "quarter_turn", 0))


@pytest.mark.parametrize("size", SIZES)
def test_inverses(size):
    maps = smooth(size, batch=len(ANGLES))
    assert torch.equal(transformed(transformed(maps, "flip", ANGLES), "flip", ANGLES), maps)
    turned = maps
    for _ in range(4):
        turned = transformed(turned, "quarter_turn", ANGLES)
    assert torch.equal(turned, maps) and not torch.equal(transformed(maps, "quarter_turn", ANGLES), maps)
    back = transformed(transformed(maps, "rotation", ANGLES), "rotation", [-angle for angle in ANGLES])
    assert ((back - maps)[..., disc(size, 3)].abs() < 0.03).all()


def test_each_map_turns_by_its_own_angle():
    maps = smooth(32, batch=len(ANGLES))
    turned = transformed(maps, "rotation", ANGLES)
    for number, angle in enumerate(ANGLES):
        torch.testing.assert_close(turned[number : number + 1], rotate(maps[number : number + 1], angle))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_the_disc_stays(size, name):
    maps = disc(size).float().expand(len(ANGLES), 1, size, size)
    turned = transformed(maps, name, ANGLES)
    if name == "rotation":
        assert (turned[..., disc(size, 1.5)] > 1 - 1e-4).all() and not turned[..., ~disc(size, -1.5)].any()
    else:
        assert torch.equal(turned, maps)


def test_the_disc_by_hand():
    assert disc(4).int().tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]
    assert disc(4, margin=1).sum() == 4 and disc(3).sum() == 9 and disc(3, margin=0.5).sum() == 5


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("angle", ANGLES)
def test_masks_go_where_maps_go(name, angle):
    marks = np.zeros((41, 41), bool)
    marks[11:14, 25:28] = True
    moved = transformed_mask(marks, name, angle)
    heat = transformed(torch.from_numpy(marks).float()[None, None], name, [angle])[0, 0].numpy()
    np.testing.assert_allclose(np.argwhere(moved).mean(0), np.argwhere(heat > 0.5).mean(0), atol=0.4)


@pytest.mark.parametrize("angle", ANGLES)
def test_no_point_is_lost_within_the_square(angle):
    generator = np.random.default_rng(5)
    for row, column in generator.integers(12, 29, (40, 2)):
        point = np.zeros((41, 41), bool)
        point[row, column] = True
        assert transformed_mask(point, "rotation", angle).sum() == 1
    corner = np.zeros((41, 41), bool)
    corner[0, 0] = True
    assert transformed_mask(corner, "rotation", 45.0).sum() == 0


@pytest.mark.parametrize("angle", [-45.0, -23.0, 10.0, 38.5])
def test_a_turned_line_is_the_line_between_the_turned_ends(angle):
    ends, radians = np.array([[55.5, 60.5], [150.5, 131.5]]), np.radians(angle)
    x, y = (ends - 100).T
    turned_x, turned_y = x * np.cos(radians) + y * np.sin(radians), y * np.cos(radians) - x * np.sin(radians)
    expected = dilate(painted(*np.stack([turned_x + 100, turned_y + 100], 1).ravel()))
    found = dilate(transformed_mask(painted(*ends.ravel()), "rotation", angle))
    assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.95  # half a pixel of eleven
    assert found.sum() / expected.sum() == pytest.approx(1, abs=0.06)


def test_dilation_closes_the_gaps_of_a_turned_area():
    area = np.zeros((120, 120), bool)
    area[30:90, 30:90] = True
    turned = transformed_mask(area, "rotation", 45.0)
    middle = slice(45, 75)
    assert not turned[middle, middle].all() and dilate(turned)[middle, middle].all()


def test_angles_are_drawn_from_seed_and_number_alone():
    angles = [tilt(3, number) for number in range(200)]
    assert angles == [tilt(3, number) for number in range(200)] and angles[1] != tilt(4, 1)
    assert len(set(angles)) == 200 and max(map(abs, angles)) <= TILT == 45
    assert abs(np.mean(angles)) < 6 and max(angles) > 40 and min(angles) < -40
