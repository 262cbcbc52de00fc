"""Annotation -> native mask, instance map and training target.

Maps are [height, width] arrays in pixels of the native image, x right, y down. Painting follows the released code:
PIL's rules without anti-aliasing, coordinates truncated (not rounded), what lies outside is clipped.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import correlate1d

from pipeline.annotations import Annotation

# The orders of rotation that DENDI tells apart; an order outside counts as class 1, continuous (0) is painted as 255.
FOLDS = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 20, 22, 26, 28, 29]
UNLISTED_FOLD, CONTINUOUS = 1, 255

# Task -> side of the Gaussian kernel and the value that the blurred mask is clipped at (released code).
BLUR = {"reflection": (5, 0.21260943), "rotation": (11, 0.01)}
BLUR_SIGMA = 4.0


def reflection_instances(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """int32 [height, width]: axis k as k + 1, 1 px wide; ellipse k filled as 1001 + k; the maximum where they meet."""
    canvas = Image.new("I", (width, height))
    draw = ImageDraw.Draw(canvas)
    for k, axis in enumerate(annotation.axes):
        draw.line([(int(x), int(y)) for x, y in axis.ordered_ends()], fill=k + 1)
    for k, disc in enumerate(annotation.discs):
        draw.polygon([(int(x), int(y)) for x, y in disc.polygon()], fill=1001 + k)
    return np.array(canvas, np.int32)


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
    paint = {"reflection": reflection_instances, "rotation": rotation_orders}[task]
    return paint(annotation, height, width) > 0


def blurred(mask: np.ndarray, task: str) -> np.ndarray:
    """bool [height, width] -> float32: the Gaussian blur of the mask; borders reflect without repeating the edge."""
    side, _ = BLUR[task]
    kernel = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * BLUR_SIGMA**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    rows = correlate1d(mask.astype(np.float32), kernel, axis=0, mode="mirror")
    return correlate1d(rows, kernel, axis=1, mode="mirror")


def native_target(mask: np.ndarray, task: str) -> np.ndarray:
    """bool [height, width] -> float32: the blurred mask, clipped; scale it with `normalised` once it is resized."""
    return np.minimum(blurred(mask, task), np.float32(BLUR[task][1]))


def normalised(target: np.ndarray) -> np.ndarray:
    """A target scaled to 0..1 by its own maximum (+ 1e-5, as in the released code)."""
    return target / (target.max() + np.float32(1e-5))
