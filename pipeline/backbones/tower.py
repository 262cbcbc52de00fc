"""What all image towers have in common."""

import torch
from torch import nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class ImageTower(nn.Module):
    """Base of the towers: images in 0..1 are normalised, then turned into three features, shallow to deep.

    `widths`: channels of the features. `mean`, `std`: of the images that the tower wants, per channel.
    """

    widths: list[int]

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] in 0..1 -> the same shape, as the tower wants it."""
        return (images - self.mean) / self.std
