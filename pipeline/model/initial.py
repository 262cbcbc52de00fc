"""What a training starts from: the weights of a checkpoint, in the form and with the prompts of the new model."""

import logging
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import CheckpointError
from pipeline.model.backbones.lite import LiteTower, unfuse
from pipeline.model.checkpoint import load_model
from pipeline.model.clipsym import CLIPSym
from pipeline.params import DecoderParams

logger = logging.getLogger(__name__)
UPSAMPLER = "decoder.upsampler."


@torch.no_grad()
def start_from(model: CLIPSym, path: Path, shape: DecoderParams) -> None:
    """Take over a checkpoint's weights and text embeddings; `shape`: of the model. Raises CheckpointError where they do
    not fit.

    From the portable form it is brought back to the trainable one. A model with prompts may go on from one without: it
    begins as the same function, whatever they say. What is of another shape in the decoder begins anew, which is told.
    """
    source, record = load_model(path)
    if not isinstance(source, CLIPSym) or record.decoder is None:
        raise CheckpointError(f"{path}: its weights are of another model: of an EquiSym")
    state = source.state_dict()
    if record.portable:
        if not (isinstance(model.image_tower, LiteTower) and isinstance(source.image_tower, LiteTower)):
            raise CheckpointError(f"{path}: its weights are of another model: of the backbone {record.backbone}")
        unfuse(model.image_tower, source.image_tower)
        state = {name: value for name, value in state.items() if not name.startswith("image_tower.")}
    if source.text_embeddings is None and model.text_embeddings is not None:
        state |= without_effect(model, state)
    own = UPSAMPLER if record.decoder.width == shape.width else "decoder."  # what begins anew in another shape
    if record.decoder != shape:
        logger.info("%s: its decoder is of another shape, %s; here %s* begins anew", path, record.decoder, own)
        state = {name: value for name, value in state.items() if not name.startswith(own)}
    elif record.portable:
        state = {name: value for name, value in state.items() if not name.startswith(own)}
        steer(model.decoder.upsampler, source.decoder.upsampler)
    kept = {name: value for name, value in model.state_dict().items() if name.startswith((own, "image_tower."))}
    try:
        model.load_state_dict(kept | state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights are of another model: {error}") from None


def without_effect(model: CLIPSym, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a model with M prompts lacks in one without: a modulation by 1 and 0, and a mean over the prompts."""
    own, mixing = model.state_dict(), "decoder.decoder_linear_map.weight"
    count = own[mixing].shape[1]
    film = {name: torch.zeros_like(value) for name, value in own.items() if name.startswith("decoder.film_")}
    film["decoder.film_mul.bias"] += 1
    return {"text_embeddings": own["text_embeddings"], **film, mixing: state[mixing].expand(-1, count, 1, 1) / count}


def steer(upsampler: Any, expanded: Any) -> None:
    """Make an equivariant upsampler the function of its expanded form; both are of class LiftedUpsampler."""
    for name in ("lifting", "pool"):
        getattr(upsampler, name).fit(*getattr(expanded, name).expanded())
    for convolution, plain in zip(upsampler.upsampler.values(), expanded.upsampler.values(), strict=True):
        convolution.fit(*plain.expanded())
