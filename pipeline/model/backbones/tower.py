"""What all image towers have in common."""

from abc import ABC, abstractmethod

import torch
from torch import nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class ImageTower(nn.Module, ABC):
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

    @property
    @abstractmethod
    def trunk(self) -> nn.Sequential | nn.ModuleList:
        """The blocks, shallow to deep."""

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters before the first block, then those of each block, shallow to deep."""
        blocks = [list(block.parameters()) for block in self.trunk]
        inside = {id(parameter) for block in blocks for parameter in block}
        return [[parameter for parameter in self.parameters() if id(parameter) not in inside], *blocks]


class TextTower(nn.Module, ABC):
    """Base of the text towers: each embeds the prompts that it was built for.

    They stay in evaluation mode, without dropout, as CLIP trains them.
    """

    def train(self, mode: bool = True) -> "TextTower":
        """Leave the mode as it is."""
        return super().train(False)

    @abstractmethod
    def forward(self) -> torch.Tensor:
        """The embeddings, [M, E], not L2-normalised."""
