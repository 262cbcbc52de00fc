"""EquiSym as a model of this project: images in 0..1 -> logits of their size, as CLIPSym's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.backbones.catalogue import IMAGENET
from pipeline.model.base import AUTOCAST, Model
from pipeline.model.equisym.layers import FOLDED, PLAIN
from pipeline.model.equisym.network import Network
from pipeline.model.equisym.symmetric import SymmetricConv, ordered
from pipeline.params import BackboneParams, EquiSymParams
from pipeline.params.choices import Precision, Task, UpsamplerKind
from pipeline.params.schema import RESNETS, Orientations

ORIENTATIONS: dict[Task, Orientations] = {"reflection": 8, "rotation": 21}  # besides the background


def equisym_shape(entry: BackboneParams, upsampler: UpsamplerKind, task: Task) -> EquiSymParams | None:
    """The EquiSym that an entry of the catalogue is; None for the towers of a CLIPSym.

    Equivariant in all layers, or plain, as the upsampler is to be; the plain version has no orientations, as released.
    """
    if entry.family != "equisym":
        return None
    plain = upsampler == "plain"
    return EquiSymParams(
        family="equisym", version="plain" if plain else "steerable", depth=RESNETS[entry.model],
        orientations=0 if plain else ORIENTATIONS[task], input_size=entry.input_size,
    )  # fmt: skip


class EquiSym(Model):
    """The whole model."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Network, precision: Precision) -> None:
        super().__init__()
        self.network, self.precision = network, precision
        for name, values in zip(("mean", "std"), IMAGENET):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.mean.device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 1, S, S] of images, float RGB [B, 3, S, S] in 0..1, letterboxed with black.

        In training, and with orientations, [B, 2 + orientations, S, S]: behind them the logits of the background and of
        each orientation.
        """
        with torch.autocast(images.device.type, AUTOCAST[self.precision], enabled=self.precision != "fp32"):
            logits, theta = self.network.decoded(self.features(images))
        if self.training and theta is not None:
            logits = torch.cat([logits, theta], dim=1)
        return F.interpolate(logits.float(), size=images.shape[-2:], mode="bilinear", align_corners=True)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The backbone's features [B, C, h, w] of images [B, 3, S, S] in 0..1."""
        return self.network.backbone((images - self.mean) / self.std)

    def parts(self) -> tuple[list[list[nn.Parameter]], list[nn.Parameter], list[nn.Parameter]]:
        """As `Model.parts`: the backbone's stages, no text tower, and what follows."""
        backbone = self.network.backbone
        stages = [list(stage.parameters()) for stage in backbone.children()]
        inside = {id(parameter) for parameter in backbone.parameters()}
        return stages, [], [parameter for parameter in self.network.parameters() if id(parameter) not in inside]

    def layers(self) -> list[tuple[str, Any]]:
        """The convolutions of a model that learns, each with its normalisation, if it has one, by name."""
        return [(name, module) for name, module in self.network.named_modules() if hasattr(module, "folded")]

    def train(self, mode: bool = True) -> EquiSym:
        """Switch the mode; a backbone that does not learn keeps its batch statistics, too."""
        super().train(mode)
        self.network.backbone.train(mode and any(p.requires_grad for p in self.network.backbone.parameters()))
        return self

    @torch.no_grad()
    def folded(self, shape: EquiSymParams) -> EquiSym:
        """The same function in the form for use, of plain convolutions. `shape`: of this model, which is one that
        learns.
        """

        layers = dict(self.layers())
        return folded_model(shape, lambda name, _: layers[name].folded())


def learning_model(shape: EquiSymParams, precision: Precision) -> EquiSym:
    """A model that learns, with random weights."""
    if shape.version == "plain":
        kind = PLAIN
    else:
        from pipeline.model.equisym.steerable import STEERABLE as kind  # here: escnn takes a second
    return EquiSym(Network(kind, shape.depth, shape.orientations), precision)


def folded_model(
    shape: EquiSymParams, filter_of: Callable[[str, torch.Size], tuple[torch.Tensor, torch.Tensor]] | None = None
) -> EquiSym:
    """A model for use, of plain convolutions: random, or with filters and biases [C'].

    filter_of: of the convolution of this name, whose filter has this shape, [C', C, k, k]
    """
    network = Network(FOLDED[shape.version], shape.depth, shape.orientations)
    for name, module in network.named_modules():
        if filter_of and isinstance(module, (nn.Conv2d, SymmetricConv)):
            size = module.shape if isinstance(module, SymmetricConv) else module.weight.shape
            weight, bias = filter_of(name, size)
            if shape.version == "steerable":
                outputs, inputs = (ordered(channels) for channels in size[:2])
                weight, bias = weight[outputs][:, inputs], bias[outputs]
            if isinstance(module, SymmetricConv):
                module.take(weight, bias, name)
            else:
                module.load_state_dict({"weight": weight, "bias": bias})
    return EquiSym(network, "fp32").eval()
