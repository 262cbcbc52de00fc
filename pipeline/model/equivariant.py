"""The rotation-equivariant upsampler (paper section 3.3), of escnn's steerable convolutions."""

from collections.abc import Callable
from math import isqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from pipeline.model.clipsym import LiftedUpsampler
from pipeline.model.escnn import gspaces
from pipeline.model.escnn import nn as enn
from pipeline.params.choices import Group


class SameFunctions(TorchFunctionMode):
    """Inside, these functions are NumPy's. PyTorch takes MKL's, whose last bits follow the make of the processor."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """The result of the function."""
        if (name := function.__name__) not in {"sqrt", "exp", "sin", "cos"}:
            return function(*args, **(kwargs or {}))
        values = torch.from_numpy(getattr(np, name)(args[0].numpy()))
        out = (kwargs or {}).get("out")
        return values if out is None else out.copy_(values)


class SteerableConv(nn.Module):
    """A convolution between fields whose state is its weights and bias, in training and evaluation alike.

    `basis`, [B, o, i, k * k], holds the filters between one field and another that commute with the group. escnn makes
    it; of its modules nothing is kept, because they cannot be pickled, share one basis, and store the expanded filter
    in evaluation mode, so that checkpoints of one mode fail in the other. Here the filter is expanded from the weights
    when they have changed since the last call, and always when gradients are wanted.
    """

    basis: torch.Tensor
    bias_expansion: torch.Tensor

    def __init__(
        self,
        fields: tuple[int, int],
        basis: torch.Tensor,
        weights: nn.Parameter,
        bias: nn.Parameter | None = None,
        bias_expansion: torch.Tensor | None = None,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """`fields`: how many, out and in; `weights`: [fields' * fields * B]; `bias`: expanded by [C', numbers]."""
        super().__init__()
        self.fields, self.stride, self.dilation = fields, stride, dilation
        self.bias, self.weights = bias, weights
        self.register_buffer("basis", basis, persistent=False)  # it follows from the group
        self.register_buffer("bias_expansion", bias_expansion, persistent=False)
        self._cached: tuple[tuple, tuple[torch.Tensor, torch.Tensor]] | None = None

    @property
    def kernel(self) -> int:
        """Side of the filter in pixels."""
        return isqrt(self.basis.shape[-1])

    def __getstate__(self) -> dict:
        """What a copy or another process needs."""
        return {**self.__dict__, "_cached": None}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w'], plain tensors whose channels are those of the field types."""
        padding = self.kernel // 2 * self.dilation
        return F.conv2d(x, *self.expanded(), stride=self.stride, padding=padding, dilation=self.dilation)

    def expanded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter [C', C, k, k] and the bias [C'] of the equivalent plain convolution, in the weights' precision."""
        with torch.autocast(self.weights.device.type, enabled=False):
            if torch.is_grad_enabled():
                return self._expanded()
            state = tuple((p.data_ptr(), p._version, p.device, p.dtype) for p in self.parameters())
            if self._cached is None or self._cached[0] != state:
                self._cached = state, self._expanded()
            return self._cached[1]

    @torch.no_grad()
    def fit(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Take the weights whose expansion comes closest to a filter [C', C, k, k] and a bias [C']."""
        (out_fields, in_fields), (_, o, i, _) = self.fields, self.basis.shape
        between = weight.double().flatten(2).unflatten(0, (out_fields, o)).unflatten(2, (in_fields, i))
        wanted = between.transpose(1, 2).flatten(0, 1).flatten(1)  # of each pair of fields
        basis = self.basis.double().flatten(1)
        self.weights.copy_(torch.linalg.solve(basis @ basis.T, basis @ wanted.T).T.flatten())
        if bias is not None and self.bias is not None:
            expansion = self.bias_expansion.double()
            self.bias.copy_(torch.linalg.solve(expansion.T @ expansion, expansion.T @ bias.double()))

    def _expanded(self) -> tuple[torch.Tensor, torch.Tensor]:
        out_fields, in_fields = self.fields
        between = torch.einsum("boip,kb->koip", self.basis, self.weights.view(-1, len(self.basis)))
        filters = between.unflatten(0, (out_fields, in_fields)).transpose(1, 2)  # [fields', o, fields, i, k * k]
        filters = filters.flatten(2, 3).flatten(0, 1).unflatten(2, (self.kernel, self.kernel))
        return filters, filters.new_zeros(len(filters)) if self.bias is None else self.bias_expansion @ self.bias


def steerable_conv(in_type: enn.FieldType, out_type: enn.FieldType) -> SteerableConv:
    """A convolution of 3 x 3 pixels between fields, with escnn's first weights."""
    with SameFunctions():  # recompute: a basis of its own
        made = enn.R2Conv(in_type, out_type, kernel_size=3, padding=1, recompute=True)
    return SteerableConv(
        (len(out_type), len(in_type)), sampled_basis(made), made.weights, made.bias, made.bias_expansion
    )


def sampled_basis(made: enn.R2Conv) -> torch.Tensor:
    """The filters [B, o, i, k * k] between the fields of escnn's convolution, which are all alike."""
    (block,) = (module for name, module in made.basisexpansion.named_children() if name.startswith("block"))
    return block.sampled_basis


def equivariant_upsampler(width: int, group: Group, layers: int) -> LiftedUpsampler:
    """Turning its input by an angle of the group turns the output, exactly for multiples of 90 degrees."""
    space = group_space(group)
    scalar, regular = space.trivial_repr, space.regular_repr
    fields = [enn.FieldType(space, (width >> halved) * [regular]) for halved in range(layers + 1)]
    return LiftedUpsampler(
        steerable_conv(enn.FieldType(space, width * [scalar]), fields[0]),
        [steerable_conv(*fields[k : k + 2]) for k in range(layers)],
        steerable_conv(fields[-1], enn.FieldType(space, [scalar])),
    )


def group_space(group: Group) -> gspaces.GSpace2D:
    """`CN`: N rotations; `DN`: N rotations and the reflections."""
    order = int(group[1:])
    return gspaces.rot2dOnR2(order) if group[0] == "C" else gspaces.flipRot2dOnR2(order)
