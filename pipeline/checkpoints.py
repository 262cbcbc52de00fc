"""Trained models as safetensors files: weights and text embeddings, and in the header all that made them."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from pipeline.backbones.catalogue import build_image_tower
from pipeline.backbones.fused import fused_tower
from pipeline.backbones.weights import brief, unusable
from pipeline.clipsym import CLIPSym
from pipeline.decoder import Decoder
from pipeline.errors import CheckpointError
from pipeline.params import Params
from pipeline.records import RECORD, ModelRecord, load_record


def build_model(
    params: Params, prompts: list[str], text_embeddings: torch.Tensor | None, pretrained: bool, portable: bool = False
) -> CLIPSym:
    """The model of these parameters; `pretrained=False` leaves the image tower random, for weights to be loaded."""
    tower = fused_tower(params.chosen) if portable else build_image_tower(params.chosen, pretrained)
    decoder = Decoder(
        tower.widths,
        None if text_embeddings is None else text_embeddings.shape[1],
        max(1, len(prompts)),
        params.decoder.width,
        params.decoder.upsampler,
        params.decoder.group,
        params.decoder.layers,
        portable,
    )
    return CLIPSym(tower, decoder, text_embeddings, "fp32" if portable else params.train.precision)


def save_model(path: Path, model: CLIPSym, record: ModelRecord) -> None:
    """Write the checkpoint in one step, so that no half-written file is ever seen.

    Of a text tower that learns only the embeddings are kept: the prompts do not change any more.
    """
    fields = {**vars(record), "params": record.params.model_dump(mode="json")}
    header = {RECORD: json.dumps(fields, allow_nan=False)}  # one entry: safetensors writes several in a random order
    tensors = {name: value for name, value in model.state_dict().items() if not name.startswith("text_tower.")}
    state = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        save_file(state, temporary, metadata=header)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@torch.inference_mode(False)  # wherever it is loaded, the model is fit for training, too
def load_model(path: Path) -> tuple[CLIPSym, ModelRecord]:
    """The model in evaluation mode, on the CPU, and its record; no network is asked. Raises CheckpointError."""
    record = load_record(path)
    state = load_file(path)
    text = state.get("text_embeddings")
    text = None if text is None else torch.empty(text.shape)  # filled below, as float32 like all the rest
    reduction, width = state.get("decoder.reduces.0.weight"), record.params.decoder.width
    if reduction is None or len(reduction) != width:  # before a decoder is made that may not fit into the memory
        raise CheckpointError(f"{path}: its weights are of another model: they hold no decoder of width {width}")
    if text is not None and (text.ndim != 2 or len(text) != len(record.prompts)):
        raise CheckpointError(
            f"{path}: its weights are of another model: {len(record.prompts)} prompts, embeddings of {list(text.shape)}"
        )
    try:
        model = build_model(record.params, record.prompts, text, pretrained=False, portable=record.portable)
    except Exception as error:  # whatever the libraries make of parameters that fit no model
        raise CheckpointError(f"{path}: no model can be made of its parameters: {brief(error)}") from None
    _fill(model, state, path)
    return model.eval(), record


def load_weights(model: CLIPSym, path: Path) -> None:
    """Take over a checkpoint's weights and text embeddings. Raises CheckpointError where they are of another model."""
    load_record(path)  # says what is wrong with the file
    _fill(model, load_file(path), path)


def _fill(model: CLIPSym, state: dict[str, torch.Tensor], path: Path) -> None:
    if fault := unusable(state, model):
        raise CheckpointError(f"{path}: {fault}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights are of another model: {error}") from None
