"""EquiSym's released checkpoints -> our model for use, of plain convolutions with batch normalisation folded in.

In such a file lie, of each steerable convolution, e2cnn's weights and, as a buffer, the basis that e2cnn had sampled.
Their product is the filter; the expanded filter lies there, too, where the model was saved in evaluation mode. escnn is
not asked: its bases are other functions in another order, and not even as many.
"""

from pathlib import Path

import torch
from pydantic import ValidationError

from pipeline.conversion.pickled import Released, State
from pipeline.errors import CheckpointError
from pipeline.model.checkpoint import ModelRecord
from pipeline.model.equisym.model import EquiSym, folded_model
from pipeline.params import EquiSymParams
from pipeline.params.choices import Task

MARK = "aspp.aspp4.atrous_conv."  # in all of them; what stands before it stands before every name
ORDER = 16  # of the group: 8 rotations, each with and without the reflection
INPUT_SIZE = 417  # pixels, of the released training
EPS = 1e-5  # of batch normalisation, in e2cnn as in PyTorch
CLASSES: dict[int, Task] = {8: "reflection", 21: "rotation"}  # of the orientation's map, besides the background
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
    if (own := CLASSES.get(shape.orientations, task)) != task:
        raise CheckpointError(f"{path}: its task is {own}, not {task}")
    try:
        model = folded_model(shape, weights.filter)
    except ValueError as error:  # of a filter that is not steerable
        raise CheckpointError(f"{path}: {error}") from None
    if left := [name for name in weights.unused if name.endswith(LEARNT)]:
        raise CheckpointError(
            f"{path}: it holds {len(left)} keys that an EquiSym of depth {shape.depth} lacks, such as {left[0]}"
        )
    return model, ModelRecord(
        task, "equisym", shape, None, [], "none", "fp32", released.epoch, 0.0, {"released": 0.5},
        portable=True, detection_threshold=0.5,
    )  # fmt: skip


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
        """The filter, of this shape, and the bias of our convolution of this name."""
        conv, norm = released_names(name, self.plain)
        weight = self.get(f"{conv}.weight", shape) if self.plain else self.expanded(conv, shape)
        if norm is None:
            return weight, self.get(f"{conv}.bias", shape[:1]) if self.plain else torch.zeros(len(weight))
        count, key = (1, norm) if self.plain else (ORDER, f"{norm}.batch_norm_[{ORDER}]")
        scale, shift, mean, variance = (
            self.get(f"{key}.{part}", torch.Size([shape[0] // count])).repeat_interleave(count)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / (variance + EPS).sqrt()
        return weight * scale[:, None, None, None], shift - mean * scale

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
