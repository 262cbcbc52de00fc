"""What a training leaves behind at short intervals, so that a killed run loses minutes.

It lies outside DVC's outs, which DVC deletes before a stage: in `.checkpoints/KEY` of the project itself, where runs of
DVC's queue find it, too. KEY is a digest of the parameters, the code and the data: a run goes on from
what is exactly its own, or starts anew.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from pipeline.checkpoints import save_model
from pipeline.clipsym import CLIPSym
from pipeline.errors import CheckpointError
from pipeline.packing import PackedSplit
from pipeline.params import Params, TrainParams
from pipeline.project import located, project
from pipeline.records import ModelRecord
from pipeline.values import named_files

STATE = "state.pt"


def fingerprint(params: Params, splits: Sequence[PackedSplit]) -> str:
    """A digest of what a training depends on: its parameters, this package's code, the packed splits, the files that
    the parameters name: words, weights. Raises CheckpointError where one is missing.
    """
    included = dict.fromkeys(("seed", "task", "prompts", "decoder"), True)
    trained = params.model_dump_json(include=included | {"train": set(TrainParams.model_fields) - {"workers"}})
    digest = hashlib.sha256(f"{trained} {params.backbone} {params.chosen.model_dump_json()}".encode())
    package, sections = Path(__file__).parent, ("prompts.", "train.", f"backbones.{params.backbone}.")
    named = {key: located(path) for key, path in named_files(params) if path and key.startswith(sections)}
    for key, path in named.items():
        if not path.exists():
            raise CheckpointError(f"{path}: no such file or folder (params.yaml: {key})")
    files = [file for path in named.values() for file in (path, *sorted(path.rglob("*"))) if file.is_file()]
    for path in [*sorted(package.rglob("*.py")), *(split.path for split in splits), *files]:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(2**20), b""):
                digest.update(block)
    return digest.hexdigest()[:16]


class Checkpoint:
    """The folder of one training: its state, and the best model so far. Only one process writes to it."""

    def __init__(self, key: str) -> None:
        self.folder = project() / ".checkpoints" / key

    @contextmanager
    def locked(self, wait: bool) -> Iterator[None]:
        """Keep other trainings of the same out; wait for one that is under way, an orphan of a killed DVC perhaps, or
        raise CheckpointError."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock, holder = FileLock(self.folder.with_suffix(".lock")), self.folder.with_suffix(".pid")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = holder.read_text() if holder.exists() else "unknown"
            message = f"process {owner} trains the same just now ({self.folder})"
            if not wait:
                raise CheckpointError(f"{message}; run the same command again after its end") from None
            print(f"{message}; waiting for its end", flush=True)
            lock.acquire()
        try:
            holder.write_text(str(os.getpid()))
            yield
        finally:
            holder.unlink(missing_ok=True)
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def load(self) -> dict | None:
        """What `save` was given last; None where a run begins."""
        path = self.folder / STATE
        return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None

    def save(self, state: dict) -> None:
        """Replace the state in one step. Raises CheckpointError, and leaves the former one, when there is no room."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{STATE}.tmp"
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / STATE)
        except (OSError, RuntimeError) as error:  # RuntimeError: of PyTorch's writer
            temporary.unlink(missing_ok=True)
            raise self._no_room(error) from None

    def save_best(self, model: CLIPSym, record: ModelRecord) -> None:
        """Add a best model; the former ones stay until `forget_former` is called."""
        try:
            save_model(self.best(record.epoch), model, record)
        except Exception as error:  # safetensors has errors of its own
            raise self._no_room(error) from None

    def best(self, epoch: int) -> Path:
        """Where the best model of an epoch lies."""
        return self.folder / f"best-{epoch}.safetensors"

    def forget_former(self, epoch: int) -> None:
        """Delete best models but that of this epoch, when the state knows of it."""
        for path in self.folder.glob("best-*"):
            if path != self.best(epoch):
                path.unlink()

    def discard(self) -> None:
        """Delete all, at the end of a training."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _no_room(self, error: Exception) -> CheckpointError:
        kept = "the last one saved is whole" if (self.folder / STATE).exists() else "none was saved before"
        return CheckpointError(
            f"{self.folder}: the checkpoint cannot be saved ({error}); {kept}. Make room there and run the same "
            "command: it goes on from what was saved"
        )
