"""The fold of a rotation centre, from the picture around it.

What n turns leave as it is holds, on each circle around the centre, only waves of n, 2n, 3n, ... periods. The share of
their power in all, on rings of several sizes, is what a small network tells the fold by. What any turn leaves as it is
may have a picture inside: a coin is round by its rim. So the network sees the same of the steps from circle to circle,
which a rim makes alike all around. It was trained on composites whose folds are known (`folds` of weights/dvc.yaml).

By NumPy and Pillow alone, as all detection. Coordinates: x right, y down, pixels, pixel centres at integers.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.detection.centres import DetectedCentre

FOLDS = (0, 2, 3, 4, 5, 6, 8)  # 0: any turn
SURE = 0.4  # probability below which the fold is not told: on held-out composites it is wrong more often than not
WEIGHTS = Path(__file__).parents[1] / "weights" / "folds.npz"
LONGEST = 352  # pixels of the longer side that pictures are shrunk to, that of the composites
RINGS = np.array([0.02, 0.03, 0.045, 0.065, 0.09, 0.125, 0.17, 0.23, 0.3])  # outer radii, of the longer side
CIRCLES = 8  # a ring
STEPS = 120  # of a turn; divisible by all folds
PERIODS = range(2, 11)
HIGHEST = 24  # periods; finer waves are noise
EVEN = 0.5  # power of the waves on circles beside that of the steps between them, below which any turn changes nothing
NOISE = 4.0  # grey levels squared: power that counts for no fold


def with_folds(image: np.ndarray, centres: Iterable[DetectedCentre]) -> list[DetectedCentre]:
    """The centres, in pixels of the image, uint8 [H, W, 3], with the fold of each, one of FOLDS; None in doubt."""
    small, scale = _shrunk(image)
    places = ((c, (scale * (c.x + 0.5, c.y + 0.5) - 0.5).tolist()) for c in centres)
    return [centre._replace(fold=_told(small, *place)) for centre, place in places]


def _told(image: np.ndarray, x: float, y: float) -> int | None:
    """The fold at a place of an image that is small enough; None where there is no more than noise around it."""
    power, steps, weight = _measured(image, x, y)
    waves = power[..., 1:].sum()
    if waves + steps.sum() <= NOISE * weight.sum():
        return None
    if waves < EVEN * steps[..., 0].sum():
        return 0
    probability = probabilities(_features(power, steps, weight))
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
    """float [features]: what the network sees around a place of an image, uint8 [H, W, 3]: of each ring, of the disc
    that it is the rim of, and of the steps between the ring's circles."""
    return _features(*_measured(image, x, y))


def _measured(image: np.ndarray, x: float, y: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The power of each number of periods from 0 to HIGHEST on each circle, and in its difference from the one inside
    it, both [rings, CIRCLES, HIGHEST + 1], times the circles' weights, [rings, CIRCLES]: their radii, or 0 outside."""
    radii = np.concatenate([np.linspace(a, b, CIRCLES, endpoint=False) for a, b in zip((0, *RINGS), RINGS)])
    radii = 1 + radii * max(image.shape[:2])
    angles = 2 * np.pi * np.arange(STEPS) / STEPS
    columns, rows = x + radii[:, None] * np.cos(angles), y + radii[:, None] * np.sin(angles)
    height, width = image.shape[:2]
    inside = ((columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)).all(1)
    weight = (radii * inside).reshape(len(RINGS), CIRCLES)
    waves = np.fft.rfft(_values(image, columns, rows), axis=1)[:, : HIGHEST + 1] / STEPS
    steps = np.diff(waves, axis=0, prepend=waves[:1])
    return _power(waves) * weight[..., None], _power(steps) * weight[..., None], weight


def _features(power: np.ndarray, steps: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float [features], from what was measured."""
    rings, circles = power.sum(1), weight.sum(1)
    even = (steps[..., 0] / (steps.sum(2) + NOISE * weight + 1e-9)).max(1)  # of the circle that is the most like a rim
    parts = (
        _shares(rings, circles), _shares(rings.cumsum(0), circles.cumsum(0)), _shares(steps.sum(1), circles),
        even[:, None], _logarithms(steps[..., 0].sum(1), circles)[:, None],
    )  # fmt: skip
    return np.concatenate(parts, axis=1).ravel()


def _power(waves: np.ndarray) -> np.ndarray:
    """[rings, CIRCLES, HIGHEST + 1], from the waves of the colours on all circles, complex [circles, periods, 3]."""
    power = (np.abs(waves) ** 2).sum(2)
    power[:, 1:] *= 2  # waves that go the other way
    return power.reshape(len(RINGS), CIRCLES, -1)


def _shares(power: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[rings, len(PERIODS) + 2]: the shares of the multiples of each of PERIODS in all waves, the logarithm of their
    power, and whether a circle lies in the image, from the power, [rings, HIGHEST + 1], and the rings' weights."""
    seen, waves = weight > 0, power[:, 1:]
    whole = waves.sum(1, keepdims=True)
    multiples = np.stack([waves[:, n - 1 :: n].sum(1) for n in PERIODS], 1) / (whole + NOISE * weight[:, None] + 1e-9)
    return np.concatenate([multiples, _logarithms(whole[:, 0], weight)[:, None], seen[:, None]], 1)


def _logarithms(power: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.log1p(power / np.where(weight > 0, weight, 1))


def _shrunk(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image with LONGEST pixels at most, free of moiré, and how large its pixels are in that, across and down."""
    own = np.array(image.shape[1::-1])
    if own.max() <= LONGEST:
        return image, np.ones(2)
    size = np.maximum(1, (own * LONGEST / own.max()).round().astype(int))
    return np.asarray(Image.fromarray(image).resize(tuple(size.tolist()), Image.Resampling.BILINEAR)), size / own


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
