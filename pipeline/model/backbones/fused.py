"""EfficientNet-Lite0 as plain convolutions, batch normalisation folded in: for use, not for training."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.model.backbones.lite import WIDTHS, LiteTower
from pipeline.params import BackboneParams

STEM = 32
BLOCKS = ((3, 1, 1, 1), (3, 2, 6, 2), (5, 2, 6, 2), (3, 2, 6, 3), (5, 1, 6, 3), (5, 2, 6, 4), (3, 1, 6, 1))
# kernel, stride of the first unit, expansion, units; channels are WIDTHS


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: the result has ceil(n / stride) pixels, an odd one goes to the end."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, groups: int, active: bool) -> None:
        super().__init__(channels, out_channels, kernel, stride, groups=groups)
        self.active = active  # ReLU6 follows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', ceil(h / stride), ceil(w / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        (top, bottom), (left, right) = (_padding(int(side), kernel, stride) for side in x.shape[2:])
        if (top, left) == (bottom, right):
            x = F.conv2d(x, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        else:
            x = super().forward(F.pad(x, (left, right, top, bottom)))
        return F.relu6(x, inplace=True) if self.active else x


class Unit(nn.Sequential):
    """An inverted residual: expansion to `expansion` times the channels, depthwise convolution, projection."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        inner = expansion * channels
        expanding = [SameConv(channels, inner, 1, 1, 1, True)] if expansion > 1 else []
        super().__init__(
            *expanding,
            SameConv(inner, inner, kernel, stride, inner, True),
            SameConv(inner, out_channels, 1, 1, 1, False),
        )
        self.residual = stride == 1 and channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', ceil(h / stride), ceil(w / stride)]."""
        return x + super().forward(x) if self.residual else super().forward(x)


def fused_tower(config: BackboneParams) -> LiteTower:
    """A random tower of a catalogue entry."""
    blocks, channels = nn.Sequential(), STEM
    for width, (kernel, stride, expansion, units) in zip(WIDTHS, BLOCKS, strict=True):
        first = Unit(channels, width, kernel, stride, expansion)
        blocks.append(nn.Sequential(first, *(Unit(width, width, kernel, 1, expansion) for _ in range(1, units))))
        channels = width
    return LiteTower(nn.Sequential(SameConv(3, STEM, 3, 2, 1, True)), blocks, config)


@torch.no_grad()
def fuse(tower: LiteTower, config: BackboneParams) -> LiteTower:
    """The same function as a tower of timm's modules, with its batch normalisation folded in."""
    fused = fused_tower(config)
    convolutions = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    targets = [module for module in fused.modules() if isinstance(module, SameConv)]
    for target, convolution, norm in zip(targets, convolutions, norms, strict=True):
        target.load_state_dict(fuse_conv_bn_eval(convolution, norm).state_dict())
    return fused


def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after."""
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2
