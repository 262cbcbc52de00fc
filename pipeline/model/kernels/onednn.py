"""Matrix products on the CPU by oneDNN's convolutions.

PyTorch sends F.linear in float32 to MKL, which reaches half of their speed on processors that are not Intel's (`make
bench` prints both). On a GPU and in other precisions PyTorch's own way is taken.
"""

import torch
import torch.nn.functional as F
from torch import nn

LARGE = 30e6  # multiply-adds from which reordering the weights pays
SMALL = 20480  # elements up to which PyTorch keeps a single image from oneDNN


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
    return torch.nn.grad.conv2d_weight(_as_pixels(x), shape, _as_pixels(output_gradient), dilation=2)[:, :, 0, 0]


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

    def forward(
        self, x: torch.Tensor, key: torch.Tensor, value: torch.Tensor, need_weights: bool, attn_mask: None
    ) -> tuple[torch.Tensor, None]:
        """[B, T, C] -> the same shape, and None where nn.MultiheadAttention returns weights.

        Called as open_clip's blocks call it: key and value are x, weights are not needed, nothing is masked.
        """
        projected = linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return linear(attended.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias), None
