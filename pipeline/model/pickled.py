"""Files that the released trainings write by torch.save: the state dict, and beside it what tells its origin."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import CheckpointError
from pipeline.model.backbones.pickles import is_torchscript, read_pickle
from pipeline.params.choices import Task

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Released:
    """What such a file holds. `entries`: all of it, or nothing where it is a bare state dict."""

    path: Path
    state: State
    entries: dict

    @property
    def epoch(self) -> int:
        """That the weights are of; 0: not known."""
        epoch = self.entries.get("epoch")
        return int(epoch) if isinstance(epoch, (int, np.integer)) and epoch >= 0 else 0

    def require_task(self, task: Task) -> None:
        """Raise CheckpointError where the command line that is kept in it is of the other task."""
        if isinstance(options := self.entries.get("args"), Namespace):
            own = "rotation" if getattr(options, "rot_data", 0) else "reflection"
            if own != task:
                raise CheckpointError(f"{self.path}: its task is {own}, not {task}")


def read_released(path: Path) -> Released:
    """Raises CheckpointError for what is no state dict, nor holds one."""
    if is_torchscript(path):
        raise CheckpointError(
            f"{path}: a TorchScript archive, as `symmetry export` writes; expected the checkpoint that it was made of"
        )
    file = read_pickle(path)
    state = file.get("state_dict", file)
    if not isinstance(state, dict) or not state or not all(map(_is_weight, state.items())):
        raise CheckpointError(f"{path}: expected a dict of tensors by name, or one with such a dict as `state_dict`")
    return Released(path, state, {} if state is file else file)


def _is_weight(entry: tuple) -> bool:
    return isinstance(entry[0], str) and torch.is_tensor(entry[1])
