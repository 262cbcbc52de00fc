"""CLIPSym (paper section 3; docs/method.md): an image tower, prompts, and the decoder and upsampler that join them.

To be read from top to bottom. D is the decoder's width, M the number of prompts, T the number of tokens (the grid,
after a class token if the image tower has one). Submodules of decoder and upsampler carry the released code's names, so
that its weights load (see `from_released`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.backbones.catalogue import ImageTower, TextTower
from pipeline.model.base import AUTOCAST, Model
from pipeline.model.kernels import Linear, conv_after_x4, conv_of_interleaved, interleaved, mlp, pooled_after_x2
from pipeline.params import DecoderParams
from pipeline.params.choices import Group, Precision, UpsamplerKind

HEADS, MLP_WIDTH = 4, 2048
FACTOR = {1: 16, 2: 4, 4: 2}  # by the upsampler's number of layers: how much finer each makes the grid


class CLIPSym(Model):
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

    def parts(self) -> tuple[list[list[nn.Parameter]], list[nn.Parameter], list[nn.Parameter]]:
        """As `Model.parts`."""
        text = [] if self.text_tower is None else list(self.text_tower.parameters())
        return self.image_tower.layers(), text, list(self.decoder.parameters())

    def train(self, mode: bool = True) -> CLIPSym:
        """Switch the mode; evaluation mode takes up what a text tower has learnt."""
        super().train(mode)
        if not mode and self.text_tower is not None:
            with torch.no_grad():
                embeddings: Any = self.text_embeddings  # a tensor, since there is a tower
                embeddings.copy_(self.text_tower())
        return self


def build_model(
    tower: ImageTower,
    text_embeddings: torch.Tensor | None,
    shape: DecoderParams,
    precision: Precision,
    portable: bool = False,
) -> CLIPSym:
    """A model with a fresh decoder for this tower and these text embeddings, [M, E], or None for no text.

    `portable`: with a random upsampler in the expanded form of an equivariant one.
    """
    count, text_width = (1, None) if text_embeddings is None else text_embeddings.shape
    decoder = Decoder(
        tower.widths, text_width, count, shape.width, shape.upsampler, shape.group, shape.layers, portable
    )
    return CLIPSym(tower, decoder, text_embeddings, precision)


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


class LiftedUpsampler(nn.Module):
    """Lifting convolution, in each layer (bilinear upsampling, convolution, ReLU), projection to one channel.

    The convolutions are 3x3 and have `expanded`: the filter and the bias of the plain convolution that they are.
    """

    def __init__(self, lifting: nn.Module, layers: Sequence[nn.Module], pool: Any) -> None:
        super().__init__()
        self.factor = FACTOR[len(layers)]
        self.lifting = lifting
        self.upsampler = nn.ModuleDict({str(3 * k + 1): conv for k, conv in enumerate(layers)})  # 0: finer, 2: ReLU
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, h, w] -> logits [B, 1, 16 h, 16 w]."""
        x = self.lifting(x)
        layers: list[Any] = [*self.upsampler.values()]
        pool: Any = self.pool
        if self.factor == 2 and torch.jit.is_tracing():
            for convolution in layers[:-1]:
                x = convolution(finer(x, 2)).relu_()
            return pooled_after_x2(x, *layers[-1].expanded(), *pool.expanded())
        if self.factor != 4 or torch.jit.is_tracing():  # exported models keep the plain form
            for convolution in layers:
                x = convolution(finer(x, self.factor)).relu_()
            return pool(x)
        first, second = layers
        x = interleaved(conv_after_x4(x, *first.expanded()).relu_())
        x = conv_after_x4(x, *second.expanded()).relu_()
        return conv_of_interleaved(x, *pool.expanded())


class PlainConv(nn.Conv2d):
    """A 3x3 convolution for LiftedUpsampler, with weights of its own."""

    bias: torch.Tensor

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, kernel_size=3, padding=1)

    def expanded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter [C', C, 3, 3] and the bias [C']."""
        return self.weight, self.bias


def expanded_upsampler(width: int, group: Group, layers: int) -> LiftedUpsampler:
    """A random upsampler of plain convolutions, of the shape that an equivariant one has when expanded."""
    order = int(group[1:]) * (2 if group[0] == "D" else 1)
    widths = [(width >> halved) * order for halved in range(layers + 1)]
    layers_ = [PlainConv(*widths[k : k + 2]) for k in range(layers)]
    return LiftedUpsampler(PlainConv(width, widths[0]), layers_, PlainConv(widths[-1], 1))


class PlainUpsampler(nn.ModuleDict):
    """Ordinary convolutions of the same shape (the paper's non-equivariant ablation)."""

    def __init__(self, width: int, layers: int) -> None:
        widths = [*(width >> halved for halved in range(layers + 1)), 1]
        convolutions = [nn.Conv2d(widths[k], widths[k + 1], 3, padding=1) for k in range(layers + 1)]
        super().__init__({str(3 * k): conv for k, conv in enumerate(convolutions)})  # 1: ReLU, 2: finer
        self.factor = FACTOR[layers]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, h, w] -> logits [B, 1, 16 h, 16 w]."""
        layers: list[Any] = [*self.values()]
        x = layers[0](x)
        for convolution in layers[1:]:
            if self.factor == 4 and not torch.jit.is_tracing():
                x = interleaved(conv_after_x4(x.relu_(), convolution.weight, convolution.bias))
            else:
                x = convolution(finer(x.relu_(), self.factor))
        return x


def finer(x: torch.Tensor, factor: int) -> torch.Tensor:
    """[B, C, h, w] -> [B, C, factor * h, factor * w], bilinear with half-pixel centres."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
