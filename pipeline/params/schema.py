"""The sections of params.yaml as frozen objects. The comments there say what each key means; no default stands here."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pipeline.params.choices import (
    Augmentation,
    Family,
    Group,
    Precision,
    PromptKind,
    Reproducible,
    Schedule,
    Start,
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
    Name,
    Number,
    Seed,
    Share,
    Source,
    Text,
)

Depth = Literal[18, 50]
Orientations = Literal[0, 8, 21]
RESNETS: dict[str, Depth] = {"resnet18": 18, "resnet50": 50}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TowerParams(_Section):
    """What the towers of a backbone are. Checkpoints hold these keys: see pipeline.model.checkpoint for new ones."""

    family: Family
    model: Text
    pretrained: Text
    input_size: InputSize
    blocks: tuple[Count, ...]
    normalisation: Literal["released", "own"]

    @field_validator("blocks")
    @classmethod
    def _three(cls, blocks: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if len(blocks) != (0 if info.data.get("family") == "equisym" else 3):
            raise PydanticCustomError("blocks", "Input should be three numbers, or none for the family equisym")
        return blocks


class EquiSymParams(_Section):
    """What an EquiSym is. Checkpoints of it hold these keys in the place of those of towers.

    `orientations`: classes of the orientation's map besides the background; 0: there is none.
    """

    family: Literal["equisym"]
    version: Literal["steerable", "plain"]
    depth: Depth
    orientations: Orientations
    input_size: InputSize


class BackboneParams(TowerParams):
    """One entry of the catalogue of backbones: its towers, where their weights are, and how they learn."""

    weights: File
    frozen: Annotated[int, Field(ge=0, strict=True)]
    tower_lr: Annotated[Number, Field(gt=0)]
    decoder_lr: Annotated[Number, Field(gt=0)]

    @model_validator(mode="after")
    def _whole_model(self) -> "BackboneParams":
        if self.family == "equisym" and (
            self.model not in RESNETS or self.pretrained != "random" or self.frozen or self.weights is not None
        ):
            raise PydanticCustomError(
                "equisym",
                "the family equisym has the models {models}, pretrained: random, frozen: 0 and no weights; "
                "train.initial names a released checkpoint to start from",
                {"models": " and ".join(RESNETS)},
            )
        return self


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
    marks: File
    whole: Annotated[Number, Field(ge=0, le=1)]
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
    layers: Literal[1, 2, 4]
    width: Annotated[int, Field(ge=4, multiple_of=4, strict=True)]

    @field_validator("layers", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        if type(value) is not int:
            raise PydanticCustomError("layers", "Input should be 1, 2 or 4")
        return value


class TrainParams(_Section):
    """How the model is trained."""

    datasets: Annotated[tuple[Literal["dendi", "sdrw", "ldrs", "nyu", "own"], ...], Field(min_length=1)]
    start: Start
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
    reproducible: Reproducible
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
