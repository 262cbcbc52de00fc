"""The transformations of the robustness study (docs/method.md, Robustness), about the centre of a square.

`rotation` turns each image by an angle of its own, anticlockwise as seen on the screen; `quarter_turn` turns by 90
degrees, `flip` exchanges left and right; `identity` is what the others are held against.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch

from pipeline.geometry import rotate

Transformation = Literal["identity", "rotation", "quarter_turn", "flip"]
TRANSFORMATIONS: tuple[Transformation, ...] = get_args(Transformation)
TILT = 45.0  # largest angle of `rotation`, degrees to either side


def tilt(seed: int, number: int) -> float:
    """The angle of `rotation` in degrees, -45 to 45, drawn from the seed and the image's number in its split alone."""
    return np.random.default_rng((seed, number)).uniform(-TILT, TILT)


def transformed(maps: torch.Tensor, transformation: Transformation, degrees: Sequence[float]) -> torch.Tensor:
    """[B, C, S, S] -> [B, C, S, S]; `rotation` by one of the angles for each map, bilinear, zero outside."""
    match transformation:
        case "identity":
            return maps
        case "rotation":
            return torch.cat([rotate(one[None], angle) for one, angle in zip(maps, degrees)])
        case "quarter_turn":
            return maps.rot90(1, (2, 3))
        case "flip":
            return maps.flip(3)


def transformed_mask(mask: np.ndarray, transformation: Transformation, degrees: float) -> np.ndarray:
    """bool [S, S] -> bool [S, S], by the same map.

    `rotation` moves the marked pixels one by one, so that none is lost within the square; they can leave gaps of a
    pixel, which the dilation of the F1 closes.
    """
    if transformation != "rotation":
        return transformed(torch.from_numpy(mask)[None, None], transformation, [degrees])[0, 0].numpy()
    middle, angle = len(mask) / 2, np.radians(degrees)
    y, x = np.argwhere(mask).T + 0.5 - middle
    rows = np.floor(y * np.cos(angle) - x * np.sin(angle) + middle).astype(int)
    columns = np.floor(x * np.cos(angle) + y * np.sin(angle) + middle).astype(int)
    inside = (np.minimum(rows, columns) >= 0) & (np.maximum(rows, columns) < len(mask))
    turned = np.zeros_like(mask)
    turned[rows[inside], columns[inside]] = True
    return turned


def disc(size: int, margin: float = 0.0) -> torch.Tensor:
    """bool [size, size]: the disc inscribed in the square, less a margin, which all transformations map onto itself."""
    place = torch.arange(size) + 0.5 - size / 2
    return torch.hypot(place[:, None], place) <= size / 2 - margin
