"""The catalogue of backbones: towers by name, and where their weights lie.

An image tower maps images to three features of different depth on one grid, 1/16 of the image's side; a text tower
maps prompts to embeddings. Both families hold real pretrained weights, or are random only where the catalogue says
`pretrained: random`. A family is a module with `check`, `published_weights`, `image_tower` and a class `Towers`; it is
imported when it is needed, because open_clip alone takes a second or two.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import CheckpointError, brief
from pipeline.model.backbones.hub import local_weights
from pipeline.model.backbones.pickles import is_torchscript, read_pickle, read_torchscript
from pipeline.params import BackboneParams, TowerParams

WITHIN = ("state_dict", "model_state_dict", "model", "module")  # keys under which trainings keep a state
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class ImageTower(nn.Module, ABC):
    """Base of the towers: images in 0..1 are normalised, then turned into three features, shallow to deep.

    `widths`: channels of the features. `mean`, `std`: of the images that the tower wants, per channel.
    """

    widths: list[int]

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] in 0..1 -> the same shape, as the tower wants it."""
        return (images - self.mean) / self.std

    @property
    @abstractmethod
    def trunk(self) -> nn.Sequential | nn.ModuleList:
        """The blocks, shallow to deep."""

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters before the first block, then those of each block, shallow to deep."""
        blocks = [list(block.parameters()) for block in self.trunk]
        inside = {id(parameter) for block in blocks for parameter in block}
        return [[parameter for parameter in self.parameters() if id(parameter) not in inside], *blocks]

    def freeze(self, blocks: int) -> None:
        """Keep the first blocks, and what is before them, from learning; 0: nothing."""
        for parameter in sum(self.layers()[: blocks + 1], []) if blocks else ():
            parameter.requires_grad_(False)


class TextTower(nn.Module, ABC):
    """Base of the text towers: each embeds the prompts that it was built for.

    They stay in evaluation mode, without dropout, as CLIP trains them.
    """

    def train(self, mode: bool = True) -> "TextTower":
        """Leave the mode as it is."""
        return super().train(False)

    @abstractmethod
    def forward(self) -> torch.Tensor:
        """The embeddings, [M, E], not L2-normalised."""


class Backbone(ABC):
    """The pretrained towers of a catalogue entry, built once for all that ask for them."""

    @abstractmethod
    def image_tower(self) -> ImageTower:
        """The image tower."""

    @abstractmethod
    def text_tower(self, prompts: Sequence[str]) -> TextTower:
        """The text tower with these prompts, one at least."""

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor | None:
        """Text embeddings float32 [M, E] of the text tower, not L2-normalised; None for no prompts."""
        return self.text_tower(prompts)() if prompts else None


def pretrained(config: BackboneParams) -> Backbone:
    """The towers of a catalogue entry. Raises BackboneError when the weights are missing or do not fit."""
    return _family(config).Towers(config, require_weights(config))


def random_image_tower(config: TowerParams) -> ImageTower:
    """The image tower of a catalogue entry, for a checkpoint to be loaded into. Raises BackboneError."""
    return _family(config).image_tower(config, None)


def require_weights(config: BackboneParams) -> Path | None:
    """The file that holds a backbone's weights, fetched from the hub where need be; None for `pretrained: random`, as
    of EquiSym, which is no backbone.

    Raises BackboneError, which says how to get them, when there is none.
    """
    if config.family == "equisym":
        return None
    family = _family(config)
    family.check(config)
    if config.weights is not None:
        return local_weights(config.weights)
    return None if config.pretrained == "random" else family.published_weights(config)


def _family(config: TowerParams) -> ModuleType:
    if config.family == "lite":
        from pipeline.model.backbones import lite

        return lite
    from pipeline.model.backbones import clip

    return clip


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Names and tensors of a file: safetensors, PyTorch's of all ages, TorchScript; told apart by their content.

    A state inside a training's checkpoint is taken out of it. Raises CheckpointError.
    """
    if is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: damaged safetensors: {brief(error)}") from None
    if is_torchscript(path):
        return read_torchscript(path)
    content = read_pickle(path)
    for _ in WITHIN:  # a dict may hold itself
        content = next((content[key] for key in WITHIN if isinstance(content.get(key), dict)), content)
    if not content or not all(torch.is_tensor(value) for value in content.values()):
        found = ", ".join(f"{name} ({type(value).__name__})" for name, value in list(content.items())[:4])
        raise CheckpointError(
            f"{path}: expected tensors by name, or a dict that holds them as {' or '.join(WITHIN)}; got "
            f"{found or 'nothing'}"
        )
    return {str(name).replace("_orig_mod.", ""): value for name, value in content.items()}  # of torch.compile


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header, and the header's brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def unusable(state: dict[str, torch.Tensor], model: nn.Module) -> str:
    """What keeps the values from being this model's weights; empty where nothing does. Names and shapes do not matter.

    Loading them would cast whole numbers to floats, and take NaN over, without a word.
    """
    for name, own in model.state_dict().items():
        value = state.get(name, own)
        if value.dtype != own.dtype and not (value.is_floating_point() and own.is_floating_point()):
            return f"{name}: expected {own.dtype}, got {value.dtype}"
        if not value.to(own.dtype).isfinite().all():
            return f"{name}: holds NaN or infinity"
    return ""
