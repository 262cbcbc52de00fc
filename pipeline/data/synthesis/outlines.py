"""Random outlines of the objects of composites, within the unit disc of object coordinates."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from pipeline.data.synthesis.symmetries import MIRROR, NONE, Symmetry

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]  # point of the fundamental domain -> level, up to 1 inside


def random_outline(rng: Generator, symmetry: Symmetry) -> Outline:
    """An ellipse to a box, a polygon or a wavy closed curve."""
    if symmetry.fold == 0:
        return np.hypot
    kind = rng.random()
    if symmetry == MIRROR and kind < 0.5:
        (length, width), power = rng.uniform(0.45, 0.8, 2), rng.choice([2, 4, 20])
        return lambda a, b: ((np.abs(a) / length) ** power + (np.abs(b) / width) ** power) ** (1 / power)
    if symmetry != NONE and kind < 0.65:
        normals = symmetry.wedge * rng.uniform(0, 1, 3 if symmetry == MIRROR else 1)
        x, y = np.stack([np.cos(normals), np.sin(normals)]) / rng.uniform(0.55, 0.85, len(normals))
        return lambda a, b: np.max([np.hypot(a, b), *(p * a + q * b for p, q in zip(x, y, strict=True))], axis=0)
    heights, phases = rng.uniform(0.05, 0.25, 4), rng.uniform(0, 2 * math.pi, 4)

    def reach(angle: np.ndarray) -> np.ndarray:
        waves = enumerate(zip(heights, phases, strict=True), start=1)
        return 1 + sum(height / k**0.5 * np.cos(k * symmetry.fold * angle + phase) for k, (height, phase) in waves)

    longest = reach(np.linspace(0, 2 * math.pi, 720)).max()
    return lambda a, b: np.hypot(a, b) * longest / reach(np.arctan2(b, a))


def random_profile(rng: Generator) -> Outline:
    """Up to five parts stacked along the axis: boxes, cones and bulges, as in bottles, trees, towers and figures."""
    start, end = -rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.95)
    cuts = np.sort(rng.uniform(start, end, rng.integers(5)))
    cuts = np.concatenate([[start], cuts, [end]])
    broadest = rng.uniform(0.12, 0.6)
    widths = broadest * rng.uniform(0.25, 1, (len(cuts) - 1, 2))
    kinds = rng.integers(3, size=len(cuts) - 1)

    def half_width(a: np.ndarray) -> np.ndarray:
        part = np.clip(np.searchsorted(cuts, a) - 1, 0, len(kinds) - 1)
        along = np.clip((a - cuts[part]) / (cuts[part + 1] - cuts[part] + 1e-6), 0, 1)
        first, second, kind = widths[part, 0], widths[part, 1], kinds[part]
        bulge = first * np.sqrt(np.clip(1 - (2 * along - 1) ** 2, 0, 1)) + 0.02
        return np.select([kind == 0, kind == 1], [first, first + along * (second - first)], bulge)

    return lambda a, b: 1 + np.maximum(np.abs(b) - half_width(a), np.maximum(start - a, a - end)) / broadest
