"""EquiSym (Seo et al., CVPR 2022; docs/equisym.md): a dilated ResNet, ASPP, a branch for the orientation, and one for
the axes or centres.

To be read from top to bottom. Each form of the model is this network, made of layers of another `Kind`. [B, C, h, w]
are plain tensors throughout. The grid is an eighth of the image, rounded up: 53 x 53 of 417 pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.equisym.layers import Kind

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # of each stage
STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)  # of each stage
MULTIGRID = 1, 2, 4  # times the dilation: of the last stage's blocks, in the plain version
ATROUS = 12, 24, 36  # dilations of ASPP
STEM, WIDTH = 64, 256  # channels of the first stage, and behind ASPP
SURE = 1e-5  # the orientation's probability keeps this distance from 0 and 1


class BasicBlock(nn.Module):
    """Two convolutions, and the way around them."""

    expansion = 1

    def __init__(self, kind: Kind, channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = kind.layer(channels, width, 3, stride, dilation)
        self.conv2 = kind.layer(width, width, 3)
        self.downsample = around(kind, channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w']."""
        return (self.conv2(self.conv1(x).relu_()) + self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """Three convolutions, the middle one of a quarter of the channels, and the way around them."""

    expansion = 4

    def __init__(self, kind: Kind, channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = kind.layer(channels, width, 1)
        self.conv2 = kind.layer(width, width, 3, stride, dilation)
        self.conv3 = kind.layer(width, 4 * width, 1)
        self.downsample = around(kind, channels, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w']."""
        return (self.conv3(self.conv2(self.conv1(x).relu_()).relu_()) + self.downsample(x)).relu_()


def around(kind: Kind, channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity, or a convolution where the shape changes."""
    same = stride == 1 and channels == out_channels
    return nn.Identity() if same else kind.layer(channels, out_channels, 1, stride)


class Backbone(nn.Module):
    """A ResNet whose last two stages are dilated: [B, 3, S, S] -> [B, `channels`, S / 8, S / 8]."""

    def __init__(self, kind: Kind, depth: int) -> None:
        super().__init__()
        block: type[BasicBlock | Bottleneck] = Bottleneck if depth == 50 else BasicBlock
        self.conv1, self.channels = kind.layer(3, STEM, 7, 2), STEM
        self.layer1, self.layer2, self.layer3, self.layer4 = stages = [nn.Sequential() for _ in STRIDES]
        for number, (stage, blocks) in enumerate(zip(stages, BLOCKS[depth])):
            width = STEM << number
            for k in range(blocks):
                dilation = DILATIONS[number] * (MULTIGRID[k] if kind.multigrid and number == 3 else 1)
                stage.append(block(kind, self.channels, width, 1 if k else STRIDES[number], dilation))
                self.channels = width * block.expansion

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] -> [B, C, h, w]."""
        x = F.max_pool2d(self.conv1(images), kernel_size=3, stride=2, padding=1).relu_()  # as well as before
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ASPP(nn.Module):
    """Convolutions of several dilations side by side, and the mean over the image; then joined."""

    def __init__(self, kind: Kind, channels: int) -> None:
        super().__init__()
        self.aspp1 = kind.layer(channels, WIDTH, 1)
        self.aspp2, self.aspp3, self.aspp4 = (kind.layer(channels, WIDTH, 3, 1, dilation) for dilation in ATROUS)
        self.global_avg_pool = kind.layer(channels, WIDTH, 1)
        self.conv1, self.cat = kind.layer(5 * WIDTH, WIDTH, 1), kind.cat

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, 256, h, w]."""
        local = [branch(x).relu_() for branch in (self.aspp1, self.aspp2, self.aspp3, self.aspp4)]
        mean = self.global_avg_pool(x.mean((2, 3), keepdim=True)).relu_()
        return self.conv1(self.cat([*local, mean.expand_as(local[0])])).relu_()


class Branch(nn.Module):
    """Two convolutions, and one of a pixel to the maps: [B, 256, h, w] -> [B, N, h, w]."""

    def __init__(self, kind: Kind, maps: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = kind.layer(WIDTH, WIDTH, 3), kind.layer(WIDTH, WIDTH, 3)
        self.conv3 = kind.scalars(WIDTH, maps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 256, h, w] -> [B, N, h, w]."""
        return self.conv3(self.conv2(self.conv1(x).relu_()).relu_())


class Network(nn.Module):
    """The whole network, of normalised images. `orientations`: classes besides the background; none: without a branch
    for them.
    """

    def __init__(self, kind: Kind, depth: int, orientations: int) -> None:
        super().__init__()
        self.depth, self.orientations = depth, orientations
        self.backbone = Backbone(kind, depth)
        self.aspp = ASPP(kind, self.backbone.channels)
        if orientations:
            self.decoder_theta = Branch(kind, orientations + 1)
            self.decoder_axis: nn.Module = kind.joined(orientations + 2, 1)
        else:
            self.decoder_axis = Branch(kind, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[B, 3, S, S] -> logits [B, 1, h, w] of axes or centres, and [B, 1 + orientations, h, w], background first."""
        return self.decoded(self.backbone(images))

    def decoded(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What `forward` makes of the backbone's features, [B, C, h, w]."""
        features = self.aspp(features)
        if not self.orientations:
            return self.decoder_axis(features), None
        theta = self.decoder_theta(features)
        some = theta.softmax(dim=1)[:, 1:].sum(dim=1, keepdim=True).clamp(SURE, 1 - SURE)
        return self.decoder_axis(torch.cat([theta, some], dim=1)), theta
