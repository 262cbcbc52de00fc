"""EquiSym's layers as they learn: steerable convolutions for D8, of escnn's bases, normalised by fields.

Regular fields of 16 channels, in escnn's order: rotations, then the same after the reflection.
"""

from functools import cache, partial

import torch
from torch import nn

from pipeline.model.equisym.layers import Kind, Norm, PixelConv, folded
from pipeline.model.equisym.symmetric import FIELD
from pipeline.model.equivariant import SameFunctions, SteerableConv, group_space, sampled_basis
from pipeline.model.escnn import nn as enn

TOLERANCE = 1e-3  # of a filter, relative to its largest number
FREQUENCIES = 4  # of filters of 3 x 3 pixels, at most: with more of them escnn's dilated filters are not steerable


class NormalisedSteerable(nn.Module):
    """A steerable convolution and a batch normalisation with one mean and variance a field."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = steerable(channels, out_channels, kernel, stride, dilation)
        self.norm = nn.BatchNorm2d(out_channels // FIELD)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w']."""
        x = self.conv(x)
        return self.norm(x.unflatten(1, (-1, FIELD)).flatten(2, 3)).view_as(x)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter and the bias of the convolution that this is in evaluation mode."""
        return folded(self.conv.expanded()[0], self.norm, FIELD)

    def take(self, weight: torch.Tensor, norm: Norm) -> None:
        """Become this convolution, [C', C, k, k], and this normalisation, by fields. Raises ValueError."""
        _fit(self.conv, weight)
        self.norm.load_state_dict(norm, strict=False)


class SteerablePixelConv(nn.Module):
    """A convolution of one pixel, from regular fields to maps without direction, without a normalisation or a bias."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = steerable(channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h, w]."""
        return self.conv(x)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter, and a bias of zeros."""
        return self.conv.expanded()

    def take(self, weight: torch.Tensor, _: torch.Tensor) -> None:
        """Become the convolution with this filter [C', C, 1, 1]. Raises ValueError."""
        _fit(self.conv, weight)


def steerable(channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> SteerableConv:
    """A convolution with random weights, He's: those filters that lead to a channel have a sum of squares of 2."""
    (inside, inputs), (outside, outputs) = _fields(channels), _fields(out_channels)
    basis = _basis(inside, outside, kernel, dilation).clone()
    deviation = (2 / (inputs * basis.square().sum() / basis.shape[1])).sqrt()
    weights = deviation * torch.randn(outputs * inputs * len(basis))
    return SteerableConv((outputs, inputs), basis, nn.Parameter(weights), stride=stride, dilation=dilation)


def _fit(conv: SteerableConv, weight: torch.Tensor) -> None:
    """Take the weights that make a filter. Raises ValueError where none do."""
    conv.fit(weight)
    if not float((conv.expanded()[0] - weight).abs().max()) <= TOLERANCE * float(weight.abs().max()):
        raise ValueError("its filter is not made of escnn's basis, or not steerable")


def _fields(channels: int) -> tuple[bool, int]:
    """Whether so many channels are those of regular fields, and how many; else each is a map without direction."""
    regular = channels % FIELD == 0
    return regular, channels // FIELD if regular else channels


@cache
def _basis(inside: bool, outside: bool, kernel: int, dilation: int) -> torch.Tensor:
    """[B, o, i, k * k]: the filters between two regular fields, or a map without direction."""
    space = group_space("D8")
    types = (enn.FieldType(space, [space.regular_repr if some else space.trivial_repr]) for some in (inside, outside))
    with SameFunctions():
        return sampled_basis(
            enn.R2Conv(
                *types, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False, recompute=True,
                initialize=False, frequencies_cutoff=lambda r: min(3 * r, FREQUENCIES) if kernel == 3 else 3 * r,
            )
        )  # fmt: skip


STEERABLE = Kind(
    NormalisedSteerable,
    scalars=SteerablePixelConv,
    joined=partial(PixelConv, bias=False),
    multigrid=False,
)
