"""What is seen of a training while it runs: DVCLive's curves, TensorBoard's log, overlays of validation images."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from dvclive import Live
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from pipeline.data.packed.split import PackedSplit
from pipeline.figures.pictures import contact_sheet, overlay
from pipeline.model.clipsym import CLIPSym
from pipeline.scoring.prediction import heat_maps

SHOWN = 4  # validation images drawn of each data set
ROOM = 2**20  # bytes; more than what an epoch adds to the logs at once


class Journal:
    """Curves go to `live`, among DVC's outs; TensorBoard's log and the pictures, which hold times, to `logs`.

    What is in `logs` is for the eye alone: when it cannot be written, that is said, once, and the training goes on.
    """

    def __init__(self, live: Live, logs: Path, history: Sequence[dict[str, float]]) -> None:
        self._live, self._logs, self._board = live, logs, None
        for figures in history:
            self._relive(figures)
        self._for_the_eye(lambda: self._open(len(history) + 1))

    def epoch(self, number: int, figures: dict[str, float]) -> None:
        """Add an epoch's figures, in a fixed order, to both."""
        self._relive(figures)
        if self._board:
            self._for_the_eye(lambda: self._add(number, figures))

    def pictures(self, number: int, model: CLIPSym, validation: Sequence[PackedSplit], batch: int) -> None:
        """Draw some validation images, always the same, with their truth and the model's heat maps."""
        for split in validation:
            if not self._board:
                return
            few = split.excerpt(np.linspace(0, len(split) - 1, min(SHOWN, len(split))).round().astype(int))
            drawn = [
                overlay(few.native_image(k), heat_map, few.mask(k), few.task)
                for k, heat_map in heat_maps(model, few, batch, "overlays")
            ]
            sheet = contact_sheet(drawn, height=200, width=1200)
            self._for_the_eye(partial(self._show, number, split.dataset, sheet))

    def close(self) -> None:
        """Write what TensorBoard's log still holds back."""
        if self._board:
            self._for_the_eye(self._board.close)

    def _relive(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._live.log_metric(name, value)
        self._live.next_step()

    def _open(self, first: int) -> None:
        self._board = SummaryWriter(str(self._logs), purge_step=first)

    def _add(self, number: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._board.add_scalar(name, value, number)
        self._board.flush()

    def _show(self, number: int, dataset: str, sheet: Image.Image) -> None:
        sheet.save(self._logs / f"{dataset}-epoch-{number:04}.jpg")
        self._board.add_image(f"validation/{dataset}", np.asarray(sheet), number, dataformats="HWC")

    def _for_the_eye(self, write: Callable[[], None]) -> None:
        """Write to `logs`, and no more after an error of the system, such as a full disk."""
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self._logs) as probe:  # without room the board's own thread fails, with a traceback
                probe.write(bytes(ROOM))
            write()
        except OSError as error:
            self._board = None
            print(f"{self._logs}: cannot be written ({error}); the training goes on without it", file=sys.stderr)


@contextmanager
def open_journal(live: Path, logs: Path, history: Sequence[dict[str, float]]) -> Iterator[Journal]:
    """A journal that begins with the figures of the epochs before, as a resumed run needs it.

    DVC has deleted the curves by then, or DVCLive does; TensorBoard is told to forget what came after.
    """
    with Live(str(live), dvcyaml=None, report=None, save_dvc_exp=False) as curves:
        journal = Journal(curves, logs, history)
        try:
            yield journal
        finally:
            journal.close()
