"""The family `open_clip`: CLIP's image and text towers."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from open_clip.transformer import QuickGELU
from torch import nn

from pipeline.errors import BackboneError, CheckpointError, brief
from pipeline.model.backbones.catalogue import (
    IMAGENET,
    Backbone,
    ImageTower,
    TextTower,
    read_state,
    unusable,
)
from pipeline.model.backbones.hub import at_hand, explained, snapshots
from pipeline.model.kernels import Linear, SelfAttention
from pipeline.params import BackboneParams, TowerParams
from pipeline.params.project import located

SCALE = "logit_scale"  # each CLIP has one, so that it tells the prefix of all names
CODE = "vision_model.embeddings.class_embedding"  # Hugging Face's name

open_clip.add_model_config(Path(__file__).with_name("architectures"))


class ClipTower(ImageTower):
    """A ViT of open_clip, cut off behind the last block whose output is used."""

    def __init__(self, visual: Any, config: TowerParams) -> None:
        tag = open_clip.get_pretrained_cfg(config.model, config.pretrained) or visual.preprocess_cfg
        own = tuple(tag["mean"]), tuple(tag["std"])
        super().__init__(*(IMAGENET if config.normalisation == "released" else own))
        trunk = getattr(visual, "trunk", None)  # timm's ViT inside, for the SigLIP models
        self.widths = [trunk.embed_dim if trunk else visual.transformer.width] * len(config.blocks)
        self.blocks = [number - 1 for number in config.blocks]  # open_clip counts from 0
        self.visual: Any = accelerated(visual)
        (trunk or visual).prune_intermediate_layers(self.blocks, prune_norm=True, prune_head=True)

    @property
    def trunk(self) -> nn.Sequential | nn.ModuleList:
        """The blocks, shallow to deep."""
        timm = getattr(self.visual, "trunk", None)
        return timm.blocks if timm else self.visual.transformer.resblocks

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], tuple[int, int]]:
        """[B, 3, S, S] in 0..1 -> three features [B, T, C] and the grid (h, w).

        T = 1 + h * w, the class token first; SigLIP has none. h = w = S // patch: 26 for 417 pixels and patches of 16,
        the last row and column of pixels unseen.
        """
        out = self.visual.forward_intermediates(
            self.normalise(images),
            indices=self.blocks,
            stop_early=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        features = out["image_intermediates"]
        side = math.isqrt(features[0].shape[1])
        prefixes = out.get("image_intermediates_prefix", [f[:, :0] for f in features])
        return [torch.cat(pair, dim=1) for pair in zip(prefixes, features)], (side, side)


class ClipText(TextTower):
    """CLIP's text tower: the EOS features times the text projection, [M, E]. `model`: a CLIP without image tower."""

    def __init__(self, model: Any, tokens: torch.Tensor) -> None:
        super().__init__()
        model.logit_scale, model.logit_bias = None, None
        self.model = model.eval()
        self.register_buffer("tokens", tokens, persistent=False)

    def forward(self) -> torch.Tensor:
        """[M, E]."""
        return self.model.encode_text(self.tokens, normalize=False)


def check(config: BackboneParams) -> None:
    """Raise BackboneError where the same weights would become another function, by another activation."""
    _require_known(config)
    tag = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    model = open_clip.get_model_config(config.model)
    if tag and tag.get("quick_gelu", False) != model.get("quick_gelu", False):
        raise BackboneError(
            f"{config.pretrained} of {config.model} was trained with another activation (QuickGELU or GELU): "
            f"use {config.model.removesuffix('-quickgelu')}{'-quickgelu' * tag.get('quick_gelu', False)}"
        )


def published_weights(config: BackboneParams) -> Path:
    """The weights of an open_clip tag, from the hub or its cache. Raises BackboneError."""
    tag = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    if not tag:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(config.model)) or "none"
        raise BackboneError(f"open_clip has no tag {config.pretrained!r} for {config.model}; it has: {known}")
    repository = repository_of(tag)
    if found := at_hand(config, repository):
        return found
    with explained(config, repository):
        return Path(open_clip.download_pretrained(tag))


def image_tower(config: TowerParams, weights: Path | None) -> ClipTower:
    """The tower of a catalogue entry, random without weights."""
    return ClipTower(open_clip_model(config, weights).visual, config)


class Towers(Backbone):
    """The towers of a CLIP, built once where it has weights. Else each tower is drawn for itself, as it always was: the
    random image tower of a seed comes after a whole CLIP for the text.
    """

    def __init__(self, config: BackboneParams, weights: Path | None) -> None:
        self.config = config
        self._shared = self._parts(weights) if weights else None

    def image_tower(self) -> ClipTower:
        """Where there are weights, the same module for all calls."""
        return ClipTower((self._shared or self._parts(None))[0], self.config)

    def text_tower(self, prompts: Sequence[str]) -> ClipText:
        """Where there are weights, the same parameters for all calls."""
        return ClipText((self._shared or self._parts(None))[1], tokenizer(self.config)(list(prompts)))

    def _parts(self, weights: Path | None) -> tuple[Any, Any]:
        """A CLIP's image tower, and the rest of it."""
        model = open_clip_model(self.config, weights)
        visual, model.visual = model.visual, None
        return visual, model


class FastQuickGELU(QuickGELU):
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP, as a scaled SiLU: keeps one array instead of two."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same."""
        return F.silu(1.702 * x).mul_(1 / 1.702)


def accelerated(visual: nn.Module) -> nn.Module:
    """The same module with the same state, its linear layers, self-attentions and QuickGELUs computed our way."""
    ours = {nn.Linear: Linear, nn.MultiheadAttention: SelfAttention, QuickGELU: FastQuickGELU}
    for module in visual.modules():
        module.__class__ = ours.get(type(module), type(module))
    return visual


def open_clip_model(config: TowerParams, weights: Path | None) -> Any:
    """The open_clip model of a catalogue entry, its position embeddings interpolated to the input size."""
    _require_known(config)
    with _quiet_about_random_weights():
        model = open_clip.create_model(config.model, load_weights=False)
    if weights:
        try:
            _load(model, weights)
        except CheckpointError as error:  # names the file
            raise BackboneError(str(error)) from None
        except Exception as error:  # whatever torch and open_clip make of the tensors of another model
            raise BackboneError(f"{weights}: not open_clip weights of {config.model}: {brief(error)}") from None
    _set_input_size(model.visual, config.input_size)
    return model


def _require_known(config: TowerParams) -> None:
    """Raise BackboneError for a model that open_clip would ask a network for."""
    architecture = config.model in open_clip.list_models() and open_clip.get_model_config(config.model)
    if not architecture:
        raise BackboneError(f"open_clip knows no model {config.model!r}; open_clip.list_models() lists those it knows")
    if "hf_model_name" in architecture["text_cfg"]:
        raise BackboneError(f"{config.model}: its text tower is made from files of the hub alone; choose another model")


def _load(model: nn.Module, path: Path) -> None:
    """Fill a model of open_clip with the weights of a file. Raises CheckpointError; others where they do not fit."""
    if path.suffix == ".npz":  # big_vision's
        return open_clip.load_checkpoint(model, str(path))
    state = read_state(path)
    prefix = min((name.removesuffix(SCALE) for name in state if name.endswith(SCALE)), key=len, default="")
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if CODE in state:
        from pipeline.model.backbones.hugging_face import as_open_clip  # here: it imports this module

        state = as_open_clip(state, model)
    if not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    resize_pos_embed(state, model)
    resize_text_pos_embed(state, model)
    if fault := unusable(state, model):
        raise CheckpointError(f"{path}: {fault}")
    model.load_state_dict({name: _one_number(value, model, name) for name, value in state.items()})


def _one_number(value: torch.Tensor, model: nn.Module, name: str) -> torch.Tensor:
    """The scale and the bias of the logits, which are [] in some files and [1] in others, as the model has them."""
    own = getattr(model, name, None) if value.numel() == 1 else None
    return value if own is None else value.reshape(own.shape)


def _set_input_size(visual: Any, size: int) -> None:
    """Interpolate the position embeddings."""
    if hasattr(visual, "trunk"):
        return visual.set_input_size(size)
    side = size // visual.patch_size[0]
    visual.positional_embedding = nn.Parameter(resized_positions(visual.positional_embedding.data, side))
    visual.image_size, visual.grid_size = (size, size), (side, side)


def resized_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Position embeddings [1 + old * old, C] -> [1 + side * side, C], the class token's kept.

    Bicubic, without anti-aliasing (docs/method.md, Image tower).
    """
    code, old = positions[:1], math.isqrt(len(positions) - 1)
    grid = positions[1:].T.unflatten(1, (old, old))[None]
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)[0].flatten(1).T
    return torch.cat([code, grid])


@contextmanager
def _quiet_about_random_weights() -> Iterator[None]:
    """Keep open_clip from warning of random weights: they are asked for, or replaced."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


def repository_of(tag: dict) -> str:
    """Where an open_clip tag lies at the hub; empty where it does not."""
    return tag.get("hf_hub", "").rpartition("/")[0]


def tokenizer(config: BackboneParams) -> Callable[[list[str]], torch.Tensor]:
    """The tokenizer of an open_clip model. CLIP's ships with open_clip; SigLIP's lies beside its weights at the hub."""
    folder = _tokenizer_folder(config)
    try:
        return _tokenizer(f"local-dir:{folder}" if folder else config.model)
    except OSError as error:
        raise BackboneError(
            f"the tokenizer of {config.model} comes from the hub, or from a folder that holds all of the hub's files "
            f"(backbones.NAME.weights in params.yaml): {str(error).splitlines()[0]}"
        ) from None


_tokenizer = cache(open_clip.get_tokenizer)  # a quarter of a second for each


def _tokenizer_folder(config: BackboneParams) -> Path | None:
    """Where the tokenizer's files lie beside the weights: in the folder that is named, or in the hub's cache."""
    if config.weights:
        folder = located(config.weights)
        return folder if (folder / "tokenizer.json").is_file() else None
    tag = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    if not tag or "hf_tokenizer_name" not in open_clip.get_model_config(config.model)["text_cfg"]:
        return None
    needed = "tokenizer.json", "open_clip_config.json"
    folders = (path.parent for path in snapshots(repository_of(tag)))
    return next((folder for folder in folders if all((folder / name).is_file() for name in needed)), None)
