"""A trained `lite` model as plain convolutions with 16-bit weights: it loads without timm, escnn and a network.

Batch normalisation is folded into the convolutions, and the steerable filters of the upsampler are expanded.
"""

import copy
from dataclasses import replace

import torch

from pipeline.errors import CheckpointError
from pipeline.model.backbones.fused import fuse
from pipeline.model.backbones.lite import LiteTower
from pipeline.model.clipsym import CLIPSym
from pipeline.model.record import ModelRecord
from pipeline.model.upsampler import LiftedUpsampler, expand
from pipeline.params import BackboneParams


def plain(model: CLIPSym, config: BackboneParams) -> CLIPSym:
    """A copy in evaluation mode with plain convolutions for the upsampler and a tower of the family lite."""
    twin = copy.deepcopy(model).eval()
    if isinstance(twin.decoder.upsampler, LiftedUpsampler):
        twin.decoder.upsampler = expand(twin.decoder.upsampler)
    if isinstance(twin.image_tower, LiteTower):
        twin.image_tower = fuse(twin.image_tower, config)
    return twin.eval()


@torch.no_grad()
def portable(model: CLIPSym, record: ModelRecord) -> tuple[CLIPSym, ModelRecord]:
    """The model in this form, in evaluation mode, and its record. Raises CheckpointError for other backbones."""
    if not isinstance(model.image_tower, LiteTower):
        raise CheckpointError(f"backbone {record.params.backbone}: only models of the family lite have a portable form")
    twin = plain(model, record.params.chosen)
    twin.precision = "fp32"
    for name, value in twin.half().state_dict().items():
        if not value.isfinite().all():
            raise CheckpointError(f"{name}: its weights are too large for 16 bits; the portable form has no others")
    return twin, replace(record, portable=True)
