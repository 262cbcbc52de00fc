"""EquiSym's released checkpoints -> our model for use, of plain convolutions with batch normalisation folded in, or a
model that learns.

In such a file lie, of each steerable convolution, e2cnn's weights and, as a buffer, the basis that e2cnn had sampled.
Their product is the filter; the expanded filter lies there, too, where the model was saved in evaluation mode. escnn is
not asked: its bases are other functions in another order, and not even as many. A model that learns takes those weights
of escnn's basis that make the same filter.
"""

from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from pipeline.errors import CheckpointError
from pipeline.model.backbones.catalogue import is_safetensors
from pipeline.model.checkpoint import ModelRecord, load_model
from pipeline.model.equisym.layers import Norm, folded
from pipeline.model.equisym.model import ORIENTATIONS, EquiSym, folded_model
from pipeline.model.equisym.symmetric import FIELD
from pipeline.model.pickled import Released, State, read_released
from pipeline.params import EquiSymParams, TowerParams
from pipeline.params.choices import Task

MARK = "aspp.aspp4.atrous_conv."  # in all of them; what stands before it stands before every name
INPUT_SIZE = 417  # pixels, of the released training
LEARNT = "weights", "weight", "bias", "running_mean", "running_var"  # last names of all that is not derived


def is_equisym(state: State) -> bool:
    """Whether a state dict is of such a model."""
    return any(MARK in name for name in state)


@torch.inference_mode(False)  # as load_model
@torch.no_grad()
def load_equisym(released: Released, task: Task) -> tuple[EquiSym, ModelRecord]:
    """The model in evaluation mode, on the CPU, and its record. Raises CheckpointError.

    No threshold of validation images is in the file: the record's is 0.5.
    """
    path = released.path
    released.require_task(task)
    weights = _Weights(path, released.state)
    shape = weights.shape()
    if shape.orientations not in (0, ORIENTATIONS[task]):
        raise CheckpointError(f"{path}: its task is not {task}: it tells {shape.orientations} orientations")
    try:
        model = folded_model(shape, weights.filter)
    except ValueError as error:  # of a filter that is not steerable
        raise CheckpointError(f"{path}: {error}") from None
    weights.require_used()
    return model, ModelRecord(
        task, "equisym", shape, None, [], "none", "fp32", released.epoch, 0.0, {"released": 0.5},
        portable=True, detection_threshold=0.5,
    )  # fmt: skip


@torch.no_grad()
def start_from(model: EquiSym, path: Path, shape: EquiSymParams, task: Task) -> None:
    """Give a model that learns, of this shape, the weights of a released checkpoint, or of one that learnt here.

    Raises CheckpointError where they are of another model.
    """
    if is_safetensors(path):
        source, record = load_model(path)
        _require_same(path, record.towers, shape)
        if record.portable or record.task != task:
            form = "the portable form, whose normalisation is folded in" if record.portable else record.task
            raise CheckpointError(f"{path}: expected a model as it learnt {task}, got {form}")
        model.load_state_dict(source.state_dict())
        return
    released = read_released(path)
    if not is_equisym(released.state):
        raise CheckpointError(f"{path}: its weights are of another model: not of an EquiSym")
    released.require_task(task)
    weights = _Weights(path, released.state)
    _require_same(path, weights.shape(), shape)
    for name, layer in model.layers():
        weight, bias = weights.convolution(name, layer.folded()[0].shape)
        norm = getattr(layer, "norm", None)
        try:
            layer.take(weight, bias if norm is None else weights.norm(name, len(norm.weight)))
        except ValueError as error:
            raise CheckpointError(f"{path}: {name}: {error}") from None
    weights.require_used()


def _require_same(path: Path, own: TowerParams | EquiSymParams, shape: EquiSymParams) -> None:
    """Raise CheckpointError unless both are the same but for the size of the images."""
    if own != shape.model_copy(update={"input_size": own.input_size}):
        raise CheckpointError(f"{path}: its weights are of another model: {own!r}; expected {shape!r}")


class _Weights:
    """A state dict without its prefix, and which names in it were not yet used."""

    def __init__(self, path: Path, state: State) -> None:
        prefix = next(name for name in state if MARK in name).partition(MARK)[0]
        self.path, self.state = path, {name.removeprefix(prefix): value for name, value in state.items()}
        self.unused, self.plain = set(self.state), f"{MARK}weight" in self.state

    def shape(self) -> EquiSymParams:
        """What the model is."""
        depth = 50 if any(name.startswith("backbone.layer1.0.conv3.") for name in self.state) else 18
        branch = any(name.startswith("decoder_theta.") for name in self.state)
        classes = self.get("decoder_axis.conv1.weights").numel() - 2 if branch else 0
        try:
            return EquiSymParams.model_validate({
                "family": "equisym", "version": "plain" if self.plain else "steerable", "depth": depth,
                "orientations": classes, "input_size": INPUT_SIZE,
            })  # fmt: skip
        except ValidationError:
            raise CheckpointError(f"{self.path}: expected 0, 8 or 21 orientations, got {classes}") from None

    def filter(self, name: str, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter, of this shape, and the bias of our convolution of this name, its normalisation folded in."""
        weight, bias = self.convolution(name, shape)
        if released_names(name, self.plain)[1] is None:
            return weight, bias
        count = 1 if self.plain else FIELD
        norm = nn.BatchNorm2d(shape[0] // count)
        norm.load_state_dict(self.norm(name, len(norm.weight)), strict=False)
        return folded(weight, norm.eval(), count)

    def convolution(self, name: str, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter, of this shape, and the bias of our convolution of this name, without its normalisation."""
        conv, norm = released_names(name, self.plain)
        if not self.plain:
            return self.expanded(conv, shape), torch.zeros(shape[0])
        weight = self.get(f"{conv}.weight", shape)
        return weight, torch.zeros(shape[0]) if norm else self.get(f"{conv}.bias", shape[:1])

    def norm(self, name: str, count: int) -> Norm:
        """The batch normalisation of our convolution of this name, with so many means."""
        norm = released_names(name, self.plain)[1]
        key = norm if self.plain else f"{norm}.batch_norm_[{FIELD}]"
        parts = ("weight", "bias", "running_mean", "running_var")
        return {part: self.get(f"{key}.{part}", torch.Size([count])) for part in parts}

    def require_used(self) -> None:
        """Raise CheckpointError where something that was learnt has served nothing."""
        if left := [name for name in self.unused if name.endswith(LEARNT)]:
            raise CheckpointError(
                f"{self.path}: it holds {len(left)} keys that an EquiSym of depth {self.shape().depth} lacks, such as "
                f"{left[0]}"
            )

    def expanded(self, conv: str, shape: torch.Size) -> torch.Tensor:
        """The filter of a steerable convolution: for each pair of fields the weighted sum of the basis."""
        bases = [name for name in self.state if name.startswith(f"{conv}._basis") and name.endswith(".sampled_basis")]
        if len(bases) != 1:
            self.unused.discard(f"{conv}.weights")
            return self.get(f"{conv}.filter", shape)
        basis = self.get(bases[0])  # [B, o, i, k * k]
        fields = shape[0] // basis.shape[1], shape[1] // basis.shape[2]
        weights = self.get(f"{conv}.weights", torch.Size([fields[0] * fields[1] * len(basis)]))
        between = torch.einsum("boip,kb->koip", basis, weights.view(-1, len(basis))).unflatten(0, fields)
        return between.transpose(1, 2).reshape(shape)

    def get(self, name: str, shape: torch.Size | None = None) -> torch.Tensor:
        """A tensor, in float32. Raises CheckpointError where it is missing or of another shape."""
        if name not in self.state:
            raise CheckpointError(f"{self.path}: not a whole EquiSym: it lacks {name}")
        value = self.state[name]
        if shape is not None and value.shape != shape:
            raise CheckpointError(f"{self.path}: {name}: expected shape {list(shape)}, got {list(value.shape)}")
        if not value.isfinite().all():
            raise CheckpointError(f"{self.path}: {name}: holds NaN or infinity")
        self.unused.discard(name)
        return value.float()


def released_names(name: str, plain: bool) -> tuple[str, str | None]:
    """What the released code calls our convolution, and its batch normalisation, if it has one."""
    part, last = name.rpartition(".")[::2]
    if name == "decoder_axis":
        return "decoder_axis.conv1", None
    if plain and part == "decoder_axis":
        return {
            "conv1": ("decoder_axis.last_conv.0", "decoder_axis.last_conv.1"),
            "conv2": ("decoder_axis.last_conv.4", "decoder_axis.last_conv.5"),
            "conv3": ("decoder_axis.last_conv.8", None),
        }[last]
    if last == "conv3" and part.startswith("decoder_"):
        return name, None
    if last == "downsample":
        return f"{name}.0", f"{name}.1"
    if last == "global_avg_pool":
        return (f"{name}.1", f"{name}.2") if plain else (f"{name}.conv", f"{name}.bn")
    if last.startswith("aspp"):
        return f"{name}.atrous_conv", f"{name}.bn"
    return name, f"{part}.bn{last[-1]}"  # of conv1 bn1
