"""Fast paths for the CPU, each the same function as a plain formulation (`make bench` times them beside it).

Matrix products: PyTorch sends F.linear in float32 to MKL, which reaches half of the speed of oneDNN's convolutions on
processors that are not Intel's. The decoder's perceptron: its hidden layer, 2,048 wide, is the largest array of all.
The upsampler: convolutions on a grid that has just been made finer. On a GPU and in other precisions PyTorch's own way
is taken for products.
"""

from functools import cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_weight

LARGE = 30e6  # multiply-adds from which reordering the weights pays
SMALL = 20480  # elements up to which PyTorch keeps a single image from oneDNN
ROWS = 1024  # of the perceptron, whose hidden layer is then 8 MB


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear`: [..., C], [C', C], [C'] -> [..., C']."""
    if not _large(x, len(weight)):
        return F.linear(x, weight, bias)
    pixels = mix_channels(_as_pixels(x), weight[:, :, None, None], bias)
    return pixels.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def weight_gradient(output_gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[N, C'], [N, C] -> [C', C]: the gradient of `linear` with respect to its weight."""
    if not _large(x, output_gradient.shape[1]):
        return output_gradient.T @ x
    shape = (output_gradient.shape[1], x.shape[1], 1, 1)
    return conv2d_weight(_as_pixels(x), shape, _as_pixels(output_gradient), dilation=2)[:, :, 0, 0]


def mix_channels(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A convolution of one pixel: [B, C, h, w], [C', C, 1, 1], [C'] -> [B, C', h, w].

    On one thread PyTorch takes oneDNN for dilated convolutions only; with one pixel dilation changes nothing.
    """
    return F.conv2d(x, weight, bias, dilation=2 if x.device.type == "cpu" else 1)


def _large(x: torch.Tensor, width: int) -> bool:
    """Whether the product of `x` with a matrix of this width is one that oneDNN makes faster."""
    if torch.jit.is_tracing():  # exported models keep the plain form
        return False
    ours = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return ours and torch.backends.mkldnn.is_available() and x.numel() > SMALL and x.numel() * width >= LARGE


def _as_pixels(x: torch.Tensor) -> torch.Tensor:
    """[..., C] -> [1, C, 1, N]: one row of pixels, their channels side by side (channels_last, no copy)."""
    return x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


class Linear(nn.Linear):
    """nn.Linear whose product is `linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., C] -> [..., C']."""
        return linear(x, self.weight, self.bias)


class SelfAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention (batch first) of a sequence with itself; its state has the same names."""

    def forward(  # type: ignore[override]  # what open_clip calls it with
        self, x: torch.Tensor, key: torch.Tensor, value: torch.Tensor, need_weights: bool, attn_mask: None
    ) -> tuple[torch.Tensor, None]:
        """[B, T, C] -> the same shape, and None where nn.MultiheadAttention returns weights.

        Called as open_clip's blocks call it: key and value are x, weights are not needed, nothing is masked.
        """
        projected = linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return linear(attended.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias), None


def mlp(
    x: torch.Tensor, weight1: torch.Tensor, bias1: torch.Tensor, weight2: torch.Tensor, bias2: torch.Tensor
) -> torch.Tensor:
    """`linear(relu(linear(x, weight1, bias1)), weight2, bias2)`; x: [..., D]; weight1: [H, D]; weight2: [D, H].

    On the CPU and in float32 it is computed in blocks of rows that stay in the cache, and again for the gradient
    instead of being kept: at M = 25 prompts and 417 pixels it would be 140 MB an image and layer.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.jit.is_tracing():
        return F.linear(F.linear(x, weight1, bias1).relu_(), weight2, bias2)
    return BlockwiseMLP.apply(x.reshape(-1, x.shape[-1]), weight1, bias1, weight2, bias2).view_as(x)


class BlockwiseMLP(torch.autograd.Function):
    """`mlp` of rows [N, D], forward and backward, block by block."""

    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2):
        """[N, D] -> [N, D]."""
        ctx.save_for_backward(x, weight1, bias1, weight2)
        return torch.cat([linear(linear(rows, weight1, bias1).relu_(), weight2, bias2) for rows in x.split(ROWS)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of all five, from that of the result, [N, D]."""
        x, weight1, bias1, weight2 = ctx.saved_tensors
        transposed1, transposed2 = weight1.T.contiguous(), weight2.T.contiguous()
        of_x, of_weight1, of_bias1, of_weight2 = (torch.zeros_like(t) for t in (x, weight1, bias1, weight2))
        for rows, of_output, of_rows in zip(x.split(ROWS), gradient.split(ROWS), of_x.split(ROWS)):
            hidden = linear(rows, weight1, bias1).relu_()
            of_hidden = linear(of_output, transposed2)
            of_weight2 += weight_gradient(of_output, hidden)
            of_hidden = torch.ops.aten.threshold_backward(of_hidden, hidden, 0)
            of_weight1 += weight_gradient(of_hidden, rows)
            of_bias1 += of_hidden.sum(0)
            of_rows.copy_(linear(of_hidden, transposed1))
        return of_x, of_weight1, of_bias1, of_weight2, gradient.sum(0)


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


def pooled_after_x2(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, pool_weight: torch.Tensor, pool_bias: torch.Tensor
) -> torch.Tensor:
    """`conv2d(conv2d(bilinear_x2(x), weight, bias, padding=1).relu(), pool_weight, pool_bias, padding=1)`, for ONNX.

    Both convolutions stay on the coarse grid, with the four finer pixels of each as channels: sixteen channels on the
    finer grid would be the largest array of the model. Only a rim of four pixels, which sees the zeros outside, is
    made as it is written. No weight depends on x: runtimes make them once.
    x: [B, C, h, w], 4 at least; weight: [C', C, 3, 3]; pool_weight: [1, C', 3, 3]; the result: [B, 1, 2 h, 2 w].
    """

    def plainly(x: torch.Tensor) -> torch.Tensor:
        finer = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.conv2d(F.conv2d(finer, weight, bias, padding=1).relu(), pool_weight, pool_bias, padding=1)

    wide, channels = weight.shape[:2]
    finer = torch.tensor([[3, 1, 0], [1, 3, 0], [0, 3, 1], [0, 1, 3]]).to(
        weight
    )  # quarters; of pixels 2 i - 1 to 2 i + 2
    taps = finer.div(4).unfold(0, 3, 1)  # [2, 3 of x, 3 taps]
    places = torch.zeros(2, 2, 3, 3).to(weight)  # [2, 2 of the finer ones, 3 of the coarse ones, 3 taps]
    for place, tap in product(range(2), range(3)):
        places[place, (place + tap + 1) % 2, (place + tap + 1) // 2, tap] = 1
    spreading = torch.einsum("aot,bps->tsabop", taps, taps).reshape(9, -1)
    mixing = (weight.reshape(-1, 9) @ spreading).unflatten(1, (4, 3, 3)).unflatten(0, (wide, channels))
    gathering = torch.einsum("aqot,brps->tsabqrop", places, places).reshape(9, -1)
    pooling = (pool_weight.reshape(-1, 9) @ gathering).unflatten(1, (4, 4, 3, 3))
    hidden = F.conv2d(x, mixing.transpose(1, 2).flatten(0, 1), bias.repeat_interleave(4), padding=1).relu()
    inner = F.conv2d(hidden, pooling.transpose(0, 1).flatten(1, 2), pool_bias.expand(4), padding=1)
    inner = F.pixel_shuffle(inner, 2)[..., 4:-4, 4:-4]
    left, right = plainly(x[..., :4])[..., 4:-4, :4], plainly(x[..., -4:])[..., 4:-4, -4:]
    top, bottom = plainly(x[..., :4, :])[..., :4, :], plainly(x[..., -4:, :])[..., -4:, :]
    return torch.cat([top, torch.cat([left, inner, right], 3), bottom], 2)
