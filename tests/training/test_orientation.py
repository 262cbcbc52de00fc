"""The orientation's map that EquiSym learns: places by hand, turns with the image, and the loss."""

import math

import numpy as np
import pytest
import torch

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.geometry import Letterbox, rotate
from pipeline.training.orientation import NONE, labels, orientation_map, with_orientation

SQUARE = Letterbox(101, 101, 101)


def places(annotation, degrees=0.0, task="reflection", letterbox=SQUARE):
    return orientation_map(annotation, task, letterbox, degrees)


def axis(angle, length=40, x=50, y=50):
    """Through a point, `angle` degrees anticlockwise from x as seen on the screen."""
    right, down = length * math.cos(math.radians(angle)), -length * math.sin(math.radians(angle))
    return Annotation(axes=(ReflectionAxis(x - right, y - down, x + right, y + down),))


@pytest.mark.parametrize(("angle", "place"), [(0, 3), (22.5, 4), (45, 5), (90, 7), (112.5, 0), (135, 1), (11.25, 3.5)])
def test_places_of_axes(angle, place):
    found = places(axis(angle))
    marked = found[found != NONE]
    assert len(marked) > 50 and np.allclose((marked - place + 4) % 8, 4, atol=1e-3)


@pytest.mark.parametrize("degrees", [0, 7.5, 90, -15, 200])
def test_turns_as_the_image_does(degrees):
    """The same pixels as those of the turned axis, and its place there."""
    straight = torch.from_numpy((places(axis(30)) != NONE).astype(np.float32))[None, None]
    turned = rotate(straight, degrees)[0, 0].numpy() > 0.2
    found = places(axis(30), degrees)
    near = rotate(torch.from_numpy((found != NONE).astype(np.float32))[None, None], -degrees)[0, 0].numpy() > 0.2
    assert not (turned & ~_wide(found != NONE)).any() and not (near & ~_wide(straight[0, 0].numpy() > 0)).any()
    expected = ((30 + degrees) / 22.5 + 3) % 8
    assert np.allclose(found[found != NONE], expected, atol=1e-3)


def _wide(mask):
    return torch.nn.functional.max_pool2d(torch.from_numpy(mask.astype(np.float32))[None], 5, 1, 2)[0].numpy() > 0


def test_letterboxed():
    """A tall image of 40 x 20 in a square of 80: its middle column is the square's."""
    marks = Annotation(axes=(ReflectionAxis(9.5, 2, 9.5, 37),))
    found = places(marks, letterbox=Letterbox(40, 20, 80))
    rows, columns = np.nonzero(found != NONE)
    assert set(columns) == {39} and 4 <= rows.min() <= 5 and 74 <= rows.max() <= 75


def disc(x, y, radius):
    return ReflectionDisc(((x, y - radius), (x, y + radius), (x - radius, y), (x + radius, y)))


def test_discs_are_crossed_by_axes_through_their_middle():
    marks = Annotation(axis(0).axes, discs=(disc(50, 50, 8), disc(50, 50, 30)))
    found = places(marks)
    assert found[50, 75] == pytest.approx(3) and found[25, 50] == pytest.approx(7) and found[30, 70] == pytest.approx(5)
    assert found[50, 55] == pytest.approx(3) and found[50, 88] == pytest.approx(3)  # the smaller disc; the axis outside
    apart = places(Annotation(discs=(disc(50, 50, 30), disc(60, 50, 5))))
    assert apart[47, 60] == pytest.approx(7) and found[47, 60] != pytest.approx(7)  # the smaller lies above


@pytest.mark.parametrize(("fold", "place"), [(0, 1), (2, 2), (3, 3), (8, 8), (29, 20), (13, 2)])
def test_places_of_centres(fold, place):
    found = places(Annotation(centres=(RotationCentre(20, 30, fold),)), task="rotation")
    assert found[30, 20] == place and (found != NONE).sum() == 1


def test_labels_reach_two_pixels_around():
    found = torch.full((1, 1, 9, 9), NONE)
    found[0, 0, 4, 2] = 3.25
    label = labels(found, 8)[0]
    assert (label > 0).sum() == 25 and (label[2:7, 0:5] == 4).all() and label[4, 5] == 0


@pytest.mark.parametrize(("place", "label"), [(7.6, 1), (7.4, 8), (0.0, 1), (3.5, 4), (3.51, 5)])
def test_the_nearest_class_on_the_circle(place, label):
    assert int(labels(torch.full((1, 1, 1, 1), place), 8)) == label


def test_the_nearer_class_wins_where_marks_meet():
    found = torch.tensor([[[[2.4, 5.0]]]])
    assert labels(found, 8).flatten().tolist() == [6, 6]


def test_the_loss_by_hand():
    """All logits zero: the cross-entropy is log(K + 1) times the weight of the class over the sum of weights."""
    outputs, targets = torch.zeros(1, 10, 1, 12), torch.zeros(1, 2, 1, 12)
    targets[:, 1] = NONE
    targets[0, 1, 0, 0] = 2.0
    seen = []

    def loss_of(logits, target):
        seen.append((logits.shape, target.shape))
        return torch.full_like(logits, 0.5)

    loss = with_orientation(outputs, targets, loss_of, background=0.01)
    assert seen == [((1, 1, 1, 12), (1, 1, 1, 12))] and loss.shape == (1, 1, 1, 12)
    weighted = [1.0] * 3 + [0.01] * 9
    expected = [0.5 + 2 * math.log(9) * weight / 8.01 for weight in weighted]
    assert loss.flatten().tolist() == pytest.approx(expected)
