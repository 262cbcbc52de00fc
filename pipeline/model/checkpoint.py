"""Trained models as safetensors files: weights and text embeddings, and in the header all that loading needs.

A checkpoint outlives the program that made it. Its header says the version of its form, and holds of the parameters
those that the model is made of; all the others are kept as information, and never looked at. Who adds an entry, or a
key to TowerParams or DecoderParams, states below what the checkpoints that lack it were made with, and raises FORMAT
where older programs would load a model wrongly without it.

Format 1 had all of params.yaml in the header in place of these entries, and no version.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.errors import CheckpointError, PackageError, brief
from pipeline.model.backbones.catalogue import ImageTower, random_image_tower, unusable
from pipeline.model.base import Model
from pipeline.model.clipsym import CLIPSym, build_model
from pipeline.model.equisym.model import equisym_shape, folded_model, learning_model
from pipeline.model.header import FORMAT, RECORD, Content, checksum, read_entries, require_checksum
from pipeline.params import DecoderParams, EquiSymParams, Params, TowerParams
from pipeline.params.choices import Precision, Task
from pipeline.params.values import InputSize
from pipeline.runtime.files import atomic_file

Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]  # NaN is none
Weight = Annotated[float, Field(ge=-1e6, le=1e6, strict=True)]  # of a logistic regression; NaN is none
Flag = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True)
class ModelRecord:
    """The header's entries. A default is what a checkpoint that lacks the entry was made with.

    `task`; `backbone`: its name in the catalogue, or equisym; `towers`, `decoder`: the parameters of these parts, or
    those of an EquiSym, which has no decoder of its own; `prompts`: the M prompts, and their `prompt_kind`;
    `precision`: of the products, in training and in use; `epoch`: the one that the weights are of; `validation_f1`: in
    0..1, the mean over the data sets; `thresholds`: test set -> the best for pixels on its validation images, or the
    lowest that is about as good on all, where it has none; `portable`: whether the weights are those of plain
    convolutions; `views`: how detection looks at a picture, input size in pixels and whether mirrored; none: at the
    towers' size, as it is and mirrored;
    `detection_threshold`: the best score of axes or centres on the validation images; None: not known; `calibration`:
    what makes probabilities of these scores, those of detection.confidence.Calibration; None: they stay what they are;
    `params`: all parameters of the run that trained it, as information; `checksum`: of the file; empty: there is none.
    """

    task: Task
    backbone: str
    towers: TowerParams | EquiSymParams
    decoder: DecoderParams | None
    prompts: list[str]
    prompt_kind: str
    precision: Precision
    epoch: Annotated[int, Field(ge=0, lt=2**53, strict=True)]
    validation_f1: Fraction
    thresholds: Annotated[dict[str, Fraction], Field(min_length=1)]
    portable: Flag = False  # the first checkpoints were all as they had been trained
    views: tuple[tuple[InputSize, Flag], ...] = ()  # before views, detection looked as it does without any
    detection_threshold: Fraction | None = None  # before there was one, none was looked for
    calibration: tuple[Weight, Weight, Weight, Weight, Fraction] | None = None  # before, scores were of heat maps
    params: dict[str, Any] = field(default_factory=dict)  # the released code's checkpoints do not tell them
    checksum: str = field(default="", compare=False)  # the first were written without

    @property
    def input_size(self) -> int:
        """Pixels of the side that the model was trained with."""
        return self.towers.input_size

    def threshold(self, test_set: str) -> float:
        """That for pixels on this test set; of a released checkpoint, which tells none, its own."""
        return self.thresholds["released" if "released" in self.thresholds else test_set]

    @property
    def entries(self) -> dict[str, Any]:
        """All of them as plain values, as the header has them."""
        decoder = None if self.decoder is None else self.decoder.model_dump(mode="json")
        return {**vars(self), "towers": self.towers.model_dump(mode="json"), "decoder": decoder}

    @classmethod
    def of(
        cls, params: Params, prompts: list[str], epoch: int, validation_f1: float, thresholds: dict[str, float]
    ) -> "ModelRecord":
        """The record of a model that was trained with these parameters."""
        known = params.model_dump(mode="json")
        known["backbones"] = {params.backbone: known["backbones"][params.backbone]}
        towers: TowerParams | EquiSymParams
        if equisym := equisym_shape(params.chosen, params.decoder.upsampler, params.task):
            towers, decoder, kind = equisym, None, "none"
        else:
            towers = TowerParams.model_validate(params.chosen.model_dump(include=set(TowerParams.model_fields)))
            decoder, kind = params.decoder, params.prompts.kind
        return cls(
            params.task, params.backbone, towers, decoder, prompts, kind, params.train.precision, epoch, validation_f1,
            thresholds, params=known,
        )  # fmt: skip


def load_record(path: Path) -> ModelRecord:
    """The record in a checkpoint's header. Raises CheckpointError."""
    try:
        return TypeAdapter(ModelRecord).validate_python(read_entries(path))
    except ValidationError as error:
        raise CheckpointError(f"{path}: not a checkpoint of this project: {_faults(error)}") from None


def _faults(error: ValidationError) -> str:
    """The first few keys that are wrong, in one line."""
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def save_model(path: Path, model: Model, record: ModelRecord) -> None:
    """Write the checkpoint in one step, so that no half-written file is ever seen.

    Of a text tower that learns only the embeddings are kept: the prompts do not change any more.
    """
    tensors = {name: value for name, value in model.state_dict().items() if not name.startswith("text_tower.")}
    state = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    fields = {"format": FORMAT, **record.entries, "checksum": ""}
    fields["checksum"] = checksum(_content(state), fields)
    with atomic_file(path) as part:  # one entry: safetensors writes several in a random order
        save_file(state, part, metadata={RECORD: json.dumps(fields, allow_nan=False)})


@torch.inference_mode(False)  # wherever it is loaded, the model is fit for training, too
def load_model(path: Path) -> tuple[Model, ModelRecord]:
    """The model in evaluation mode, on the CPU, and its record; no network is asked. Raises CheckpointError."""
    record = load_record(path)
    state = load_file(path)
    towers, decoder = record.towers, record.decoder
    if isinstance(towers, TowerParams) and decoder is not None:
        model: Model = _random_clipsym(record, towers, decoder, state, path)
    elif isinstance(towers, EquiSymParams) and decoder is None:
        model = folded_model(towers) if record.portable else learning_model(towers, record.precision)
    else:
        raise CheckpointError(f"{path}: no model can be made of its parameters: towers need a decoder, an EquiSym none")
    _fill(model, state, path)
    require_checksum(path, _content(state))
    return model.eval(), record


def require_whole(path: Path) -> None:
    """Raise CheckpointError unless the file holds what `save_model` wrote."""
    load_record(path)
    try:
        require_checksum(path, _content(load_file(path)))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None


def _random_clipsym(
    record: ModelRecord, towers: TowerParams, shape: DecoderParams, state: dict[str, torch.Tensor], path: Path
) -> CLIPSym:
    text = state.get("text_embeddings")
    text = None if text is None else torch.empty(text.shape)  # filled below, as float32 like all the rest
    reduction, width = state.get("decoder.reduces.0.weight"), shape.width
    if reduction is None or len(reduction) != width:  # before a decoder is made that may not fit into the memory
        raise CheckpointError(f"{path}: its weights are of another model: they hold no decoder of width {width}")
    embedded = [] if text is None else list(text.shape)
    if len(record.prompts) != (embedded or [0])[0] or len(embedded) not in (0, 2):
        raise CheckpointError(
            f"{path}: its weights are of another model: {len(record.prompts)} prompts, embeddings of {embedded}"
        )
    try:
        return build_model(_random_tower(towers, record.portable), text, shape, record.precision, record.portable)
    except (ModuleNotFoundError, PackageError):
        raise
    except Exception as error:  # whatever the libraries make of parameters that fit no model
        raise CheckpointError(f"{path}: no model can be made of its parameters: {brief(error)}") from None


def _random_tower(towers: TowerParams, portable: bool) -> ImageTower:
    if not portable:
        return random_image_tower(towers)
    from pipeline.model.backbones.lite import fused_tower  # here: the only family with a portable form

    return fused_tower(towers)


def _fill(model: Model, state: dict[str, torch.Tensor], path: Path) -> None:
    if fault := unusable(state, model):
        raise CheckpointError(f"{path}: {fault}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights are of another model: {error}") from None


def _content(state: dict[str, torch.Tensor]) -> list[Content]:
    """What the checksum is made of."""
    return [
        (name, str(tensor.dtype), list(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy().data)
        for name, tensor in state.items()
    ]
