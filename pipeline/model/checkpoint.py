"""Trained models as safetensors files: weights and text embeddings, and in the header all that made them."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from pipeline.errors import CheckpointError
from pipeline.model.backbones.catalogue import build_image_tower
from pipeline.model.backbones.fused import fused_tower
from pipeline.model.backbones.weights import brief, unusable
from pipeline.model.clipsym import CLIPSym
from pipeline.model.decoder import Decoder
from pipeline.model.record import RECORD, ModelRecord, load_record
from pipeline.params import Params
from pipeline.runtime.files import atomic_file


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
    tensors = {name: value for name, value in model.state_dict().items() if not name.startswith("text_tower.")}
    state = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    fields = {**vars(record), "params": record.params.model_dump(mode="json"), "checksum": ""}
    fields["checksum"] = _checksum(state, fields)
    with atomic_file(path) as part:  # one entry: safetensors writes several in a random order
        save_file(state, part, metadata={RECORD: json.dumps(fields, allow_nan=False)})


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
    _require_checksum(state, path)
    return model.eval(), record


def load_weights(model: CLIPSym, path: Path) -> None:
    """Take over a checkpoint's weights and text embeddings. Raises CheckpointError where they are of another model."""
    load_record(path)  # says what is wrong with the file
    state = load_file(path)
    _fill(model, state, path)
    _require_checksum(state, path)


def require_whole(path: Path) -> None:
    """Raise CheckpointError unless the file holds what `save_model` wrote."""
    load_record(path)
    try:
        _require_checksum(load_file(path), path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None


def _fill(model: CLIPSym, state: dict[str, torch.Tensor], path: Path) -> None:
    if fault := unusable(state, model):
        raise CheckpointError(f"{path}: {fault}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights are of another model: {error}") from None


def _checksum(state: dict[str, torch.Tensor], fields: dict) -> str:
    """The sha256 of tensors, with their names, types and shapes, and of the header's other entries."""
    found = hashlib.sha256(json.dumps(fields | {"checksum": ""}).encode())
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _require_checksum(state: dict[str, torch.Tensor], path: Path) -> None:
    """Raise CheckpointError where a file is not as it was written; one without a checksum is taken as it is."""
    with safe_open(path, framework="np") as file:
        fields = json.loads(file.metadata()[RECORD])
    if fields.get("checksum") and fields["checksum"] != _checksum(state, fields):
        raise CheckpointError(
            f"{path}: damaged: its bytes are not those that were written. To have it made anew, see `Damaged files` in "
            "docs/data.md"
        )
