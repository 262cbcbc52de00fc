"""The symmetry of an object of a composite, in object coordinates: origin at its centre, u along its first axis."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Symmetry:
    """`fold` turns (0: any turn), and with `mirrored` also that many reflection axes, one of them the u axis."""

    fold: int
    mirrored: bool = False

    @property
    def wedge(self) -> float:
        """Angle of the fundamental domain, in radians."""
        return 2 * math.pi / max(self.fold, 1) / (2 if self.mirrored else 1)

    def reduce(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The point of the fundamental domain that (u, v) is an image of."""
        radius = np.hypot(u, v)
        if self.fold == 0:
            return radius, np.zeros_like(radius)
        turn = 2 * math.pi / self.fold
        angle = np.arctan2(v, u) % turn
        if self.mirrored:
            angle = np.minimum(angle, turn - angle)
        return radius * np.cos(angle), radius * np.sin(angle)


MIRROR, NONE = Symmetry(1, mirrored=True), Symmetry(1)
