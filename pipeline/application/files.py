"""The folder of results of `symmetry detect`.

It holds detections.jsonl or detections.csv and, under TASK, heat maps and overlays. An overlay is a JPEG file; PNG
where a side is longer than JPEG can hold.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, get_args

from filelock import FileLock, Timeout

from pipeline.application.records import FORMS
from pipeline.errors import DataError, said
from pipeline.params.choices import Task
from pipeline.runtime.files import save_image

if TYPE_CHECKING:
    from pipeline.inference.detection import (
        Detection,  # the command line parses its words before it waits for PyTorch
    )

FORMATS = "jsonl", "csv"
HEAT_MAPS, OVERLAYS = "heatmaps", "overlays"
LONGEST_JPEG = 65_500  # pixels of a side, libjpeg's limit


def lines_name(form: str) -> str:
    """What the file of all detections is called."""
    return f"detections.{form}"


def is_result(path: Path) -> bool:
    """Whether a file is a heat map, an overlay or the lines that an earlier run wrote."""
    folders = path.absolute().parents
    names = [lines_name(form) for form in FORMATS]
    return path.name in names or any(
        kind.name in (HEAT_MAPS, OVERLAYS)
        and task.name in get_args(Task)
        and any((out / name).is_file() for name in names)
        for kind, task, out in zip(folders, folders[1:], folders[2:])
    )


class Results:
    """A folder of results that one run writes. The lines of an image mean that all of it is written."""

    def __init__(self, folder: Path, lines: BinaryIO, form: str, pictures: bool) -> None:
        self.folder, self.path, self._lines, self._pictures = folder, folder / lines_name(form), lines, pictures
        header, self._record = FORMS[form]
        self._append(header.encode())

    def add(self, image: Path, name: str, detections: "Sequence[Detection]") -> None:
        """Write the pictures, called `name`, of what was found in an image, then its lines. Raises DataError."""
        try:
            for detection in detections if self._pictures else []:
                self._draw(name, detection)
            self._append(self._record(image, detections).encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise DataError(
                f"{image}: its results cannot be written: {said(error)}; "
                f"those of the images before are whole in {self.path}"
            ) from None

    def _append(self, line: bytes) -> None:
        """Write all or nothing."""
        start = self._lines.seek(0, 2)
        try:
            while line:  # a disk that fills takes a part at first
                line = line[self._lines.write(line) :]
        except OSError:
            with suppress(OSError):
                self._lines.truncate(start)
            raise

    def _draw(self, name: str, detection: "Detection") -> None:
        from PIL import Image

        heat_map = self._place(detection.task, HEAT_MAPS, f"{name}.png")
        save_image(Image.fromarray((detection.heatmap * 255 + 0.5).astype("uint8")), heat_map)
        fits = max(detection.heatmap.shape) <= LONGEST_JPEG
        overlay = self._place(detection.task, OVERLAYS, f"{name}.jpg" if fits else f"{name}.png")
        save_image(detection.overlay(), overlay, quality=90)

    def _place(self, task: str, kind: str, name: str) -> Path:
        path = self.folder / task / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def results(folder: Path, pictures: bool, form: str = FORMATS[0]) -> Iterator[Results]:
    """An empty detections.FORM in the folder, which is made where it is missing, for this run alone.

    Raises DataError where the folder cannot be one, or where another run writes into it.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a folder for the results, found a file; name another one with --out")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{folder}: another run writes there; wait for its end or name another folder") from None
    try:
        with (folder / lines_name(form)).open("wb", buffering=0) as lines:
            yield Results(folder, lines, form, pictures)
    finally:
        Path(lock.lock_file).unlink()  # while it is held, so that none who waits gets hold of it
        lock.release()
