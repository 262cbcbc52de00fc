"""The prompt-conditioned decoder (paper section 3.3; docs/method.md, Decoder): features and text -> logits.

D is the decoder's width, M the number of prompts, T the number of tokens (the grid, after a class token if the image
tower has one). Submodules carry the released code's names, so that its weights load (see `from_released`).
"""

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.kernels.blockwise_mlp import mlp
from pipeline.model.kernels.onednn import Linear
from pipeline.model.upsampler import PlainUpsampler, expanded_upsampler
from pipeline.params.choices import Group, UpsamplerKind

HEADS, MLP_WIDTH = 4, 2048


class Attention(nn.Module):
    """Multi-head self-attention [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = (p(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """A post-norm transformer layer: x = LN1(x + attention(x)); x = LN2(x + MLP(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, MLP_WIDTH), "fc2": nn.Linear(MLP_WIDTH, width)})
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]."""
        x = self.layer_norm1(x + self.self_attn(x))
        return self.layer_norm2(x + mlp(x, *self.mlp["fc1"].parameters(), *self.mlp["fc2"].parameters()))


class Decoder(nn.Module):
    """Three transformer layers from the deepest feature to the shallowest, the first modulated by each prompt (FiLM).

    `feature_widths`: channels of the three features, shallow to deep. `text_width`: of the text embeddings, None for
    no text (then M = 1 and nothing is modulated). `width` must be divisible by 2^`layers`, those of the upsampler.
    `portable`: with a plain upsampler in the expanded form of an equivariant one.
    """

    def __init__(
        self,
        feature_widths: list[int],
        text_width: int | None,
        prompts: int,
        width: int,
        upsampler: UpsamplerKind,
        group: Group,
        layers: int,
        portable: bool = False,
    ) -> None:
        super().__init__()
        if text_width is not None:
            self.film_mul, self.film_add = nn.Linear(text_width, width), nn.Linear(text_width, width)
        self.reduces = nn.ModuleList(Linear(channels, width) for channels in reversed(feature_widths))
        self.layers = nn.ModuleList(DecoderLayer(width) for _ in feature_widths)
        self.decoder_linear_map = nn.Conv2d(prompts, 1, kernel_size=1)
        self.upsampler = build_upsampler(upsampler, width, group, layers, portable)

    def forward(
        self, features: list[torch.Tensor], text_embeddings: torch.Tensor | None, grid: tuple[int, int]
    ) -> torch.Tensor:
        """Logits [B, 1, 16 h, 16 w].

        features: three of [B, T, C_i], shallow to deep; T = h * w, or 1 + h * w with a class token first
        text_embeddings: [M, E], or None for no text
        grid: (h, w)
        """
        deepest, *shallower = (reduce(f) for reduce, f in zip(self.reduces, reversed(features)))  # [B, T, D] each
        x = deepest[:, None]
        if text_embeddings is not None:
            multiplier, shift = self.film_mul(text_embeddings), self.film_add(text_embeddings)  # [M, D]
            x = multiplier[:, None] * x + shift[:, None]  # [B, M, T, D]
        x = self._layer(0, x)
        for number, feature in enumerate(shallower, start=1):
            x = self._layer(number, x + feature[:, None])
        height, width = grid
        x = self.decoder_linear_map(x[:, :, -height * width :])[:, 0]  # [B, h * w, D]
        return self.upsampler(x.transpose(1, 2).unflatten(2, (height, width)))

    def _layer(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """Apply one layer to every prompt's sequence: [B, M, T, D] -> [B, M, T, D]."""
        return self.layers[number](x.flatten(0, 1)).unflatten(0, x.shape[:2])


def from_released(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The released decoder's state under our names; only its plain upsampler is called differently."""
    return {name.replace("upsample_layer.", "upsampler."): value for name, value in state.items()}


def build_upsampler(kind: UpsamplerKind, width: int, group: Group, layers: int, portable: bool = False) -> nn.Module:
    """The upsampler by name; `group` matters to the equivariant one only. `width` is divisible by 2^`layers`."""
    if kind == "plain":
        return PlainUpsampler(width, layers)
    if portable:
        return expanded_upsampler(width, group, layers)
    from pipeline.model.equivariant import equivariant_upsampler  # here: escnn takes a second, and not everybody has it

    return equivariant_upsampler(width, group, layers)
