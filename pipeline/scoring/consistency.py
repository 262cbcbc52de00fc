"""How far two heat maps of one image, model(T x) and T model(x), are apart: sums that add up over a data set.

The paper's formula is not known (docs/method.md, Robustness). The first figure here compares probabilities, the
second what a threshold makes of them, by the measure of the F1 tables. Both are symmetric and 0 for equal maps.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.scoring.f1 import dilate


@dataclass(frozen=True)
class ConsistencySums:
    """Sums over images: of absolute differences, and of pixels.

    `pixels` were compared; of the thresholded and dilated maps, `both` counts the pixels that lie in both, `marked`
    those of the one plus those of the other.
    """

    difference: float
    pixels: int
    both: int
    marked: int

    @classmethod
    def zero(cls) -> "ConsistencySums":
        """The sums over no image at all."""
        return cls(0.0, 0, 0, 0)

    def __add__(self, other: "ConsistencySums") -> "ConsistencySums":
        return ConsistencySums(
            self.difference + other.difference,
            self.pixels + other.pixels,
            self.both + other.both,
            self.marked + other.marked,
        )

    @property
    def mean_difference(self) -> float | None:
        """The mean absolute difference of the probabilities, in 0..1; None where nothing was compared."""
        return self.difference / self.pixels if self.pixels else None

    @property
    def disagreement(self) -> float | None:
        """1 - F1 of one map against the other, in 0..1; 0 where both are empty, None where nothing was compared.

        With precision both / |A| and recall both / |B|, F1 = 2 both / (|A| + |B|).
        """
        if not self.pixels:
            return None
        return 1 - 2 * self.both / self.marked if self.marked else 0.0


def compare(first: np.ndarray, second: np.ndarray, region: np.ndarray, threshold: float) -> ConsistencySums:
    """The sums of one image: heat maps, float32 [H, W] in 0..1, compared within a region, bool [H, W].

    What lies above the threshold outside the region is not dilated into it.
    """
    difference = np.abs(first - second)[region].sum(dtype=np.float64)
    a, b = (dilate((heat_map > threshold) & region) for heat_map in (first, second))
    return ConsistencySums(float(difference), int(region.sum()), int((a & b).sum()), int(a.sum() + b.sum()))
