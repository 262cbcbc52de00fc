"""Image and text towers by name of the catalogue in params.yaml (`backbones`).

An image tower maps images to three features of different depth on one grid, 1/16 of the image's side; a text tower
maps prompts to embeddings. Both families hold real pretrained weights, or are random only where the catalogue says
`pretrained: random`. A family is a module with `check`, `published_weights`, `image_tower` and `text_tower`; it is
imported when it is needed, because open_clip alone takes a second or two.
"""

from pathlib import Path
from types import ModuleType

import torch

from pipeline.model.backbones.tower import ImageTower, TextTower
from pipeline.model.backbones.weights import local_weights
from pipeline.params import BackboneParams


def build_image_tower(config: BackboneParams, pretrained: bool = True) -> ImageTower:
    """The image tower of a catalogue entry; `pretrained=False` leaves it random, for a checkpoint to be loaded into.

    Raises BackboneError when the weights are missing or do not fit.
    """
    return _family(config).image_tower(config, require_weights(config) if pretrained else None)


def build_text_tower(config: BackboneParams, prompts: list[str]) -> TextTower:
    """The pretrained text tower with these prompts. Raises BackboneError."""
    return _family(config).text_tower(config, require_weights(config), prompts)


@torch.no_grad()
def embed_prompts(config: BackboneParams, prompts: list[str]) -> torch.Tensor | None:
    """Text embeddings float32 [M, E] by the pretrained text tower, not L2-normalised; None for no prompts."""
    return build_text_tower(config, prompts)() if prompts else None


def require_weights(config: BackboneParams) -> Path | None:
    """The file that holds a backbone's weights, fetched from the hub where need be; None for `pretrained: random`.

    Raises BackboneError, which says how to get them, when there is none.
    """
    family = _family(config)
    family.check(config)
    if config.weights is not None:
        return local_weights(config.weights)
    return None if config.pretrained == "random" else family.published_weights(config)


def _family(config: BackboneParams) -> ModuleType:
    if config.family == "lite":
        from pipeline.model.backbones import lite

        return lite
    from pipeline.model.backbones import clip

    return clip
