"""What a network is made of: convolutions with batch normalisation, or both folded into one convolution, for use."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.equisym.symmetric import SymmetricConv

Norm = dict[str, torch.Tensor]  # weight, bias, running_mean, running_var of a batch normalisation
NARROW = {1: 16, 3: 256, 7: 256}  # channels, by kernel, below which a plain convolution is faster


@dataclass(frozen=True)
class Kind:
    """The layers of a network.

    `layer`: (channels, out_channels, kernel, stride, dilation) -> a convolution with what belongs to it, which keeps
    the grid; three channels are an image's. `scalars`: (channels, out_channels) -> a convolution of one pixel, from
    features to maps without direction; `joined`: the same, of such maps. `multigrid`: whether the dilations of the last
    stage's blocks differ. `parts`: into which the channels are divided, and all features alike, when they are joined.
    """

    layer: Callable[..., nn.Module]
    scalars: Callable[[int, int], nn.Module]
    joined: Callable[[int, int], nn.Module]
    multigrid: bool
    parts: int = 1

    def cat(self, features: list[torch.Tensor]) -> torch.Tensor:
        """[B, C_i, h, w] -> [B, sum of C_i, h, w]."""
        return torch.cat([x.unflatten(1, (self.parts, -1)) for x in features], dim=2).flatten(1, 2)


def convolution(
    channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1, bias: bool = True
) -> nn.Conv2d:
    """Padded to keep the grid."""
    return nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2 * dilation, dilation, bias=bias)


class NormalisedConv(nn.Module):
    """A convolution and its batch normalisation: [B, C, h, w] -> [B, C', h', w']."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = convolution(channels, out_channels, kernel, stride, dilation, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w']."""
        return normalised(self.norm, self.conv(x))

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter and the bias of the convolution that this is in evaluation mode."""
        return folded(self.conv.weight, self.norm)

    def take(self, weight: torch.Tensor, norm: Norm) -> None:
        """Become the convolution with this filter [C', C, k, k] and this normalisation."""
        self.conv.load_state_dict({"weight": weight})
        self.norm.load_state_dict(norm, strict=False)


def normalised(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """What the batch normalisation makes of [B, C, h, w]; of one number a channel, the mean over one image, which has
    no variance, what it makes in evaluation.
    """
    if norm.training and x.numel() == x.shape[1]:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


def folded(weight: torch.Tensor, norm: nn.BatchNorm2d, field: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A filter [C', C, k, k] and a bias [C'] that are a filter and the batch normalisation behind it, whose numbers
    serve `field` channels each.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("expected a batch normalisation that keeps its statistics")
    scale = norm.weight / (variance + norm.eps).sqrt()
    shift = norm.bias - mean * scale
    return weight * scale.repeat_interleave(field)[:, None, None, None], shift.repeat_interleave(field)


def symmetric(channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    """A convolution between regular fields, in the order of pipeline.model.equisym.symmetric."""
    layer = convolution if channels < NARROW[kernel] else SymmetricConv
    return layer(channels, out_channels, kernel, stride, dilation)


class PixelConv(nn.Conv2d):
    """A convolution of one pixel, without a normalisation."""

    def __init__(self, channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(channels, out_channels, kernel_size=1, bias=bias)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter and the bias."""
        return self.weight, self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias

    def take(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Become the convolution with this filter and bias; without a bias of its own, with none."""
        self.load_state_dict({"weight": weight} if self.bias is None else {"weight": weight, "bias": bias})


PLAIN = Kind(NormalisedConv, PixelConv, PixelConv, multigrid=True)


FOLDED = {  # by version: the layers of networks for use
    "plain": Kind(convolution, PixelConv, PixelConv, multigrid=True),
    "steerable": Kind(symmetric, PixelConv, PixelConv, multigrid=False, parts=4),
}
