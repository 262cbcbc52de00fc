"""The rotation-equivariant upsampler (paper section 3.3), of escnn's steerable convolutions."""

import warnings

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.names import Group
from pipeline.upsampler import LiftedUpsampler

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
        """The filter [C', C, 3, 3] and the bias [C'] of the equivalent plain convolution, in the weights' precision."""
        with torch.autocast(self.weights.device.type, enabled=False):
            if torch.is_grad_enabled():
                return self.expand_parameters()
            state = tuple((p.data_ptr(), p._version, p.device, p.dtype) for p in self.parameters())
            if self._cached is None or self._cached[0] != state:
                self._cached = state, self.expand_parameters()
            return self._cached[1]


def equivariant_upsampler(width: int, group: Group, layers: int) -> LiftedUpsampler:
    """Turning its input by an angle of the group turns the output, exactly for multiples of 90 degrees."""
    space = group_space(group)
    scalar, regular = space.trivial_repr, space.regular_repr
    fields = [enn.FieldType(space, (width >> halved) * [regular]) for halved in range(layers + 1)]
    return LiftedUpsampler(
        SteerableConv(enn.FieldType(space, width * [scalar]), fields[0]),
        [SteerableConv(*fields[k : k + 2]) for k in range(layers)],
        SteerableConv(fields[-1], enn.FieldType(space, [scalar])),
    )


def group_space(group: Group) -> gspaces.GSpace2D:
    """`CN`: N rotations; `DN`: N rotations and the reflections."""
    order = int(group[1:])
    return gspaces.rot2dOnR2(order) if group[0] == "C" else gspaces.flipRot2dOnR2(order)
