"""CLIPSym: an image tower, prompts and the decoder that joins them."""

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backbones.tower import ImageTower
from pipeline.decoder import Decoder
from pipeline.names import Precision


def best_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class CLIPSym(nn.Module):
    """The whole model. Text embeddings, [M, E] or None, are fixed: they are computed once and kept as a buffer.

    `precision`: of the products; weights and logits are float32 in any case.
    """

    def __init__(
        self, image_tower: ImageTower, decoder: Decoder, text_embeddings: torch.Tensor | None, precision: Precision
    ) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.decoder = decoder
        self.precision = precision
        self.register_buffer("text_embeddings", text_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.decoder.decoder_linear_map.weight.device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 1, S, S] of images, float RGB [B, 3, S, S] in 0..1, letterboxed with black.

        `logits.sigmoid()` is the probability that a pixel lies on a reflection axis, or is a rotation centre.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            features, grid = self.image_tower(images)
            logits = self.decoder(features, self.text_embeddings, grid)
        return F.interpolate(logits.float(), size=images.shape[-2:], mode="bilinear", align_corners=True)
