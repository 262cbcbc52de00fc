"""Native image <-> square model input: one letterbox, used for images, targets and predictions.

Pixel convention: x right, y down, pixel centres at integers + 0.5 for image resizing (half-pixel centres).
Source: the released loader of DENDI (docs/method.md, Letterbox); the PMC loader squashes instead, which we do not.
"""

import math
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ONE = 2048  # the whole of OpenCV's weights
ROWS = 64  # of a native heat map, made at a time


@dataclass(frozen=True)
class Letterbox:
    """An image of `height` x `width` pixels fitted into a `size` x `size` square, centred between black bars."""

    height: int
    width: int
    size: int

    @property
    def content(self) -> tuple[int, int]:
        """Height and width of the resized image inside the square; the longer one equals `size`."""
        scale = self.size / max(self.height, self.width)  # first, as released: it decides where the side ends in .5
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    @property
    def offset(self) -> tuple[int, int]:
        """Row and column of the resized image's first pixel."""
        height, width = self.content
        return (self.size - height) // 2, (self.size - width) // 2

    @property
    def region(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right (half-open) of what evaluation cuts out of a prediction.

        Like the released code it does not round the content's side first, so that it can begin or end one pixel
        beside the content.
        """
        longest = max(self.height, self.width)
        sides = self.size * self.height / longest, self.size * self.width / longest
        (top, bottom), (left, right) = ((floor((self.size - s) / 2), floor((self.size + s) / 2)) for s in sides)
        return top, max(bottom, top + 1), left, max(right, left + 1)

    @property
    def sources(self) -> tuple[np.ndarray, np.ndarray]:
        """The native row of each content row, and the native column of each content column, by nearest neighbour.

        Source index floor(i * in / out) as OpenCV's INTER_NEAREST computes it: the quotient in/out is a rounded one, so
        that it falls one short where i * in / out is whole, for some sides.
        """
        rows, columns = self.content
        return _nearest(self.height, rows), _nearest(self.width, columns)

    def image(self, image: np.ndarray) -> np.ndarray:
        """uint8 [height, width, 3] -> uint8 [size, size, 3]: bilinear without anti-aliasing; black bars."""
        return self.placed(resized(image, *self.content))

    def placed(self, content: np.ndarray) -> np.ndarray:
        """[*content, ...] -> [size, size, ...] of the same type: the content between bars of zeros."""
        square = np.zeros((self.size, self.size, *content.shape[2:]), content.dtype)
        self.cut(square)[...] = content
        return square

    def cut(self, square: np.ndarray) -> np.ndarray:
        """[size, size, ...] -> [*content, ...]: the inverse of `placed`."""
        (top, left), (height, width) = self.offset, self.content
        return square[top : top + height, left : left + width]

    def native(self, heat_map: "torch.Tensor") -> "torch.Tensor":
        """float [size, size] -> float [height, width]: `region` cut out, then bilinear with aligned corners."""
        import torch.nn.functional as F  # here and below: detection does without PyTorch

        top, bottom, left, right = self.region
        crop = heat_map[None, None, top:bottom, left:right]
        return F.interpolate(crop, size=(self.height, self.width), mode="bilinear", align_corners=True)[0, 0]

    def add_native(self, heat_map: np.ndarray, total: np.ndarray) -> None:
        """Add what `native` makes of a heat map, float32 [size, size], to `total`, float32 [height, width]."""
        top, bottom, left, right = self.region
        crop = heat_map[top:bottom, left:right]
        column, right_weight = _aligned(crop.shape[1], self.width)
        right_column = np.minimum(column + 1, crop.shape[1] - 1)
        # Not crop[:, column], whose rows do not lie one after the other: what follows takes them whole.
        wide = crop.take(column, axis=1) * (1 - right_weight) + crop.take(right_column, axis=1) * right_weight
        row, lower_weight = _aligned(len(crop), self.height)
        below = np.minimum(row + 1, len(crop) - 1)
        for first in range(0, self.height, ROWS):  # blocks stay in a processor's cache
            part = slice(first, first + ROWS)
            weight = lower_weight[part, None]
            total[part] += wide[row[part]] * (1 - weight)
            total[part] += wide[below[part]] * weight


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, C] -> uint8 [height, width, C], bilinear, bit for bit as OpenCV's INTER_LINEAR in the released code.

    OpenCV computes in whole numbers: weights in 2048ths, sums cut off at the same bits. Only rows and columns that
    count are touched, so that the time hardly grows with the native size.
    """
    tall, wide, channels = image.shape
    if (tall, wide) == (2 * height, 2 * width):  # OpenCV takes the mean of four pixels instead
        quads = image.reshape(height, 2, width, 2, channels).sum(axis=(1, 3), dtype=np.int32)
        return ((quads + 2) >> 2).astype(np.uint8)
    column, right_weight = _taps(wide, width)
    right_weight[(column < 0) | (column >= wide - 1)] = 0  # columns only: beyond a border rows keep both weights
    row, lower_weight = _taps(tall, height)
    rows, number = np.unique(np.clip([row, row + 1], 0, tall - 1), return_inverse=True)
    upper, lower = number.reshape(2, height)
    flat, pixels = image.reshape(tall, wide * channels)[rows], np.arange(channels)
    left, right = (
        flat.take((np.clip(place, 0, wide - 1)[:, None] * channels + pixels).ravel(), axis=1).astype(np.int32)
        for place in (column, column + 1)
    )
    weight = np.repeat(right_weight, channels)
    left *= ONE - weight  # in place: new arrays would take as long as the arithmetic
    right *= weight
    left += right
    left >>= 4
    first, second = left[upper], left[lower]
    first *= ONE - lower_weight[:, None]
    second *= lower_weight[:, None]
    first >>= 16
    second >>= 16
    first += second
    return ((first + 2) >> 2).astype(np.uint8).reshape(height, width, channels)


def _nearest(source: int, target: int) -> np.ndarray:
    """For each of `target` pixels, the one of `source` that OpenCV's INTER_NEAREST takes."""
    places = np.floor(np.arange(target) * (1.0 / (target / source))).astype(np.int64)
    return np.minimum(places, source - 1)


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `target` pixels, the first of the two of `source` between which it lies, and the second's weight.

    Pixel centres at integers + 0.5; the first may be -1; weights are int32 in 0..ONE.
    """
    place = ((np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5).astype(np.float32)
    first = np.floor(place)
    return first.astype(np.int64), np.rint((place - first) * np.float32(ONE)).astype(np.int32)


def _aligned(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `target` pixels, the first of the two of `source` between which it lies, and the second's weight.

    The first and last pixels of both lie on each other; weights are float32 in 0..1.
    """
    place = np.arange(target) * ((source - 1) / max(1, target - 1))
    first = np.floor(place)
    return first.astype(np.int64), (place - first).astype(np.float32)


def rotate(maps: "torch.Tensor", degrees: float, beside: float = 0.0) -> "torch.Tensor":
    """Turn maps [B, C, S, S] anticlockwise as seen on the screen; bilinear, zero outside.

    The pivot is `beside` pixels right of and below the centre: 0.5 in the released augmentation.
    """
    import torch
    import torch.nn.functional as F

    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    unit = 2 * beside / maps.shape[-1]  # in affine_grid's coordinates
    source = torch.tensor(
        [[[cos, -sin, unit * (1 - cos + sin)], [sin, cos, unit * (1 - sin - cos)]]],
        dtype=maps.dtype,
        device=maps.device,
    )
    grid = F.affine_grid(source.expand(len(maps), -1, -1), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
