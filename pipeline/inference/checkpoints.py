"""Checkpoints for detection: this project's, and those of the released code of CLIPSym and EquiSym, told apart by
content.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.errors import CheckpointError
from pipeline.model.backbones.catalogue import is_safetensors
from pipeline.model.backbones.pickles import is_pytorch
from pipeline.model.base import Model, best_device
from pipeline.model.checkpoint import ModelRecord, load_model
from pipeline.model.equisym.released import is_equisym, load_equisym
from pipeline.model.pickled import read_released
from pipeline.params.choices import Precision, Task


@torch.inference_mode(False)  # the model is the same wherever it is loaded
def load_any(
    path: Path, task: Task, device: str | torch.device | None, precision: Precision, prompts: Sequence[str] | None
) -> tuple[Model, ModelRecord]:
    """The model of a file, on its device, and its record; see `pipeline.inference.detector.load`.

    Raises CheckpointError, also where it is of another task.
    """
    model, record = _loaded(path, task, prompts)
    if record.task != task:
        raise CheckpointError(f"{path}: its task is {record.task}, not {task}")
    model.precision = precision
    return model.to(device or best_device()), record


def _loaded(path: Path, task: Task, prompts: Sequence[str] | None) -> tuple[Model, ModelRecord]:
    if not path.is_file() or is_safetensors(path) or not (is_pytorch(path) or path.suffix in (".pt", ".pth")):
        if prompts is not None:
            raise CheckpointError(f"{path}: it holds its prompts; only a released CLIPSym needs them given")
        if not path.is_file():
            raise CheckpointError(f"{path}: no checkpoint there; expected a file of weights")
        return load_model(path)
    released = read_released(path)
    if is_equisym(released.state):
        if prompts is not None:
            raise CheckpointError(
                f"{path}: it is an EquiSym, which knows no prompts; only a released CLIPSym needs them"
            )
        return load_equisym(released, task)
    # here: open_clip takes a second or two
    from pipeline.conversion.released import from_released_file, released_params

    return from_released_file(released, released_params(task), prompts)
