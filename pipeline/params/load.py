"""params.yaml -> frozen objects. Unknown, missing and ill-typed keys are errors that name what is allowed."""

import difflib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.error import YAMLError

from pipeline.errors import ParamsError
from pipeline.params.changes import changed, read_yaml
from pipeline.params.schema import BackboneParams, Params


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
