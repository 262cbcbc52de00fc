"""What a checkpoint's header tells about its weights."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from pipeline.errors import CheckpointError
from pipeline.params import Params
from pipeline.params.values import InputSize

RECORD = "record"  # the header's entry
# Keys of params.yaml that came after the first checkpoints -> what a checkpoint that lacks them was made with.
LATER: dict[str, object] = {
    "preprocess.targets": "clipped",
    "prompts.file": None,
    "own.labels": (),
    "data_seed": 0,
    "machine": {"workers": 0, "compile": False},
}
# Keys that others replaced -> the key of today, and their values with those of today.
REPLACED: dict[str, tuple[str, list[tuple]]] = {
    "train.quarter_turns": ("train.augmentation", [(True, "turned"), (False, "tilted")]),
}
GONE: tuple[str, ...] = ("train.workers", "train.compile")  # keys that older checkpoints hold and nothing needs


Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]  # NaN is none


@dataclass(frozen=True)
class ModelRecord:
    """The header's entries.

    `params`: all parameters of the run; `prompts`: the M prompts; `epoch`: the one that the weights are of;
    `validation_f1`: in 0..1, the mean over the data sets; `thresholds`: test set -> the best for pixels on its
    validation images; `portable`: whether the weights are those of plain convolutions; `views`: how detection
    looks at a picture, input size in pixels and whether mirrored; none: at the parameters' size, as it is and mirrored;
    `detection_threshold`: the best score of axes or centres on the validation images; None: not known;
    `checksum`: of the file, by pipeline.model.checkpoint; empty in files that were made before there was one.
    """

    params: Params
    prompts: list[str]
    epoch: Annotated[int, Field(ge=0, lt=2**53, strict=True)]
    validation_f1: Fraction
    thresholds: Annotated[dict[str, Fraction], Field(min_length=1)]
    portable: Annotated[bool, Field(strict=True)] = False
    views: tuple[tuple[InputSize, Annotated[bool, Field(strict=True)]], ...] = ()
    detection_threshold: Fraction | None = None
    checksum: str = field(default="", compare=False)

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def load_record(path: Path) -> ModelRecord:
    """The record in a checkpoint's header. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint there; `dvc repro train` makes it")
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
        fields = json.loads(header[RECORD]) if RECORD in header else None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this project: {error}") from None
    if not isinstance(fields, dict):
        raise CheckpointError(
            f"{path}: not a checkpoint of this project: its header has no `record` of parameters and prompts; weights "
            f"for a backbone are named in params.yaml, backbones.NAME.weights"
        )
    try:
        return TypeAdapter(ModelRecord).validate_python(_current(fields))
    except ValidationError as error:
        raise CheckpointError(f"{path}: not a checkpoint of this project: {_faults(error)}") from None


def _faults(error: ValidationError) -> str:
    """The first few keys that are wrong, in one line."""
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def _current(fields: dict) -> dict:
    """The record of an older checkpoint with the keys of today."""
    params, thresholds = fields.get("params"), fields.get("thresholds")
    for key, (today, values) in REPLACED.items():
        section, last = _place(params, key)
        if last in section:
            later, name = _place(params, today)
            later[name] = next((new for old, new in values if old == section[last]), None)
            del section[last]
    for key, value in LATER.items():
        section, last = _place(params, key)
        section.setdefault(last, value)
    for key in GONE:
        section, last = _place(params, key)
        section.pop(last, None)
    if isinstance(thresholds, dict) and "detection" in thresholds:  # where those that are shipped keep it
        fields.setdefault("detection_threshold", thresholds["detection"])
    return fields


def _place(params: object, key: str) -> tuple[dict, str]:
    """The section that holds a dotted key, and its last part; an empty one where there is no such section."""
    *sections, last = key.split(".")
    for name in sections:
        params = params.get(name) if isinstance(params, dict) else None
    return params if isinstance(params, dict) else {}, last
