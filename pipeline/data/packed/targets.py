"""Annotation -> native mask, instance map and training target.

Maps are [height, width] arrays in pixels of the native image, x right, y down. Painting follows the released code:
PIL's rules without anti-aliasing, coordinates truncated (not rounded), what lies outside is clipped.
"""

from collections.abc import Iterable
from itertools import repeat

import numpy as np
from PIL import Image, ImageDraw

from pipeline.annotations import Annotation
from pipeline.geometry import Letterbox

# The orders of rotation that DENDI tells apart; an order outside counts as class 1, continuous (0) is painted as 255.
FOLDS = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 20, 22, 26, 28, 29]
UNLISTED_FOLD, CONTINUOUS = 1, 255

# Task -> side of the Gaussian kernel and the value that the blurred mask is clipped at (the released loader of DENDI).
BLUR = {"reflection": (5, 0.21260943), "rotation": (11, 0.01)}
BLUR_SIGMA = 4.0


def reflection_instances(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """int32 [height, width]: axis k as k + 1, 1 px wide; ellipse k filled as 1001 + k; the maximum where they meet."""
    axes, discs = range(1, 1 + len(annotation.axes)), range(1001, 1001 + len(annotation.discs))
    return np.array(_painted(annotation, Image.new("I", (width, height)), axes, discs), np.int32)


def _painted(annotation: Annotation, canvas: Image.Image, axes: Iterable[int], discs: Iterable[int]) -> Image.Image:
    """The canvas with every axis and every disc in its value, later ones over earlier ones."""
    draw = ImageDraw.Draw(canvas)
    for axis, value in zip(annotation.axes, axes):
        draw.line([(int(x), int(y)) for x, y in axis.ordered_ends()], fill=value)
    for disc, value in zip(annotation.discs, discs):
        draw.polygon([(int(x), int(y)) for x, y in disc.polygon()], fill=value)
    return canvas


def rotation_orders(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """int32 [height, width]: the class of the order at each rotation centre inside the image, 0 elsewhere.

    Where centres coincide the larger value stands.
    """
    orders = np.zeros((height, width), np.int32)
    for centre in annotation.centres:
        x, y = int(centre.x), int(centre.y)
        if 0 <= x < width and 0 <= y < height:
            index = FOLDS.index(centre.fold) if centre.fold in FOLDS else UNLISTED_FOLD
            orders[y, x] = max(orders[y, x], index or CONTINUOUS)
    return orders


def mask(annotation: Annotation, task: str, height: int, width: int) -> np.ndarray:
    """bool [height, width]: where a pixel lies on a reflection axis, or is a rotation centre."""
    if task == "rotation":
        return rotation_orders(annotation, height, width) > 0
    canvas = Image.new("L", (width, height))  # a quarter of the memory that the instances take
    return np.asarray(_painted(annotation, canvas, repeat(255), repeat(255))) > 0


def blurred(mask: np.ndarray, task: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float32 [len(rows), len(columns)]: the Gaussian blur of a mask, bool [height, width], at these pixels alone.

    Borders reflect without repeating the edge (OpenCV's default).
    """
    side, _ = BLUR[task]
    weights = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * BLUR_SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    lines = _weighted(mask.view(np.uint8), rows, weights, axis=0)
    return _weighted(lines, columns, weights, axis=1)


def unscaled_target(mask: np.ndarray, task: str, letterbox: Letterbox, clip: bool) -> np.ndarray:
    """bool [height, width] -> float32 [size, size] in 0..1: blurred at native size, clipped or not, letterboxed.

    Only what the nearest neighbour takes is computed.
    """
    target = blurred(mask, task, *letterbox.sources)
    return letterbox.placed(clipped(target, task) if clip else target)


def clipped(target: np.ndarray, task: str) -> np.ndarray:
    """An unscaled target in which axes that cross are no higher than a single one, as in the released DENDI loader.

    The released loader of SDRW, LDRS and NYU does not clip: there the other pixels of the axes sink beside a crossing.
    """
    return np.minimum(target, np.float32(BLUR[task][1]))


def scaled(target: np.ndarray) -> np.ndarray:
    """The training target, float32 in 0..1: divided by its own maximum (+ 1e-5), as in the released code."""
    return target / (target.max() + np.float32(1e-5))


def _weighted(values: np.ndarray, places: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """The convolution with symmetric weights at some places of one axis: float32."""
    middle, length = len(weights) // 2, values.shape[axis]
    total = values.take(_mirrored(places, length), axis) * weights[middle]
    for shift in range(1, middle + 1):  # the two sides share a weight: added first, as bytes in the first pass
        sides = values.take(_mirrored(places - shift, length), axis)
        sides += values.take(_mirrored(places + shift, length), axis)
        total += sides * weights[middle + shift]
    return total


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    """Indices folded into 0..length - 1 about the first and the last pixel."""
    places = places % max(1, 2 * (length - 1))
    return np.minimum(places, abs(2 * (length - 1) - places))
