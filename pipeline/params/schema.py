"""params.yaml -> frozen objects. Unknown, missing and ill-typed keys are errors that name what is allowed.

The comments in params.yaml say what each key means; no default stands here.
"""

import difflib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.error import YAMLError

from pipeline.errors import ParamsError
from pipeline.params.changes import changed, read_yaml
from pipeline.params.choices import (
    Augmentation,
    Group,
    Precision,
    PromptKind,
    Schedule,
    Targets,
    Task,
    TowerUse,
    UpsamplerKind,
    Validation,
)
from pipeline.params.values import (
    Alpha,
    Axis,
    Count,
    File,
    Folder,
    InputSize,
    Layers,
    Name,
    Number,
    Seed,
    Share,
    Source,
    Text,
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TowerParams(_Section):
    """What the towers of a backbone are. Checkpoints hold these keys: see pipeline.model.checkpoint for new ones."""

    family: Literal["lite", "open_clip"]
    model: Text
    pretrained: Text
    input_size: InputSize
    blocks: Annotated[tuple[Count, ...], Field(min_length=3, max_length=3)]
    normalisation: Literal["released", "own"]


class BackboneParams(TowerParams):
    """One entry of the catalogue of backbones: its towers, where their weights are, and how they learn."""

    weights: File
    frozen: Annotated[int, Field(ge=0, strict=True)]
    tower_lr: Annotated[Number, Field(gt=0)]
    decoder_lr: Annotated[Number, Field(gt=0)]


class EmbeddedParams(_Section):
    """How much data is made."""

    images: Annotated[int, Field(ge=8, strict=True)]


class PublishedParams(_Section):
    """Where the real data are; None: where they are published."""

    dendi: Source
    pmc: Source
    password: str


class OwnParams(_Section):
    """A researcher's own images; `labels`: of the shapes that are symmetry marks, all where there is none."""

    folder: Folder
    labels: tuple[Text, ...]


class SyntheticParams(_Section):
    """Training images made from a folder of photographs."""

    photographs: Folder
    images: Count
    axes: File
    least: Annotated[Number, Field(ge=0, le=1)]


class PreprocessParams(_Section):
    """What is done about faulty files and odd marks, and where axes cross."""

    faults: Literal["stop", "skip"]
    repair: Annotated[bool, Field(strict=True)]
    targets: Targets


class PromptParams(_Section):
    """Which prompts are drawn."""

    kind: PromptKind
    count: Count
    words: Count
    vocabulary: File
    file: File


class DecoderParams(_Section):
    """The decoder's shape. Checkpoints hold these keys, too."""

    upsampler: UpsamplerKind
    group: Group
    layers: Layers
    width: Annotated[int, Field(ge=4, multiple_of=4, strict=True)]


class TrainParams(_Section):
    """How the model is trained."""

    datasets: Annotated[tuple[Literal["dendi", "sdrw", "ldrs", "nyu", "own"], ...], Field(min_length=1)]
    initial: File
    epochs: Count
    batch: Count
    accumulate: Count
    image_tower: TowerUse
    text_tower: TowerUse
    layer_decay: Share
    augmentation: Augmentation
    schedule: Schedule
    decay: Share
    warmup: Annotated[int, Field(ge=0, strict=True)]
    alpha: Alpha
    gamma: Annotated[Number, Field(ge=0)]
    ema: Annotated[Number, Field(ge=0, lt=1)]
    validate_every: Count
    overfit: Annotated[int, Field(ge=0, strict=True)]
    precision: Precision


class MachineParams(_Section):
    """How fast a training runs, whatever comes of it."""

    workers: Annotated[int, Field(ge=0, strict=True)]
    compile: Annotated[bool, Field(strict=True)]


class EvaluateParams(_Section):
    """How test sets are scored and shown."""

    sdrw_validation: Validation
    gallery: Annotated[int, Field(ge=0, strict=True)]


class AblationParams(_Section):
    """The axes of the grid and the size of its runs."""

    backbone: Axis[Name]
    prompts: Axis[PromptKind]
    upsampler: Axis[UpsamplerKind]
    input_size: InputSize
    epochs: Count


class PresetParams(_Section):
    """The values that the axes of ablation/dvc.yaml take."""

    seeds: Axis[Seed]
    backbones: Axis[Name]
    kinds: Axis[PromptKind]
    counts: Axis[Count]
    words: Axis[Count]
    towers: Axis[TowerUse]
    upsamplers: Axis[UpsamplerKind]
    groups: Axis[Group]
    options: Axis[Name]


class Params(_Section):
    """All of params.yaml."""

    seed: Seed
    data_seed: Seed
    data: Literal["embedded", "published"]
    task: Task
    backbone: str
    embedded: EmbeddedParams
    published: PublishedParams
    own: OwnParams
    synthetic: SyntheticParams
    preprocess: PreprocessParams
    prompts: PromptParams
    decoder: DecoderParams
    train: TrainParams
    machine: MachineParams
    evaluate: EvaluateParams
    ablation: AblationParams
    presets: PresetParams
    backbones: dict[Name, BackboneParams]

    @property
    def chosen(self) -> BackboneParams:
        """The catalogue entry that `backbone` names."""
        return self.backbones[self.backbone]


def load_params(path: Path = Path("params.yaml"), changes: Sequence[str] = ()) -> Params:
    """The parameters in a file, with some changes, each like `train.ema=0.99`.

    Raises ParamsError with one line for each key that is wrong.
    """
    try:
        content = read_yaml(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run from the project's folder") from None
    except YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected a mapping of keys to values")
    for change in changes:
        content = changed(content, change)
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError("\n".join(_line(path, fault) for fault in error.errors())) from None
    faults = [f"{path}: {fault}" for fault in _cross_checks(params)]
    if faults:
        raise ParamsError("\n".join(faults))
    return params


def _cross_checks(params: Params) -> list[str]:
    """What no single key shows."""
    names = sorted(params.backbones)
    chosen = {
        "backbone": [params.backbone],
        "ablation.backbone": params.ablation.backbone,
        "presets.backbones": params.presets.backbones,
    }
    faults = [
        f"{key}: unknown backbone {name!r}; allowed: {', '.join(names)}{_suggestion(name, names)}"
        for key, values in chosen.items() for name in values if name not in params.backbones
    ]  # fmt: skip
    axes = params.ablation.backbone, params.ablation.prompts, params.ablation.upsampler
    cells = ["-".join(cell) for cell in product(*axes)]  # the presets have one axis of free text each, and numbers
    faults += [
        f"ablation: several of its cells would be called {name!r}; rename a backbone"
        for name in dict.fromkeys(cells) if cells.count(name) > 1
    ]  # fmt: skip
    if params.task == "rotation" and not {"dendi", "own"} & set(params.train.datasets):
        faults.append("train.datasets: only dendi and own have rotation centres; add one or set task: reflection")
    if 0 < params.train.gamma < 1:
        faults.append("train.gamma: must be 0, or 1 and more; between them the gradient is infinite where p_t = 1")
    faults += [
        f"backbones.{name}.blocks: must rise strictly; got {list(entry.blocks)}"
        for name, entry in params.backbones.items() if list(entry.blocks) != sorted(set(entry.blocks))
    ]  # fmt: skip
    faults += [
        f"backbones.{name}: the name should hold none of . [ ], by which DVC takes a dotted key apart"
        for name in params.backbones if set(name) & set(".[]")
    ]  # fmt: skip
    if params.decoder.width % 2**params.decoder.layers:
        faults.append(
            f"decoder.width: must be divisible by {2**params.decoder.layers} with {params.decoder.layers} layers"
        )
    kinds = {params.prompts.kind, *params.ablation.prompts, *params.presets.kinds}
    if "file" in kinds and params.prompts.file is None:
        faults.append("prompts.file: empty; name a text file with one prompt a line, or use another kind than file")
    if "released" in kinds and params.prompts.vocabulary is None:
        faults.append("prompts.vocabulary: empty; name the released objects.csv, or use another kind than released")
    if params.train.text_tower == "trained" and params.prompts.kind == "none":
        faults.append("train.text_tower: there is no text to train with prompts.kind: none; set it to frozen")
    if all(name == "nyu" for name in params.train.datasets):
        faults.append("train.datasets: nyu has no validation images; add dendi, sdrw, ldrs or own")
    return faults


def _line(path: Path, fault: ErrorDetails) -> str:
    """One line on a fault that pydantic found."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        allowed = _siblings(fault["loc"])
        return f"{path}: {key}: no such key; allowed: {', '.join(allowed)}{_suggestion(fault['loc'][-1], allowed)}"
    if fault["type"] == "missing":
        return f"{path}: {key}: missing"
    return f"{path}: {key}: {fault['msg']}; got {fault['input']!r}"


def _siblings(location: tuple) -> list[str]:
    """The keys allowed beside the one at `location`."""
    section: Any = Params
    for part in location[:-1]:
        field = section.model_fields.get(part)
        section = field.annotation if field and part != "backbones" else BackboneParams
    return sorted(section.model_fields)


def _suggestion(word: object, allowed: list[str]) -> str:
    close = difflib.get_close_matches(str(word), allowed, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
