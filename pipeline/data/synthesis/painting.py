"""Painting the objects of composites with the content of photographs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import map_coordinates

from pipeline.data.synthesis.symmetries import Symmetry

Photographs = Sequence[np.ndarray]  # each uint8 [height, width, 1 or 3]

TRIES = 60  # draws of a crop before the most contrasty one is taken
MIN_CONTRAST = 0.13  # standard deviation, as a share of the full range, below which a crop counts as bare


def tint(rng: Generator, pixels: np.ndarray) -> np.ndarray:
    """Random colours, in [0, 1]: a duotone for grey pixels [..., 1], slightly shifted channels for RGB [..., 3]."""
    if pixels.shape[-1] == 1:
        dark, bright = rng.uniform(0, 0.2) + rng.uniform(0, 0.15, 3), rng.uniform(0.6, 0.8) + rng.uniform(-0.2, 0.2, 3)
        return (dark + (bright - dark) * pixels).astype(np.float32)
    gain, offset = rng.uniform(0.8, 1.2) * rng.uniform(0.85, 1.15, 3), rng.uniform(-0.08, 0.08)
    return np.clip(pixels * gain + offset, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Paint:
    """Content for the pixels whose points in the fundamental domain are `a`, `b` [height, width]."""

    rng: Generator
    photographs: Photographs
    symmetry: Symmetry
    a: np.ndarray
    b: np.ndarray
    radius: float  # pixels per object unit
    turn: float | None = None  # radians from the fundamental domain to photographs; drawn anew each time if None
    edge: float = 1.5  # pixels over which a shape fades in
    surface: tuple[np.ndarray, np.ndarray] | None = None  # object coordinates, where the content is not symmetric

    def whole(self, region: np.ndarray, level: np.ndarray) -> None:
        """Paint an object: its body where `level` is below 1, perhaps a dark rim, and up to three kinds of small
        shapes, such as windows, eyes, petals or a hub."""
        rng, symmetry = self.rng, self.symmetry
        self.shape(region, level)
        if rng.random() < 0.5:
            width = rng.uniform(0.04, 0.1)
            rim = np.clip(1 - np.abs(level - 1 + width) / width, 0, 1)
            region *= 1 - 0.7 * rim[..., None].astype(np.float32)
        for _ in range(rng.integers(4)):
            distance, angle = rng.uniform(0.3, 0.7), symmetry.wedge * rng.uniform(0.2, 0.8)
            limit = min(0.3, distance * math.sin(min(symmetry.wedge, math.pi) / 2))
            across, along = limit * rng.uniform(0.5, 0.95, 2)
            if symmetry.fold == 0:  # a ring
                angle = 0.0
            elif symmetry.fold > 1 and rng.random() < 0.25:  # a hub
                distance = 0.0
                across = along = rng.uniform(0.15, 0.3)
            a, b = distance * math.cos(angle), distance * math.sin(angle)
            self.shape(region, np.maximum(np.hypot((self.a - a) / across, (self.b - b) / along), level))

    def shape(self, region: np.ndarray, level: np.ndarray) -> None:
        """Paint new content over `region` [height, width, 3], in place, where `level` [height, width] is below 1."""
        slope = np.hypot(*np.gradient(level)) + 1e-6
        alpha = np.clip((1 - level) / (self.edge * slope) + 0.5, 0, 1).astype(np.float32)
        inside = alpha > 0
        if not inside.any():
            return
        ground = region[inside]
        if self.surface is None:
            pixels = self._content(self.a[inside], self.b[inside])
        else:
            pixels = self._shaded(*(place[inside] for place in self.surface))
        difference = float(pixels.mean() - ground.mean())
        if abs(difference) < 0.15:  # keep off the ground's brightness
            pixels = np.clip(pixels + math.copysign(0.15, difference), 0, 1)
        region[inside] = ground + alpha[inside, None] * (pixels - ground)

    def _content(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Colours float32 [n, 3] in [0, 1] at n points of the fundamental domain."""
        wedge = self.symmetry.wedge
        if self.symmetry.mirrored or self.symmetry.fold < 2:
            return tint(self.rng, self._crop(a, b))
        # The two sides of a wedge would meet in a hard seam: fade into the wedge from the content beyond its end.
        fade = np.clip(np.arctan2(b, a) % (2 * math.pi) / (wedge * self.rng.uniform(0.1, 0.5)), 0, 1)[:, None]
        beyond = math.cos(wedge) * a - math.sin(wedge) * b, math.sin(wedge) * a + math.cos(wedge) * b
        pixels = self._crop(np.append(a, beyond[0]), np.append(b, beyond[1]))
        return tint(self.rng, fade * pixels[: len(a)] + (1 - fade) * pixels[len(a) :])

    def _shaded(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Colours [n, 3] in [0, 1] of a plain or textured surface with light from one side."""
        rng, texture = self.rng, self._crop(u, v)
        plain, share = rng.uniform(0.1, 0.9, 3), rng.choice([rng.uniform(0, 0.3), rng.uniform(0.3, 1)])
        light = 1 + rng.uniform(-0.4, 0.4) * v + rng.uniform(-0.2, 0.2) * u
        return np.clip((plain + share * (tint(rng, texture) - plain)) * light[:, None], 0, 1).astype(np.float32)

    def _crop(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """A photograph's pixels [n, 1 or 3] in [0, 1] at n points: the first crop drawn that is not bare."""
        rng, turn = self.rng, self.rng.uniform(0, 2 * math.pi) if self.turn is None else self.turn
        points = np.stack([math.sin(turn) * a + math.cos(turn) * b, math.cos(turn) * a - math.sin(turn) * b])
        points -= points.min(axis=1, keepdims=True)
        span, crops = points.max(axis=1) + 1e-6, []
        for _ in range(TRIES):
            photograph = self.photographs[int(rng.integers(len(self.photographs)))]
            room = np.array(photograph.shape[:2]) - 1
            zoom = min(self.radius * rng.uniform(0.6, 1.4), *(room / span))  # photograph pixels per object unit
            start = rng.uniform(0, np.maximum(room - zoom * span, 0))
            (top, left), (bottom, right) = start.astype(int), (start + zoom * span).astype(int) + 2
            contrast = photograph[top:bottom:3, left:right:3].std(axis=(0, 1)).mean() / 255
            crops.append((contrast, photograph, start, zoom))
            if contrast > MIN_CONTRAST:
                break
        _, photograph, start, zoom = max(crops, key=lambda crop: crop[0])
        points, channels = start[:, None] + zoom * points, np.moveaxis(photograph, 2, 0)
        return np.stack([map_coordinates(c, points, np.float32, order=1, mode="nearest") for c in channels], -1) / 255
