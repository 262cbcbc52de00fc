"""Native image <-> square model input: one letterbox, used for images, targets and predictions.

Pixel convention: x right, y down, pixel centres at integers + 0.5 for image resizing (half-pixel centres).
Source: METHOD of the released DENDI loader; the released PMC loader squashes instead, which we do not.
"""

from dataclasses import dataclass
from math import floor

import numpy as np
import torch
import torch.nn.functional as F


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

    def image(self, image: np.ndarray) -> np.ndarray:
        """uint8 [height, width, 3] -> uint8 [size, size, 3]: bilinear without anti-aliasing, rounded; black bars."""
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        resized = F.interpolate(pixels, size=self.content, mode="bilinear", align_corners=False, antialias=False)
        square = np.zeros((self.size, self.size, 3), np.uint8)
        self._inside(square)[:] = resized[0].permute(1, 2, 0).add_(0.5).byte().numpy()
        return square

    def target(self, target: np.ndarray) -> np.ndarray:
        """float32 [height, width] -> float32 [size, size]: nearest neighbour, source index floor(i * in / out)."""
        height, width = self.content
        rows = np.arange(height) * self.height // height
        columns = np.arange(width) * self.width // width
        square = np.zeros((self.size, self.size), target.dtype)
        self._inside(square)[:] = target[rows[:, None], columns]
        return square

    def native(self, heat_map: torch.Tensor) -> torch.Tensor:
        """float [size, size] -> float [height, width]: `region` cut out, then bilinear with aligned corners."""
        top, bottom, left, right = self.region
        crop = heat_map[None, None, top:bottom, left:right]
        return F.interpolate(crop, size=(self.height, self.width), mode="bilinear", align_corners=True)[0, 0]

    def _inside(self, square: np.ndarray) -> np.ndarray:
        (top, left), (height, width) = self.offset, self.content
        return square[top : top + height, left : left + width]
