"""Heat maps that look at no image: what any model must beat."""

import numpy as np
from scipy.ndimage import zoom

CELL = 16  # pixels a side of the random map's cells


def random_map(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """float32 [height, width] in 0..1: noise in cells of 16 pixels, interpolated, so that single lines do stand out."""
    rows, columns = -(-height // CELL) + 1, -(-width // CELL) + 1
    noise = zoom(generator.random((rows, columns), np.float32), CELL, order=1)
    return np.clip(noise[:height, :width], 0, 1)


def centre_map(height: int, width: int, task: str) -> np.ndarray:
    """float32 [height, width] in 0..1: falls off with the distance from the vertical centre line, or, for rotation,
    from the centre; the best threshold decides how wide it is."""
    x = np.abs(np.arange(width) - (width - 1) / 2)
    y = np.abs(np.arange(height) - (height - 1) / 2)
    distance = np.hypot(x, 0 * y[:, None]) if task == "reflection" else np.hypot(x, y[:, None])
    return (1 - distance / (distance.max() + 1)).astype(np.float32)
