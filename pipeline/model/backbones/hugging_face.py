"""CLIP's weights under Hugging Face's names (`transformers.CLIPModel`) -> those of open_clip's model."""

import re
from typing import Any

import torch

from pipeline.model.backbones.clip import resized_positions

NAMES = [  # patterns in open_clip's names, applied in turn, and what stands there in Hugging Face's
    (r"^(positional_embedding|token_embedding)", r"text_model.embeddings.\1"),
    (r"^(ln_final|transformer)", r"text_model.\1"),
    (r"^visual\.(class_embedding|positional_embedding|conv1)", r"vision_model.embeddings.\1"),
    (r"^visual\.(ln_pre|ln_post|transformer)", r"vision_model.\1"),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^text_projection$", "text_projection.weight"),
    (r"positional_embedding$", "position_embedding.weight"),
    (r"\.conv1\.", ".patch_embedding."),
    (r"\.ln_final\.", ".final_layer_norm."),
    (r"\.ln_pre\.", ".pre_layrnorm."),
    (r"\.ln_post\.", ".post_layernorm."),
    (r"\.transformer\.resblocks\.", ".encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
]


def hugging_face_names(name: str) -> list[str]:
    """What Hugging Face calls a tensor of open_clip's: one name, or those of q, k and v, which open_clip joins."""
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return [name.replace("in_proj_", f"{part}_proj.") for part in "qkv"] if "in_proj_" in name else [name]


def as_open_clip(state: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """The state for an open_clip model, the image tower's position embeddings interpolated to its grid.

    Raises KeyError or RuntimeError for the state of another model.
    """
    return {name: _tensor(name, state, model.visual.grid_size[0]) for name in model.state_dict()}


def _tensor(name: str, state: dict[str, torch.Tensor], side: int) -> torch.Tensor:
    first, *others = (state[source] for source in hugging_face_names(name))
    if name in ("visual.proj", "text_projection"):
        return first.T
    if name == "visual.positional_embedding":
        return resized_positions(first, side)
    return torch.cat([first, *others]) if others else first
