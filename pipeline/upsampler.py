"""From the decoder's grid to logits, 16 times finer: rotation-equivariant (paper section 3.3) or plain.

Shapes: [B, D, h, w] -> [B, 1, 16 h, 16 w]. The submodules carry the released code's names, so that its weights load.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.names import Group, UpsamplerKind

with warnings.catch_warnings():
    # Without py3nj escnn computes SO(3) coefficients numerically; nothing here uses SO(3).
    warnings.filterwarnings("ignore", message="`py3nj` package not found")
    from escnn import gspaces
    from escnn import nn as enn
    from escnn.group import _numerical

# D groups: scikit-learn's SVD refuses the np.matrix that escnn hands it; without it escnn takes SciPy's.
_numerical.randomized_svd = None


class SteerableConv(enn.R2Conv):
    """A 3x3 convolution between fields whose state is its weights and bias, in training and evaluation alike.

    escnn stores the expanded filter as a buffer in evaluation mode only, so that checkpoints of one mode fail in the
    other and weights changed in evaluation mode go unseen. Here the filter is expanded from the weights when they
    have changed since the last call, and always when gradients are wanted.
    """

    def __init__(self, in_type: enn.FieldType, out_type: enn.FieldType) -> None:
        # recompute: else all of escnn's modules share one basis, and moving one model breaks the others
        super().__init__(in_type, out_type, kernel_size=3, padding=1, recompute=True)
        super().train()  # drops escnn's expanded filter
        for module in self.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer, persistent=False)  # the basis follows from the group
        self._cached: tuple[tuple, tuple[torch.Tensor, torch.Tensor]] | None = None

    def train(self, mode: bool = True) -> "SteerableConv":
        """Switch the mode without storing or dropping buffers."""
        return nn.Module.train(self, mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h, w], plain tensors whose channels are those of the field types."""
        return F.conv2d(x, *self.expanded(), padding=1)

    def expanded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter [C', C, 3, 3] and the bias [C'] of the equivalent plain convolution."""
        if torch.is_grad_enabled():
            return self.expand_parameters()
        state = tuple((p.data_ptr(), p._version, p.device, p.dtype) for p in self.parameters())
        if self._cached is None or self._cached[0] != state:
            self._cached = state, self.expand_parameters()
        return self._cached[1]


class EquivariantUpsampler(nn.Module):
    """Lifting convolution, twice (bilinear x4, convolution, ReLU), projection to one invariant channel.

    Turning the input by an angle of the group turns the output, exactly for multiples of 90 degrees.
    """

    def __init__(self, width: int, group: Group) -> None:
        super().__init__()
        space = group_space(group)
        scalar, regular = space.trivial_repr, space.regular_repr
        wide, half, quarter = (enn.FieldType(space, n * [regular]) for n in (width, width // 2, width // 4))
        self.lifting = SteerableConv(enn.FieldType(space, width * [scalar]), wide)
        self.upsampler = nn.ModuleDict({"1": SteerableConv(wide, half), "4": SteerableConv(half, quarter)})
        self.pool = SteerableConv(quarter, enn.FieldType(space, [scalar]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, h, w] -> logits [B, 1, 16 h, 16 w]."""
        x = self.lifting(x)
        for conv in self.upsampler.values():
            x = conv_after_x4(x, *conv.expanded()).relu_()
        return self.pool(x)


class PlainUpsampler(nn.ModuleDict):
    """Ordinary convolutions of the same shape (the paper's non-equivariant ablation)."""

    def __init__(self, width: int) -> None:
        shapes = {"0": (width, width // 2), "3": (width // 2, width // 4), "6": (width // 4, 1)}
        super().__init__({name: nn.Conv2d(*channels, 3, padding=1) for name, channels in shapes.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, h, w] -> logits [B, 1, 16 h, 16 w]."""
        x = self["0"](x).relu_()
        x = conv_after_x4(x, self["3"].weight, self["3"].bias).relu_()
        return conv_after_x4(x, self["6"].weight, self["6"].bias)


def conv_after_x4(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`conv2d(bilinear_x4(x), weight, bias, padding=1)` with 16 times fewer channel products.

    Both steps are linear, so that the channels can be mixed before upsampling, for each of the nine taps; rows and
    columns are then spread by one matrix each, which holds upsampling and taps together, borders included.
    x: [B, C, h, w]; weight: [C', C, 3, 3]; the result: [B, C', 4 h, 4 w].
    """
    (batch, _, height, width), channels = x.shape, len(weight)
    mixed = torch.einsum("bchw,ocij->boihjw", x, weight).reshape(batch, channels, 3 * height, 3 * width)
    return spread_matrix(height, x) @ (mixed @ spread_matrix(width, x).T) + bias[:, None, None]


def spread_matrix(length: int, like: torch.Tensor) -> torch.Tensor:
    """[4 n, 3 n]: from the values of three taps along a line of n samples to the 4 n outputs of the convolution.

    Bilinear upsampling repeats the border (align_corners=False), the convolution pads with zeros.
    """
    identity = torch.eye(length, dtype=like.dtype, device=like.device)
    upsampled = F.interpolate(identity[None], scale_factor=4, mode="linear", align_corners=False)[0].T  # [4 n, n]
    padded = F.pad(upsampled, (0, 0, 1, 1))
    return torch.cat([padded[tap : tap + 4 * length] for tap in range(3)], dim=1)


def build_upsampler(kind: UpsamplerKind, width: int, group: Group) -> nn.Module:
    """The upsampler by name; `group` matters to the equivariant one only."""
    return EquivariantUpsampler(width, group) if kind == "equivariant" else PlainUpsampler(width)


def group_space(group: Group) -> gspaces.GSpace2D:
    """`CN`: N rotations; `DN`: N rotations and the reflections."""
    order = int(group[1:])
    return gspaces.rot2dOnR2(order) if group[0] == "C" else gspaces.flipRot2dOnR2(order)
