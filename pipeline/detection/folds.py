"""The fold of a rotation centre, from the picture around it.

What n turns leave as it is holds, on each circle around the centre, only waves of n, 2n, 3n, ... periods. The share of
their power in all, on rings of several sizes, is what a small network tells the fold by. It was trained on composites
whose folds are known (`folds` of weights/dvc.yaml).

By NumPy alone, as all detection. Coordinates: x right, y down, pixels, pixel centres at integers.
"""

from functools import cache
from pathlib import Path

import numpy as np

FOLDS = (0, 2, 3, 4, 5, 6, 8)  # 0: any turn
SURE = 0.5  # probability below which the fold is not told
WEIGHTS = Path(__file__).parents[1] / "weights" / "folds.npz"
RINGS = np.array([0.03, 0.045, 0.065, 0.09, 0.125, 0.17, 0.23, 0.3])  # outer radii, of the longer side
CIRCLES = 8  # a ring
STEPS = 120  # of a turn; divisible by all folds
PERIODS = range(2, 11)
HIGHEST = 24  # periods; finer waves are noise
NOISE = 4.0  # grey levels squared: power that counts for no fold


def fold_of(image: np.ndarray, x: float, y: float) -> int | None:
    """The fold, one of FOLDS, of what lies around a point of an image, uint8 [H, W, 3]; None where it is in doubt."""
    return told(probabilities(ring_powers(image, x, y)))


def told(probability: np.ndarray) -> int | None:
    """The fold with the highest of these probabilities, float [len(FOLDS)], or None where that is below SURE."""
    best = int(probability.argmax())
    return FOLDS[best] if probability[best] >= SURE else None


def probabilities(powers: np.ndarray) -> np.ndarray:
    """Of each of FOLDS, float [..., len(FOLDS)], from ring powers, [..., features]."""
    layers = _layers()
    values = (powers - layers["mean"]) / layers["deviation"]
    values = np.maximum(values @ layers["hidden_weight"] + layers["hidden_bias"], 0)
    values = values @ layers["out_weight"] + layers["out_bias"]
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def ring_powers(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """float [features]: for each ring, and for each disc that it is the rim of, the shares of power in the multiples of
    each of PERIODS, the logarithm of the power, and whether any circle lies in the image; zeros where none does.
    """
    radii = np.concatenate([np.linspace(a, b, CIRCLES, endpoint=False) for a, b in zip((0, *RINGS), RINGS)])
    radii = 1 + radii * max(image.shape[:2])
    angles = 2 * np.pi * np.arange(STEPS) / STEPS
    columns, rows = x + radii[:, None] * np.cos(angles), y + radii[:, None] * np.sin(angles)
    height, width = image.shape[:2]
    inside = ((columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)).all(1)
    waves = np.fft.rfft(_values(image, columns, rows), axis=1) / STEPS
    power = 2 * (np.abs(waves[:, 1 : HIGHEST + 1]) ** 2).sum(2) * (radii * inside)[:, None]
    power, weight = (values.reshape(len(RINGS), CIRCLES, -1).sum(1) for values in (power, radii * inside))
    return np.concatenate([_shares(power, weight), _shares(power.cumsum(0), weight.cumsum(0))]).ravel()


def _shares(power: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[rings, len(PERIODS) + 2], from the power of each number of periods, [rings, HIGHEST], and the rings' weights."""
    seen = weight > 0
    whole = power.sum(1, keepdims=True)
    multiples = np.stack([power[:, n - 1 :: n].sum(1) for n in PERIODS], 1) / (whole + NOISE * weight + 1e-9)
    return np.concatenate([multiples, np.log1p(whole / np.where(seen, weight, 1)), seen], 1) * seen


def _values(image: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float32 [..., 3]: the image between its pixels, bilinear; at its border what lies there."""
    height, width = image.shape[:2]
    x, y = (np.clip(places, 0, last - 1) for places, last in ((columns, width), (rows, height)))
    left, top = (np.minimum(places.astype(int), max(0, last - 2)) for places, last in ((x, width), (y, height)))
    dx, dy = ((places - whole)[..., None].astype(np.float32) for places, whole in ((x, left), (y, top)))
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    upper = image[top, left] * (1 - dx) + image[top, right] * dx
    lower = image[below, left] * (1 - dx) + image[below, right] * dx
    return upper * (1 - dy) + lower * dy


@cache
def _layers() -> dict[str, np.ndarray]:
    with np.load(WEIGHTS) as file:
        return dict(file)
