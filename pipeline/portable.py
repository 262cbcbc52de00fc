"""A trained `lite` model as plain convolutions with 16-bit weights: it loads without timm, escnn and a network.

Batch normalisation is folded into the convolutions, and the steerable filters of the upsampler are expanded.
"""

import copy
from dataclasses import replace

import torch

from pipeline.backbones.fused import fuse
from pipeline.backbones.lite import LiteTower
from pipeline.clipsym import CLIPSym
from pipeline.errors import CheckpointError
from pipeline.records import ModelRecord
from pipeline.upsampler import LiftedUpsampler, expand


@torch.no_grad()
def portable(model: CLIPSym, record: ModelRecord) -> tuple[CLIPSym, ModelRecord]:
    """The model in this form, in evaluation mode, and its record. Raises CheckpointError for other backbones."""
    if not isinstance(model.image_tower, LiteTower):
        raise CheckpointError(f"backbone {record.params.backbone}: only models of the family lite have a portable form")
    model.eval()
    decoder = copy.deepcopy(model.decoder)
    if isinstance(decoder.upsampler, LiftedUpsampler):
        decoder.upsampler = expand(decoder.upsampler)
    tower = fuse(model.image_tower, record.params.chosen)
    twin = CLIPSym(tower, decoder, model.text_embeddings, "fp32").half()
    return twin.eval(), replace(record, portable=True)
