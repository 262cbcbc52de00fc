"""From the decoder's grid to logits, 16 times finer: rotation-equivariant (paper section 3.3) or plain.

Shapes: [B, D, h, w] -> [B, 1, 16 h, 16 w]. The submodules carry the released code's names, so that its weights load.
"""

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.kernels.onednn import mix_channels
from pipeline.params.choices import Group

FACTOR = {1: 16, 2: 4, 4: 2}  # by the number of layers: how much finer each makes the grid


class LiftedUpsampler(nn.Module):
    """Lifting convolution, in each layer (bilinear upsampling, convolution, ReLU), projection to one channel.

    The convolutions are 3x3 and have `expanded`: the filter and the bias of the plain convolution that they are.
    """

    def __init__(self, lifting: nn.Module, layers: Sequence[nn.Module], pool: nn.Module) -> None:
        super().__init__()
        self.factor = FACTOR[len(layers)]
        self.lifting = lifting
        self.upsampler = nn.ModuleDict({str(3 * k + 1): conv for k, conv in enumerate(layers)})  # 0: finer, 2: ReLU
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, h, w] -> logits [B, 1, 16 h, 16 w]."""
        x = self.lifting(x)
        if self.factor != 4 or torch.jit.is_tracing():  # exported models keep the plain form
            for convolution in self.upsampler.values():
                x = convolution(finer(x, self.factor)).relu_()
            return self.pool(x)
        first, second = self.upsampler.values()
        x = interleaved(conv_after_x4(x, *first.expanded()).relu_())
        x = conv_after_x4(x, *second.expanded()).relu_()
        return conv_of_interleaved(x, *self.pool.expanded())


class PlainConv(nn.Conv2d):
    """A 3x3 convolution for LiftedUpsampler, with weights of its own."""

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


@torch.no_grad()
def expand(upsampler: LiftedUpsampler) -> LiftedUpsampler:
    """The same function, of plain convolutions."""

    def plain(convolution: nn.Module) -> PlainConv:
        weight, bias = convolution.expanded()
        twin = PlainConv(weight.shape[1], weight.shape[0])
        twin.load_state_dict({"weight": weight, "bias": bias})
        return twin

    layers = [plain(convolution) for convolution in upsampler.upsampler.values()]
    return LiftedUpsampler(plain(upsampler.lifting), layers, plain(upsampler.pool))


class PlainUpsampler(nn.ModuleDict):
    """Ordinary convolutions of the same shape (the paper's non-equivariant ablation)."""

    def __init__(self, width: int, layers: int) -> None:
        widths = [*(width >> halved for halved in range(layers + 1)), 1]
        super().__init__(
            {str(3 * k): nn.Conv2d(*widths[k : k + 2], 3, padding=1) for k in range(layers + 1)}  # 1: ReLU, 2: finer
        )
        self.factor = FACTOR[layers]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, h, w] -> logits [B, 1, 16 h, 16 w]."""
        first, *others = self.values()
        x = first(x)
        for convolution in others:
            if self.factor == 4 and not torch.jit.is_tracing():
                x = interleaved(conv_after_x4(x.relu_(), convolution.weight, convolution.bias))
            else:
                x = convolution(finer(x.relu_(), self.factor))
        return x


def finer(x: torch.Tensor, factor: int) -> torch.Tensor:
    """[B, C, h, w] -> [B, C, factor * h, factor * w], bilinear with half-pixel centres."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def conv_after_x4(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`conv2d(bilinear_x4(x), weight, bias, padding=1)`, at 9 C + 1,296 multiply-adds per pixel of x and C', not 144 C.

    Both steps are linear, so that the channels are mixed before upsampling, for each of the nine taps; then a small
    convolution spreads the taps of each channel over the pixels.
    x: [B, C, h, w]; weight: [C', C, 3, 3]; bias: [C'].
    The result: [B, C', 16, h, w], each pixel of x grown to 4 x 4, row by row; `interleaved` makes an image of it.
    """
    channels = len(weight)
    mixing = weight.permute(0, 2, 3, 1).reshape(9 * channels, -1, 1, 1)
    centre = F.pad(bias[:, None], (4, 4)).flatten()  # the central tap never meets the zero padding
    taps = mix_channels(F.pad(x, (1, 1, 1, 1), mode="replicate"), mixing, centre)
    return SpreadTaps.apply(taps.unflatten(1, (channels, 9)).flatten(0, 1)).unflatten(0, (len(x), channels))


def interleaved(x: torch.Tensor) -> torch.Tensor:
    """[B, C, 16, h, w] -> [B, C, 4 h, 4 w]."""
    batch, channels, _, height, width = x.shape
    return x.unflatten(2, (4, 4)).permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, 4 * height, 4 * width)


def conv_of_interleaved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`conv2d(interleaved(x), weight, bias, padding=1)`; x: [B, C, 16, h, w]; weight: [1, C, 3, 3].

    Channels are mixed before interleaving, for each of the nine taps, so that nine channels are interleaved and not C.
    """
    mixing = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(9, -1, 1, 1)
    taps = interleaved(F.conv2d(x.flatten(2, 3), mixing).unflatten(2, x.shape[2:4]))
    taps = taps.to(torch.promote_types(taps.dtype, torch.float32))  # the sum of nine, in bf16 too
    return F.fold(taps.flatten(2), taps.shape[2:], kernel_size=3, padding=1) + bias[:, None, None]


class SpreadTaps(torch.autograd.Function):
    """From the taps of a 3x3 convolution on the coarse grid to its values on the grid four times finer.

    taps: [N, 9, h + 2, w + 2], with a border of one pixel that repeats the outermost ones, as bilinear interpolation
    (align_corners=False) does; the result: [N, 16, h, w]. A gradient of its own because autograd would
    copy the whole result for each of the four sides.
    """

    @staticmethod
    def forward(ctx, taps):
        """[N, 9, h + 2, w + 2] -> [N, 16, h, w]."""
        spread = F.conv2d(taps, spreading_kernel(taps.dtype, taps.device))
        for pixels, outermost, line in SpreadTaps.sides(spread, taps):
            pixels -= (outermost.flatten(1) @ line).view_as(pixels)
        return spread

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """[N, 16, h, w] -> [N, 9, h + 2, w + 2]: the transposed map."""
        taps = F.conv_transpose2d(gradient, spreading_kernel(gradient.dtype, gradient.device))
        for pixels, outermost, line in SpreadTaps.sides(gradient, taps):
            outermost -= (pixels.flatten(1) @ line.T).view_as(outermost)
        return taps

    @staticmethod
    def sides(spread: torch.Tensor, taps: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """For top, bottom, left and right: the outermost pixels, the taps that reach beyond them, and the matrix
        between these two: the convolution sees zeros out there, and not the repeated pixels.
        """
        pixels, height, width = spread.unflatten(1, (4, 4)), *spread.shape[2:]
        taps = taps.unflatten(1, (3, 3))[..., 1:-1, 1:-1]
        kind = spread.dtype, spread.device
        rows, columns = line_matrix(width, *kind, corners=False), line_matrix(height, *kind, corners=True)
        return [
            (pixels[:, 0, :, 0], taps[:, 0, :, 0], rows),
            (pixels[:, 3, :, -1], taps[:, 2, :, -1], rows),
            (pixels[:, :, 0, :, 0], taps[:, :, 0, :, 0], columns),
            (pixels[:, :, 3, :, -1], taps[:, :, 2, :, -1], columns),
        ]


@cache
def spreading_kernel(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[16, 9, 3, 3]: what each of 3 x 3 pixels adds through each tap to each of the 16 finer pixels."""
    line = taps_to_line(dtype, device)
    return torch.einsum("pad,qbe->pqabde", line, line).reshape(16, 9, 3, 3)


@cache
def line_matrix(length: int, dtype: torch.dtype, device: torch.device, corners: bool) -> torch.Tensor:
    """[3 n, 4 n]: from three taps along a line of n pixels to the finer pixels; without `corners`, beyond its ends are
    zeros and not the repeated pixels.
    """
    taps = torch.eye(3 * length, dtype=dtype, device=device).view(3 * length, 3, length)
    matrix = F.conv1d(F.pad(taps, (1, 1), mode="replicate"), taps_to_line(dtype, device))  # [3 n, 4, n]
    if not corners:
        matrix[0, 0, 0] -= 1
        matrix[-1, -1, -1] -= 1
    return matrix.flatten(1)


def taps_to_line(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[4, 3, 3]: along a line, what the pixels i - 1, i, i + 1 add through each of three taps to the finer pixels 4 i
    to 4 i + 3.
    """
    finer = [[5, 3, 0], [3, 5, 0], [1, 7, 0], [0, 7, 1], [0, 5, 3], [0, 3, 5]]  # eighths; of pixels 4 i - 1 to 4 i + 4
    return torch.tensor(finer, dtype=dtype, device=device).div(8).unfold(0, 3, 1).transpose(1, 2)
