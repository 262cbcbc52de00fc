"""What every model of this project is, whatever its network."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from pipeline.params.choices import Precision

AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Model(nn.Module, ABC):
    """From images to logits. `precision`: of the products; weights and logits are float32 in any case."""

    precision: Precision

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model lies."""

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 1, S, S] of images, float RGB [B, 3, S, S] in 0..1, letterboxed with black.

        `logits.sigmoid()` is the probability that a pixel lies on a reflection axis, or is a rotation centre.
        """

    @abstractmethod
    def parts(self) -> tuple[list[list[nn.Parameter]], list[nn.Parameter], list[nn.Parameter]]:
        """All parameters: of the image tower, by layers from the bottom; of the text tower; of what follows."""
