"""The F1 of every CLIPSym table (docs/method.md, F1): integer counts that add up over a data set.

Prediction and ground truth are both dilated by a disc of 5 pixels. Dilation by a fixed disc commutes with
thresholding, so that one grey-scale dilation, of how many thresholds each pixel passes, and one histogram give the
counts at all thresholds exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def _thresholds() -> np.ndarray:
    """float32 [100], to the bit what `torch.linspace(1 / 101, 100 / 101, 100)` of the released code is.

    It goes half the way from either end, in steps of float32, and rounds once. k / 101 differs in 18 last bits.
    """
    first, last = np.float32(1 / 101), np.float32(100 / 101)
    steps = float((last - first) / np.float32(99)) * np.arange(50)
    return np.concatenate([float(first) + steps, float(last) - steps[::-1]]).astype(np.float32)


THRESHOLDS = _thresholds()
EDGES = np.array([np.nan, *THRESHOLDS, np.nan], np.float32)  # beyond the ends no comparison holds
RADIUS = 5


@dataclass(frozen=True)
class F1Counts:
    """Pixel counts per threshold, summed over images; all int64 [100], `actual` a plain number.

    `true` counts pixels in both the dilated prediction and the dilated ground truth, `predicted` and `actual` those
    in either one.
    """

    true: np.ndarray
    predicted: np.ndarray
    actual: int

    @classmethod
    def zero(cls) -> "F1Counts":
        """The counts of no image at all."""
        return cls(np.zeros(len(THRESHOLDS), np.int64), np.zeros(len(THRESHOLDS), np.int64), 0)

    def __add__(self, other: "F1Counts") -> "F1Counts":
        return F1Counts(self.true + other.true, self.predicted + other.predicted, self.actual + other.actual)

    @property
    def precision(self) -> np.ndarray:
        """float [100]: the share of predicted pixels that are right; 0 where nothing is predicted."""
        return _ratio(self.true, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """float [100]: the share of actual pixels that are found; 0 where there are none."""
        return _ratio(self.true, np.full_like(self.true, self.actual))

    @property
    def f1(self) -> np.ndarray:
        """float [100]: the harmonic mean of precision and recall; 0 where both are 0."""
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def best(self) -> int | None:
        """Index of the threshold with the highest F1 (the first of equals); None for a set without ground truth."""
        return int(self.f1.argmax()) if self.actual else None


def lowest_alike(each: Sequence[F1Counts]) -> int:
    """Index of the lowest threshold whose F1 is within a standard error of the best one, of the counts of each image.

    The rule of one standard error of Breiman et al. (Classification and Regression Trees, 1984), the error by the
    jackknife over images. Some image must have ground truth.
    """
    total = sum(each, F1Counts.zero())
    others = [
        F1Counts(total.true - one.true, total.predicted - one.predicted, total.actual - one.actual) for one in each
    ]
    error = np.sqrt((len(each) - 1) * np.var([other.f1[total.best] for other in others]))
    return int((total.f1 >= total.f1.max() - error).argmax())


def count(heat_map: np.ndarray, mask: np.ndarray) -> F1Counts:
    """Counts of one image from its heat map, float32 [H, W] in 0..1, and its undilated mask, bool [H, W].

    Raises ValueError when the shapes differ or the heat map holds NaN, which would count as above every threshold.
    """
    if np.isnan(heat_map).any():
        raise ValueError("the heat map holds NaN: has the training diverged?")
    if heat_map.shape != mask.shape:
        raise ValueError(f"heat map is {heat_map.shape}, mask is {mask.shape}: both must have the image's native size")
    levels = len(THRESHOLDS) + 1
    passed, truth = dilate(thresholds_passed(heat_map.astype(np.float32, copy=False))), dilate(mask)
    histogram = np.bincount((passed + np.uint8(levels) * truth).ravel(), minlength=2 * levels).reshape(2, levels)
    inside, outside = histogram[1], histogram[0]
    return F1Counts(_above(inside), _above(inside + outside), int(inside.sum()))


def thresholds_passed(heat_map: np.ndarray) -> np.ndarray:
    """float32 [H, W] in 0..1 -> uint8 [H, W]: how many thresholds each pixel exceeds; one at a threshold does not."""
    guess = np.clip(heat_map * np.float32(len(THRESHOLDS) + 1), 0, len(THRESHOLDS)).astype(np.uint8)
    return guess - (EDGES[guess] >= heat_map) + (EDGES[guess + 1] < heat_map)  # rounding errs by one at most


def dilate(values: np.ndarray) -> np.ndarray:
    """[H, W] -> [H, W]: the maximum over the disc dx^2 + dy^2 <= 25; what lies outside the image does not count."""
    height = len(values)
    reach_of_row = {dy: int((RADIUS**2 - dy**2) ** 0.5) for dy in range(-RADIUS, RADIUS + 1)}
    dilated, spread = values.copy(), values.copy()  # spread: the maximum over `reach` columns to either side
    for reach in range(RADIUS + 1):
        if reach:
            np.maximum(spread[:, reach:], values[:, :-reach], out=spread[:, reach:])
            np.maximum(spread[:, :-reach], values[:, reach:], out=spread[:, :-reach])
        for dy in (dy for dy in reach_of_row if reach_of_row[dy] == reach and abs(dy) < height):
            rows, sources = slice(max(0, dy), height + min(0, dy)), slice(max(0, -dy), height + min(0, -dy))
            np.maximum(dilated[rows], spread[sources], out=dilated[rows])
    return dilated


def _above(histogram: np.ndarray) -> np.ndarray:
    """int64 [100]: how many pixels lie above each threshold, from how many passed 0, 1, ... 100 thresholds."""
    return histogram[::-1].cumsum()[::-1][1:]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where whole is 0: the one place where 0 / 0 is decided."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole != 0)
