"""What a checkpoint's header tells about its weights."""

import json
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipeline.errors import CheckpointError
from pipeline.params import Params

RECORD = "record"  # the header's entry
# Keys of params.yaml that came after the first checkpoints -> what a checkpoint that lacks them was made with.
LATER: dict[str, object] = {
    "own.labels": (),
}
GONE: tuple[str, ...] = ()  # keys that older checkpoints hold and nothing needs


@dataclass(frozen=True)
class ModelRecord:
    """The header's entries.

    `params`: all parameters of the run; `prompts`: the M prompts; `epoch`: the one that the weights are of;
    `validation_f1`: in 0..1, the mean over the data sets; `thresholds`: test set -> the best on its validation images;
    `portable`: whether the weights are those of plain convolutions (pipeline.portable); `views`: how detection looks
    at a picture, input size in pixels and whether mirrored; none: at the parameters' size, as it is and mirrored.
    """

    params: Params
    prompts: list[str]
    epoch: int
    validation_f1: float
    thresholds: dict[str, float]
    portable: bool = False
    views: tuple[tuple[int, bool], ...] = ()


def load_record(path: Path) -> ModelRecord:
    """The record in a checkpoint's header. Raises CheckpointError."""
    try:
        with safe_open(path, framework="np") as file:
            fields = json.loads((file.metadata() or {})[RECORD])
        views = tuple((size, mirrored) for size, mirrored in fields.pop("views", ()))
        return ModelRecord(**{**fields, "params": Params.model_validate(_current(fields["params"])), "views": views})
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no checkpoint there; `dvc repro train` makes it") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:  # ValueError: of json and of pydantic
        raise CheckpointError(f"{path}: not a checkpoint of this project: {error}") from None


def _current(params: dict) -> dict:
    """The parameters of an older checkpoint with the keys of today."""
    for key, value in LATER.items():
        section, last = _place(params, key)
        section.setdefault(last, value)
    for key in GONE:
        section, last = _place(params, key)
        section.pop(last, None)
    return params


def _place(params: dict, key: str) -> tuple[dict, str]:
    """The section that holds a dotted key, and its last part."""
    *sections, last = key.split(".")
    return reduce(getitem, sections, params), last
