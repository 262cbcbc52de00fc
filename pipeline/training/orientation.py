"""What EquiSym learns beside its axes or centres: at each of them the orientation, or the order (docs/equisym.md).

Classes lie on a circle: 8 orientations 22.5 degrees apart, or 21 orders. A place on it may lie between two.
Coordinates: x right, y down, pixels; angles anticlockwise as seen on the screen.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from pipeline.annotations import Annotation, Point
from pipeline.data.packed.targets import CONTINUOUS, rotation_orders
from pipeline.geometry import Letterbox
from pipeline.params.choices import Task

NONE = -1.0  # where no axis or centre is
APART, FIRST = 22.5, 3  # degrees; the class of axes along x
BACKGROUND: dict[Task, float] = {"reflection": 0.01, "rotation": 0.001}  # its weight beside that of an orientation
WIDE = 5  # pixels: a mark counts as far around it
COUNTS = 2  # times: as released, in the loss and once more beside it


def orientation_map(annotation: Annotation, task: Task, letterbox: Letterbox, degrees: float) -> np.ndarray:
    """float32 [S, S]: the place on the circle of classes where a mark lies, NONE elsewhere, once the letterboxed image
    is turned about its centre.
    """
    size, middle = letterbox.size, (letterbox.size - 1) / 2
    (top, left), (height, width) = letterbox.offset, letterbox.content
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def move(x: float, y: float) -> Point:
        x = left + (x + 0.5) * width / letterbox.width - 0.5 - middle
        y = top + (y + 0.5) * height / letterbox.height - 0.5 - middle
        return middle + cos * x + sin * y, middle - sin * x + cos * y

    moved = annotation.moved(move)
    if task == "rotation":
        orders = rotation_orders(moved, size, size).astype(np.float32)
        return np.where(orders == 0, NONE, np.where(orders == CONTINUOUS, 0, orders) + 1).astype(np.float32)
    return _reflection(moved, size)


def _reflection(annotation: Annotation, size: int) -> np.ndarray:
    """Smaller discs lie over larger ones, and all of them over axes; within a disc axes go through its middle."""
    canvas = Image.new("F", (size, size), NONE)
    draw = ImageDraw.Draw(canvas)
    for axis in annotation.axes:
        (x1, y1), (x2, y2) = axis.ordered_ends()
        draw.line([(int(x1), int(y1)), (int(x2), int(y2))], fill=float(_place(x2 - x1, y2 - y1)))
    places, found = np.array(canvas), []
    for disc in annotation.discs:
        mask = Image.new("L", (size, size))
        ImageDraw.Draw(mask).polygon([(int(x), int(y)) for x, y in disc.polygon()], fill=1)
        found.append((np.nonzero(np.asarray(mask)), *np.mean(disc.points[-4:], axis=0)))
    for (rows, columns), x, y in sorted(found, key=lambda disc: -len(disc[0][0])):
        places[rows, columns] = _place(columns - x, rows - y)
    return places


def _place(right: np.ndarray | float, down: np.ndarray | float) -> np.ndarray:
    """Of a direction, in 0..8: of an axis at 22.5 k degrees to the x axis k + 3."""
    return (np.degrees(np.arctan2(-np.asarray(down), right)) / APART + FIRST) % 8


def with_orientation(
    outputs: torch.Tensor,
    targets: torch.Tensor,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    background: float,
) -> torch.Tensor:
    """The loss per pixel, [B, 1, S, S]: `loss_of` axes or centres, and the cross-entropy of the orientation.

    outputs: [B, 2 + K, S, S]: logits of the axes or centres, of the background, and of K orientations
    targets: [B, 2, S, S]: the target of the former, and the orientation's place
    """
    logits, classes = outputs[:, :1], outputs[:, 1:]
    weight = torch.ones(classes.shape[1], device=outputs.device)
    weight[0] = background
    label = labels(targets[:, 1:], classes.shape[1] - 1)
    cross = F.cross_entropy(classes.float(), label, weight, reduction="none") / weight.sum()
    return loss_of(logits, targets[:, :1]) + COUNTS * cross[:, None]


def labels(places: torch.Tensor, count: int) -> torch.Tensor:
    """Places on a circle of `count` classes, [B, 1, S, S] -> long [B, S, S]: 0 for the background, then the nearest
    class of a mark within two pixels.
    """
    apart = (places - torch.arange(count, device=places.device).view(1, -1, 1, 1)).abs()
    near = (1 - torch.minimum(apart, count - apart)).clamp(min=0) * (places != NONE)
    strongest, label = F.max_pool2d(near, WIDE, stride=1, padding=WIDE // 2).max(dim=1)
    return torch.where(strongest > 0, label + 1, 0)
