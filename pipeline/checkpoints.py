"""Trained models as safetensors files: weights and text embeddings, and in the header all that made them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from pipeline.backbones import build_image_tower
from pipeline.clipsym import CLIPSym
from pipeline.decoder import Decoder
from pipeline.errors import CheckpointError
from pipeline.params import Params


@dataclass(frozen=True)
class ModelRecord:
    """What a checkpoint's header tells about its weights.

    `params`: all parameters of the run; `prompts`: the M prompts; `epoch`: the one that the weights are of;
    `validation_f1`: in 0..1, the mean over the data sets; `thresholds`: test set -> the best on its validation images.
    """

    params: Params
    prompts: list[str]
    epoch: int
    validation_f1: float
    thresholds: dict[str, float]


def build_model(params: Params, prompts: list[str], text_embeddings: torch.Tensor | None, pretrained: bool) -> CLIPSym:
    """The model of these parameters; `pretrained=False` leaves the image tower random, for weights to be loaded."""
    tower = build_image_tower(params.chosen, pretrained)
    decoder = Decoder(
        tower.widths,
        None if text_embeddings is None else text_embeddings.shape[1],
        max(1, len(prompts)),
        params.decoder.width,
        params.decoder.upsampler,
        params.decoder.group,
    )
    return CLIPSym(tower, decoder, text_embeddings)


def save_model(path: Path, model: CLIPSym, record: ModelRecord) -> None:
    """Write the checkpoint in one step, so that no half-written file is ever seen."""
    fields = {**vars(record), "params": record.params.model_dump(mode="json")}
    header = {key: json.dumps(value) for key, value in fields.items()}
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        save_file(state, temporary, metadata=header)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path: Path) -> tuple[CLIPSym, ModelRecord]:
    """The model in evaluation mode, on the CPU, and its record. Raises CheckpointError."""
    record = load_record(path)
    state = load_file(path)
    model = build_model(record.params, record.prompts, state.get("text_embeddings"), pretrained=False)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights are not of the model in its header: {error}") from None
    return model.eval(), record


def load_record(path: Path) -> ModelRecord:
    """The record in a checkpoint's header. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        fields = {key: json.loads(header[key]) for key in ModelRecord.__dataclass_fields__}
        return ModelRecord(**{**fields, "params": Params.model_validate(fields["params"])})
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no checkpoint there; `dvc repro train` makes it") from None
    except (SafetensorError, OSError, KeyError, ValueError) as error:  # ValueError: of json and of pydantic
        raise CheckpointError(f"{path}: not a checkpoint of this project: {error}") from None
