"""Heat map -> rotation centres as points.

By NumPy alone, as all detection. Coordinates: x right, y down, in pixels of the heat map, pixel centres at integers.
"""

from typing import NamedTuple

import numpy as np

MOST = 10
FINEST = 320  # pixels of the longer side that centres are looked for in, or up to twice as many
SPREAD = 1 / 40  # of the longer side: how far a centre's peak is taken together
ROWS = 64  # smoothed together, by one product of matrices


class DetectedCentre(NamedTuple):
    """A rotation centre; `score`: the heat map's peak, 0..1, or a probability made of it; `fold`: 0 for any turn, None
    where it is not known."""

    x: float
    y: float
    score: float
    fold: int | None = None

    @property
    def turns(self) -> str:
        """The fold in words; nothing where it is not known."""
        return "" if self.fold is None else f"{self.fold}-fold" if self.fold else "any turn"


def find_centres(heat_map: np.ndarray) -> list[DetectedCentre]:
    """The peaks of a heat map, float [H, W] in 0..1, the best first, at most ten.

    A peak is placed at the centre of mass of what is around it, to a fraction of a pixel. Where several pixels near
    each other are equally high, the first of them in raster order is the peak. What only rises towards a corner of the
    map is none: networks see the corners of any picture as a quarter of a thing.
    """
    scale = max(1, max(heat_map.shape) // FINEST)
    heat_map = _largest(np.asarray(heat_map, np.float32), scale)
    spread = max(1.0, SPREAD * max(heat_map.shape))
    smooth, reach = _smoothed(heat_map, spread / 3), round(spread)
    apart = round(2 * spread)
    highest = (smooth == _highest(smooth, apart)) & (smooth > 1e-3)
    highest[np.ix_((0, -1), (0, -1))] = False
    peaks = np.argwhere(highest)
    found = []
    while len(peaks):
        y, x = peaks[0].tolist()
        peaks = peaks[np.abs(peaks - peaks[0]).max(axis=1) > apart]
        top, left = max(0, y - reach), max(0, x - reach)
        around = slice(top, y + reach + 1), slice(left, x + reach + 1)
        mass = np.clip(smooth[around] - smooth[y, x] / 2, 1e-6, None)
        dy, dx = (float(np.average(np.arange(mass.shape[axis]), weights=mass.sum(1 - axis))) for axis in (0, 1))
        x_native, y_native = (scale * (place + 0.5) - 0.5 for place in (left + dx, top + dy))
        found.append(DetectedCentre(x_native, y_native, float(heat_map[around].max())))
    return sorted(found, key=lambda centre: -centre.score)[:MOST]


def _largest(heat_map: np.ndarray, scale: int) -> np.ndarray:
    """The largest of each `scale` x `scale` pixels, fewer at the end."""
    for _ in range(2):
        height = -(-len(heat_map) // scale)
        heat_map = np.stack([heat_map[row * scale : (row + 1) * scale].max(0) for row in range(height)]).T
    return heat_map


def _smoothed(heat_map: np.ndarray, sigma: float) -> np.ndarray:
    """A map under a Gaussian that ends at four sigma; beyond its edges it goes on as in a mirror."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    band = np.zeros((ROWS, ROWS + 2 * reach))
    for row in range(ROWS):
        band[row, row : row + len(weights)] = weights / weights.sum()
    for _ in range(2):
        rows = np.pad(heat_map, ((reach, reach + -len(heat_map) % ROWS), (0, 0)), "symmetric").astype(float)
        parts = [band @ rows[first : first + band.shape[1]] for first in range(0, len(heat_map), ROWS)]
        heat_map = np.concatenate(parts)[: len(heat_map)].astype(np.float32).T
    return heat_map


def _highest(heat_map: np.ndarray, reach: int) -> np.ndarray:
    """The largest value at most `reach` pixels up, down and to the sides."""
    for _ in range(2):
        highest, size, whole = np.pad(heat_map, ((reach, reach), (0, 0))), 1, 2 * reach + 1
        while size < whole:
            step = min(size, whole - size)
            highest, size = np.maximum(highest[:-step], highest[step:]), size + step
        heat_map = highest.T
    return heat_map
