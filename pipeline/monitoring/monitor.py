"""What is seen of a training while it runs: its progress, DVCLive's curves, TensorBoard's log, overlays of validation
images. It changes nothing of what comes of the training.
"""

import logging
import resource
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeVar

import numpy as np
import torch
from dvclive import Live
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from pipeline.data.packed.split import PackedSplit
from pipeline.figures.pictures import CARD, LINE, WIDTH, contact_sheet, overlay
from pipeline.model.base import Model
from pipeline.runtime.files import save_image
from pipeline.scoring.heat_maps import heat_maps

logger = logging.getLogger(__name__)
SHOWN = 4  # validation images drawn of each data set
ROOM = 2**20  # bytes; more than what an epoch adds to the logs at once

Part = TypeVar("Part")


class Progress:
    """A bar for each epoch, and what the training takes: time, time of waiting for data, memory; validation left out.

    `shown`: in one process only.
    """

    def __init__(self, epochs: int, shown: bool) -> None:
        self._epochs = epochs
        self._quiet: dict[str, Any] = {} if shown else {"disable": True}  # else TQDM_DISABLE decides
        self._images, self._seconds, self._waited = 0, 0.0, 0.0

    @contextmanager
    def epoch(self, number: int, images: int, done: int, parts: Iterable[Part]) -> Iterator[Iterator[Part]]:
        """Show the steps within the block as those of an epoch of so many images, some of them done before.

        Gives the parts of the batches; the time until each comes counts as waiting.
        """
        waited_for = self._waited_for(parts)
        self._left = (self._epochs - number + 1) * images - done
        self._start = time.perf_counter()
        title = f"epoch {number}/{self._epochs}"
        with tqdm(total=images, initial=done, desc=title, unit="image", **self._quiet) as self._bar:
            yield waited_for
        waited_for.close()  # ends the processes that load images
        self._seconds += time.perf_counter() - self._start

    def step(self, images: int, loss: float, lr: float) -> None:
        """Show a step done: `loss` is the sum over the images of the epoch so far."""
        self._images, self._left = self._images + images, self._left - images
        elapsed = self._seconds + time.perf_counter() - self._start
        mean, left = loss / (self._bar.n + images), tqdm.format_interval(elapsed / self._images * self._left)
        self._bar.set_postfix_str(f"loss={mean:.5f} lr={lr:.1e} all done in {left}", refresh=False)
        self._bar.update(images)

    def summary(self, device: torch.device) -> str:
        """A line on what the training took; empty where no step was done."""
        if not self._images:
            return ""
        return (
            f"{self._images / self._seconds:.1f} images/s; {self._waited / self._seconds:.0%} of the time went into "
            f"waiting for data; peak memory of a process: {_peak_memory(device) / 1e9:.2f} GB"
        )

    def _waited_for(self, parts: Iterable[Part]) -> Generator[Part, None, None]:
        start = time.perf_counter()
        for part in parts:
            self._waited += time.perf_counter() - start
            yield part
            start = time.perf_counter()


def _peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held: of the GPU on a GPU, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Monitor:
    """Curves go to `live`, among DVC's outs; TensorBoard's log and the pictures, which hold times, to `logs`.

    What is in `logs` is for the eye alone: when it cannot be written, that is said, once, and the training goes on.
    """

    def __init__(self, live: Live, logs: Path, history: Sequence[dict[str, float]]) -> None:
        self._live, self._logs = live, logs
        self._board: SummaryWriter | None = None
        for figures in history:
            self._log(figures)
        self._write_logs(lambda: self._open(len(history) + 1))

    def add(self, number: int, figures: dict[str, float]) -> None:
        """Add an epoch's figures, in a fixed order, to both."""
        self._log(figures)
        if self._board:
            self._write_logs(partial(self._add_to_board, self._board, number, figures))

    def draw(self, number: int, model: Model, validation: Sequence[PackedSplit], batch: int) -> None:
        """Draw some validation images, always the same, with their truth and the model's heat maps."""
        for split in validation:
            if not self._board:
                return
            few = split.excerpt(np.linspace(0, len(split) - 1, min(SHOWN, len(split))).round().astype(int))
            drawn = [
                overlay(few.native_image(k), heat_map, few.annotation(k), few.task, few.name(k), CARD)
                for k, heat_map in heat_maps(model, few, batch, "overlays")
            ]
            sheet = contact_sheet(drawn, CARD + LINE, WIDTH)
            self._write_logs(partial(self._show, self._board, number, split.dataset, sheet))

    def close(self) -> None:
        """Write what TensorBoard's log still holds back."""
        if self._board:
            self._write_logs(self._board.close)

    def _log(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._live.log_metric(name, value)
        self._live.next_step()

    def _open(self, first: int) -> None:
        self._board = SummaryWriter(str(self._logs), purge_step=first)

    def _add_to_board(self, board: SummaryWriter, number: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            board.add_scalar(name, value, number)
        board.flush()

    def _show(self, board: SummaryWriter, number: int, dataset: str, sheet: Image.Image) -> None:
        save_image(sheet, self._logs / f"{dataset}-epoch-{number:04}.jpg")
        board.add_image(f"validation/{dataset}", np.asarray(sheet), number, dataformats="HWC")

    def _write_logs(self, write: Callable[[], None]) -> None:
        """Write to `logs`, and no more after an error of the system, such as a full disk."""
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self._logs) as probe:  # without room the board's own thread fails, with a traceback
                probe.write(bytes(ROOM))
            write()
        except OSError as error:
            self._board = None
            logger.warning("%s: cannot be written (%s); the training goes on without it", self._logs, error)


@contextmanager
def open_monitor(live: Path, logs: Path, history: Sequence[dict[str, float]]) -> Iterator[Monitor]:
    """A monitor that begins with the figures of the epochs before, as a resumed training needs it.

    DVC has deleted the curves by then, or DVCLive does; TensorBoard is told to forget what came after.
    """
    with Live(str(live), dvcyaml=None, report=None, save_dvc_exp=False) as curves:
        monitor = Monitor(curves, logs, history)
        try:
            yield monitor
        finally:
            monitor.close()
