"""The released code's checkpoints -> our model: CLIP under Hugging Face's names, the decoder under its own.

Such a file is what the released `train.py` writes, or only the state dict in it. `train.py` keeps the prompts beside
the state; a bare state dict has none, and whoever loads it must know those that it was trained with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import CheckpointError, brief
from pipeline.model.backbones import clip
from pipeline.model.backbones.catalogue import unusable
from pipeline.model.backbones.hugging_face import as_open_clip, hugging_face_names
from pipeline.model.checkpoint import ModelRecord
from pipeline.model.clipsym import CLIPSym, Decoder, from_released
from pipeline.model.pickled import Released, State, read_released
from pipeline.params import DecoderParams, Params, load_params
from pipeline.params.choices import Task, UpsamplerKind

PARAMS = Path(__file__).parents[1] / "params" / "params.yaml"  # a link to the project's; in a wheel the file
MAP, CODE = "decoder_linear_map.weight", clip.CODE  # their names tell the prefixes


def released_params(task: Task) -> Params:
    """The project's params.yaml with the backbone `clip`, wherever one calls from. Raises ParamsError."""
    return load_params(PARAMS, [f"task={task}", "backbone=clip"])


@torch.inference_mode(False)  # as load_model
@torch.no_grad()
def load_released(path: Path, params: Params, prompts: Sequence[str] | None = None) -> tuple[CLIPSym, ModelRecord]:
    """The model in evaluation mode, on the CPU, and its record.

    params: their task and their backbone, an entry of CLIP, are the model's
    prompts: the M that it was trained with, in their order; by default those in the file

    No threshold and F1 of validation images are in the file, and in a bare state dict no epoch: the record's only
    threshold is 0.5, the others are 0. Raises UserError.
    """
    return from_released_file(read_released(path), params, prompts)


@torch.inference_mode(False)
@torch.no_grad()
def from_released_file(
    released: Released, params: Params, prompts: Sequence[str] | None
) -> tuple[CLIPSym, ModelRecord]:
    """As `load_released`, of a file that has been read."""
    path, state = released.path, released.state
    released.require_task(params.task)
    towers, weights = _below(path, state, CODE), from_released(_below(path, state, MAP))
    has_text = "film_mul.weight" in weights
    prompts = _checked(
        path, released.entries.get("prompts") if prompts is None else prompts, weights[MAP].shape[1] * has_text
    )

    model = _open_clip_model(path, params, towers)
    tower, model.visual = clip.ClipTower(model.visual, params.chosen), None
    text = clip.ClipText(model, clip.tokenizer(params.chosen)(prompts))() if has_text else None
    params = params.model_copy(update={"decoder": _decoder_params(path, weights)})
    decoder = _decoder(path, params.decoder, tower.widths, text, weights)
    unknown: dict[str, Any] = {"params": {}, "prompt_kind": "released" if has_text else "none", "precision": "fp32"}
    record = ModelRecord.of(params, prompts, released.epoch, 0.0, {"released": 0.5})
    return CLIPSym(tower, decoder, text, "fp32").eval(), replace(record, detection_threshold=0.5, **unknown)


def _below(path: Path, state: State, key: str) -> State:
    """What shares the prefix of the name that ends in `key`, without the prefix."""
    prefixes = [name.removesuffix(key) for name in state if name.endswith(key)]
    if not prefixes:
        raise CheckpointError(f"{path}: not a released CLIPSym: no key ends in {key}; the first is {next(iter(state))}")
    return {name.removeprefix(prefixes[0]): value for name, value in state.items() if name.startswith(prefixes[0])}


def _checked(path: Path, prompts: Sequence[str] | None, count: int) -> list[str]:
    if count and prompts is None:
        raise CheckpointError(
            f"{path}: it holds the weights of {count} prompts, but not the prompts; give those that it was trained "
            f"with, in their order: load(..., prompts=[...]), or --prompts FILE with one a line"
        )
    if not isinstance(prompts or (), (list, tuple)) or not all(isinstance(prompt, str) for prompt in prompts or ()):
        raise CheckpointError(f"{path}: expected its prompts as a list of words, got {type(prompts).__name__}")
    if len(prompts or ()) != count:
        raise CheckpointError(f"{path}: its weights are of {count} prompts, got {len(prompts or ())}")
    return list(prompts or ())


def _open_clip_model(path: Path, params: Params, towers: State) -> Any:
    """CLIP with the weights of the file, at the input size of the catalogue entry."""
    model = clip.open_clip_model(params.chosen, None)
    _require(path, towers, (source for name in model.state_dict() for source in hugging_face_names(name)))
    try:
        _load(path, model, as_open_clip(towers, model))
    except RuntimeError as error:  # what cannot even be joined or interpolated
        raise CheckpointError(f"{path}: its towers are not of {params.chosen.model}: {brief(error)}") from None
    return model


def _decoder_params(path: Path, weights: State) -> DecoderParams:
    """Its shape; the released code always builds two layers, and those of C8 where they are equivariant."""
    _require(path, weights, ["reduces.0.weight"])
    width = len(weights["reduces.0.weight"])
    if width % 4:
        raise CheckpointError(f"{path}: the decoder's width must be a multiple of 4, got {width}")
    kind: UpsamplerKind = "plain" if "upsampler.0.weight" in weights else "equivariant"
    return DecoderParams(upsampler=kind, group="C8", layers=2, width=width)


def _decoder(path: Path, shape: DecoderParams, widths: list[int], text: torch.Tensor | None, weights: State) -> Decoder:
    count, text_width = (1, None) if text is None else text.shape
    decoder = Decoder(widths, text_width, count, shape.width, shape.upsampler, shape.group, shape.layers)
    _require(path, weights, decoder.state_dict())
    _load(path, decoder, {name: weights[name] for name in decoder.state_dict()})  # without escnn's buffers
    return decoder


def _require(path: Path, state: State, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(f"{path}: lacks {len(missing)} keys, such as {', '.join(missing[:3])}")


def _load(path: Path, module: nn.Module, state: State) -> None:
    for name, own in module.state_dict().items():
        if state[name].shape != own.shape:
            expected, found = list(own.shape), list(state[name].shape)
            raise CheckpointError(f"{path}: {name}: expected shape {expected}, got {found}")
    if fault := unusable(state, module):
        raise CheckpointError(f"{path}: {fault}")
    module.load_state_dict(state)
