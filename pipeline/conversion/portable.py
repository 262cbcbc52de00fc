"""A trained `lite` model as plain convolutions with 16-bit weights: it loads without timm, escnn and a network.

Batch normalisation is folded into the convolutions, and the steerable filters of the upsampler are expanded.
"""

import copy
from dataclasses import replace
from typing import Any

import torch

from pipeline.errors import CheckpointError
from pipeline.model.backbones.lite import LiteTower, fuse
from pipeline.model.base import Model
from pipeline.model.checkpoint import ModelRecord
from pipeline.model.clipsym import CLIPSym, LiftedUpsampler, PlainConv
from pipeline.model.equisym.model import EquiSym
from pipeline.params import EquiSymParams, TowerParams


def plain(model: Model, config: TowerParams | EquiSymParams) -> Model:
    """A copy in evaluation mode with plain convolutions for the upsampler, a tower of the family lite, an EquiSym."""
    if isinstance(model, EquiSym) and isinstance(config, EquiSymParams):
        return model.folded(config)
    twin: Any = copy.deepcopy(model).eval()
    if isinstance(twin.decoder.upsampler, LiftedUpsampler):
        twin.decoder.upsampler = expand(twin.decoder.upsampler)
    if isinstance(twin.image_tower, LiteTower) and isinstance(config, TowerParams):
        twin.image_tower = fuse(twin.image_tower, config)
    return twin.eval()


@torch.no_grad()
def expand(upsampler: LiftedUpsampler) -> LiftedUpsampler:
    """The same function, of plain convolutions."""

    def plain(convolution: Any) -> PlainConv:
        weight, bias = convolution.expanded()
        twin = PlainConv(weight.shape[1], weight.shape[0])
        twin.load_state_dict({"weight": weight, "bias": bias})
        return twin

    layers = [plain(convolution) for convolution in upsampler.upsampler.values()]
    return LiftedUpsampler(plain(upsampler.lifting), layers, plain(upsampler.pool))


@torch.no_grad()
def portable(model: Model, record: ModelRecord) -> tuple[Model, ModelRecord]:
    """The model in this form, in evaluation mode, and its record. Raises CheckpointError for other backbones.

    An EquiSym keeps its 32 bits.
    """
    towers = record.towers
    if isinstance(model, EquiSym) and isinstance(towers, EquiSymParams):
        twin = model if record.portable else plain(model, towers)
        return twin, replace(record, portable=True, precision="fp32")
    if not (
        isinstance(model, CLIPSym) and isinstance(model.image_tower, LiteTower) and isinstance(towers, TowerParams)
    ):
        raise CheckpointError(f"backbone {record.backbone}: only models of the family lite have a portable form")
    twin = plain(model, towers)
    twin.precision = "fp32"
    for name, value in twin.half().state_dict().items():
        if not value.isfinite().all():
            raise CheckpointError(f"{name}: its weights are too large for 16 bits; the portable form has no others")
    return twin, replace(record, portable=True, precision="fp32")
