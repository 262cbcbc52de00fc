"""What a training leaves behind at short intervals, so that one that is killed loses minutes.

It lies outside DVC's outs, which DVC deletes before a stage: in `.checkpoints/KEY` of the project itself, where
experiments of DVC's queue find it, too. KEY is a digest of the parameters, the code and the data: a training goes on
from what is exactly its own, or starts anew.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import torch

from pipeline.data.packed.split import PackedSplit
from pipeline.errors import CheckpointError
from pipeline.model.base import Model
from pipeline.model.checkpoint import ModelRecord, require_whole, save_model
from pipeline.model.header import SHIPPED
from pipeline.params import Params
from pipeline.params.project import located, named_files, project
from pipeline.runtime.files import atomic_file, locked

logger = logging.getLogger(__name__)
STATE, FORMER = "state.pt", "state-former.pt"
SAVE_EVERY = 60.0  # seconds between two checkpoints


def fingerprint(params: Params, splits: Sequence[PackedSplit]) -> str:
    """A digest of what a training depends on: its parameters, this package's code and weights, the packed splits, the
    files that the parameters name: words, weights. Raises CheckpointError where one is missing.
    """
    trained = params.model_dump_json(include={"reproducible", "seed", "task", "prompts", "decoder", "train"})
    digest = hashlib.sha256(f"{trained} {params.backbone} {params.chosen.model_dump_json()}".encode())
    package, sections = Path(__file__).parents[1], ("prompts.", "train.", f"backbones.{params.backbone}.")
    named = {key: located(path) for key, path in named_files(params) if path and key.startswith(sections)}
    for key, path in named.items():
        if not path.exists():
            raise CheckpointError(f"{path}: no such file or folder (params.yaml: {key})")
    files = [file for path in named.values() for file in (path, *sorted(path.rglob("*"))) if file.is_file()]
    shipped = sorted(SHIPPED.glob("*.safetensors"))
    for path in [*sorted(package.rglob("*.py")), *shipped, *(split.path for split in splits), *files]:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(2**20), b""):
                digest.update(block)
    return digest.hexdigest()[:16]


class Checkpoint:
    """The folder of one training: its last two states, and their best models. Only one process writes to it.

    A state is a zip file with a CRC-32 of each part, a model has a checksum of its own: what is damaged is not gone on
    from.
    """

    def __init__(self, key: str) -> None:
        self.folder = project() / ".checkpoints" / key
        self._state, self._former = self.folder / STATE, self.folder / FORMER
        self._bests: list[int] = []  # those of the former state and of the state
        self._saved = time.monotonic()
        self._whole = True  # whether the state, where there is one, is fit to become the former one

    @contextmanager
    def locked(self, wait: bool) -> Iterator[None]:
        """Keep other trainings of the same out; wait for one that is under way, or raise CheckpointError."""
        with locked(self.folder, "trains the same", wait):
            yield

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is a minute old."""
        return time.monotonic() - self._saved >= SAVE_EVERY

    def load(self) -> dict | None:
        """What `save` was given last, or the time before where that is damaged; None where a training begins.

        Raises CheckpointError, and deletes nothing, where there are states, but none that is whole with its best model;
        where that model is damaged, the user may delete it and so go on without it.
        """
        faults, without = [], None
        for path in (path for path in (self._state, self._former) if path.exists()):
            try:
                state = _read(path)
                best = self.best(state["best"])
                if state["best"] and not best.exists():
                    without = without or state
                    raise CheckpointError(f"{best}: missing")
                if state["best"]:
                    require_whole(best)
            except CheckpointError as error:
                faults.append(str(error))
                continue
            if faults:
                logger.warning("%s: going on from the checkpoint before, %s", "; ".join(faults), path)
            self._bests, self._whole = [state["best"]], not faults
            return state
        if without:
            logger.warning("%s: going on without it, the best of the epochs to come is taken", "; ".join(faults))
            return without | {"best": 0, "best_f1": -1.0}
        if faults:
            raise CheckpointError(
                f"{'; '.join(faults)}: the training cannot go on from there, and nothing was deleted. Put back a copy "
                f"of what is damaged; or delete a damaged best model, to go on and take the best of the epochs to "
                f"come; or delete {self.folder}, to begin anew. Then run the same command"
            )
        return None

    def save(self, state: dict) -> None:
        """Replace the state in one step, and keep the one before. Raises CheckpointError, and leaves both, when there
        is no room."""
        temporary = self.folder / f"{STATE}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            if self._state.exists() and self._whole:
                os.replace(self._state, self._former)
            os.replace(temporary, self._state)
        except (OSError, RuntimeError) as error:  # RuntimeError: of PyTorch's writer
            temporary.unlink(missing_ok=True)
            raise self._no_room(error) from None
        self._bests, self._whole, self._saved = [*self._bests[-1:], state["best"]], True, time.monotonic()
        for path in self.folder.glob("best-*"):
            if path not in map(self.best, self._bests):
                path.unlink()

    def save_best(self, model: Model, record: ModelRecord) -> None:
        """Add a best model; the former ones stay until two states know of better ones."""
        try:
            save_model(self.best(record.epoch), model, record)
        except Exception as error:  # safetensors has errors of its own
            raise self._no_room(error) from None

    def save_diverged(self, step: dict) -> str:
        """Keep a step whose loss is not finite, to be looked at; say where, or why not."""
        path = self.folder / "diverged.pt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(step, path)
        except (OSError, RuntimeError) as error:  # RuntimeError: of PyTorch's writer
            return f"The model before this step cannot be kept in {path} ({error})"
        return f"The model before this step and the last images are in {path}, for torch.load"

    def best(self, epoch: int) -> Path:
        """Where the best model of an epoch lies."""
        return self.folder / f"best-{epoch}.safetensors"

    def deliver(self, epoch: int, path: Path) -> None:
        """Copy the best model to where it is to be in the end, read it back, and only then delete the checkpoint.

        Raises CheckpointError, and deletes nothing, where it is damaged here or there, or has no room.
        """
        require_whole(self.best(epoch))
        try:
            with atomic_file(path) as part:
                shutil.copyfile(self.best(epoch), part)
        except OSError as error:
            raise CheckpointError(
                f"{path}: the model cannot be written ({error}); it is kept as {self.best(epoch)}. Make room and run "
                "the same command"
            ) from None
        require_whole(path)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _no_room(self, error: Exception) -> CheckpointError:
        kept = "the last one saved is whole" if self._state.exists() else "none was saved before"
        return CheckpointError(
            f"{self.folder}: the checkpoint cannot be saved ({error}); {kept}. Make room there and run the same "
            "command: it goes on from what was saved"
        )


def _read(path: Path) -> dict:
    """A state. Raises CheckpointError where a byte of it is not as it was written: `torch.load` does not look."""
    try:
        with ZipFile(path) as archive:
            part = archive.testzip()
        if part is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        error: object = f"wrong CRC-32 of {part}"
    except Exception as caught:  # zipfile, zlib and pickle each have errors of their own
        error = caught
    raise CheckpointError(f"{path}: damaged ({error})")
