"""CLIPSym: an image tower, prompts and the decoder that joins them."""

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.backbones.tower import ImageTower, TextTower
from pipeline.model.decoder import Decoder
from pipeline.params.choices import Precision


def best_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class CLIPSym(nn.Module):
    """The whole model.

    Text embeddings, [M, E] or None, are a buffer: computed once, or, while a text tower learns, in each training step
    and at each change to evaluation mode. `precision`: of the products; weights and logits are float32 in any case.
    """

    def __init__(
        self, image_tower: ImageTower, decoder: Decoder, text_embeddings: torch.Tensor | None, precision: Precision
    ) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.decoder = decoder
        self.precision = precision
        self.text_tower: TextTower | None = None  # set where it learns
        self.register_buffer("text_embeddings", text_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.decoder.decoder_linear_map.weight.device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 1, S, S] of images, float RGB [B, 3, S, S] in 0..1, letterboxed with black.

        `logits.sigmoid()` is the probability that a pixel lies on a reflection axis, or is a rotation centre.
        """
        with torch.autocast(images.device.type, AUTOCAST[self.precision], enabled=self.precision != "fp32"):
            text = self.text_tower() if self.training and self.text_tower is not None else self.text_embeddings
            features, grid = self.image_tower(images)
            logits = self.decoder(features, text, grid)
        return F.interpolate(logits.float(), size=images.shape[-2:], mode="bilinear", align_corners=True)

    def train(self, mode: bool = True) -> "CLIPSym":
        """Switch the mode; evaluation mode takes up what a text tower has learnt."""
        super().train(mode)
        if not mode and self.text_tower is not None:
            with torch.no_grad():
                self.text_embeddings.copy_(self.text_tower())
        return self
