"""The square that axes are looked for in: a heat map brought into it, turned, and looked up between its pixels.

Coordinates: x right, y down, in pixels of the square, pixel centres at integers.
"""

import math
from typing import Any

import numpy as np

SIDE = 192  # pixels
MIDDLE = (SIDE - 1) / 2
MARGIN = 41  # zeros around the square: its corners lie so far out when it is turned
WIDTH = SIDE + 2 * MARGIN

Taps = tuple[np.ndarray, np.ndarray, np.ndarray]  # see taps_at


def to_square(heat_map: np.ndarray) -> tuple[np.ndarray, float, tuple[int, int]]:
    """The map on a square of zeros; native pixels per pixel there; column and row of its first pixel."""
    height, width = heat_map.shape
    scale = max(height, width) / SIDE
    size = max(1, round(height / scale)), max(1, round(width / scale))
    resize = _means if scale > 1 else _stretched
    rows = resize(heat_map, size[0])
    small = resize(np.ascontiguousarray(rows.T), size[1]).T
    top, left = ((SIDE - side) // 2 for side in size)
    square = np.zeros((SIDE, SIDE), np.float32)
    square[top : top + size[0], left : left + size[1]] = small
    return square, scale, (left, top)


def _means(rows: np.ndarray, number: int) -> np.ndarray:
    """[H, W] -> [number, W]: each the mean of the rows that it touches."""
    place = np.arange(number + 1) * len(rows)
    first, end = place[:-1] // number, -(-place[1:] // number)
    sums = [np.add.reduce(rows[a:b]) for a, b in zip(first.tolist(), end.tolist())]
    return np.stack(sums) / (end - first).astype(np.float32)[:, None]


def _stretched(rows: np.ndarray, number: int) -> np.ndarray:
    """[H, W] -> [number, W], at least as many: linear between the rows."""
    place = np.maximum((np.arange(number, dtype=np.float32) + 0.5) * (len(rows) / number) - 0.5, 0)
    first = place.astype(int)
    upper, lower = rows[first], rows[np.minimum(first + 1, len(rows) - 1)]
    return upper + (lower - upper) * (place - first)[:, None]


def on_line(theta: Any, along: Any, across: Any) -> tuple[Any, Any]:
    """x, y in the square of points so far along lines at an angle, and so far across: numbers or arrays."""
    cos, sin = (math.cos(theta), math.sin(theta)) if isinstance(theta, float) else (np.cos(theta), np.sin(theta))
    u, v = along - MIDDLE, across - MIDDLE
    return cos * u + (MIDDLE - sin * v), sin * u + (MIDDLE + cos * v)


def pad(square: np.ndarray) -> np.ndarray:
    """A map with zeros around it, for what lies beside it."""
    padded = np.zeros((WIDTH, WIDTH), np.float32)
    padded[MARGIN:-MARGIN, MARGIN:-MARGIN] = square
    return padded


def values_at(padded: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map at points, bilinear, zero outside."""
    return interpolate(padded, taps_at(*(np.clip(place, -1, SIDE) for place in (x, y))))


def taps_at(x: np.ndarray, y: np.ndarray) -> Taps:
    """Of the four pixels of a padded map about each point: the first one's index; how far right and below it is.

    The points lie in the square, however that is turned.
    """
    left, top = np.floor(x), np.floor(y)
    right, lower = x - left, y - top
    top *= WIDTH
    top += left
    top += MARGIN * (WIDTH + 1)
    return top.astype(np.intp), right, lower  # what `take` needs: it would convert others at each call


def interpolate(padded: np.ndarray, taps: Taps, out: np.ndarray | None = None) -> np.ndarray:
    """The map at points between four pixels each."""
    first, right, lower = taps
    flat = padded.ravel()
    # "clip" is four times as fast as the default, and nothing is clipped.
    upper, above, under, below = (flat[skip:].take(first, mode="clip") for skip in (0, 1, WIDTH, WIDTH + 1))
    for left, mean in ((upper, above), (under, below)):
        mean -= left
        mean *= right
        mean += left
    below -= above
    below *= lower
    return np.add(above, below, out=out)
