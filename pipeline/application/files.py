"""The files of `symmetry detect`: images that its words name, and the folder of its results.

A folder of results holds detections.jsonl and, under TASK, heat maps and overlays. An overlay is a JPEG file; PNG where
a side is longer than JPEG can hold.
"""

import glob
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, get_args

from filelock import FileLock, Timeout

from pipeline.data.reading.files import IMAGES, image_files
from pipeline.errors import DataError, said
from pipeline.params.choices import Task

if TYPE_CHECKING:
    from pipeline.application.detection import (
        Detection,  # the command line parses its words before it waits for PyTorch
    )

KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
LINES, HEAT_MAPS, OVERLAYS = "detections.jsonl", "heatmaps", "overlays"
LONGEST_JPEG = 65_500  # pixels of a side, libjpeg's limit


@dataclass
class Selection:
    """`places`: each image with its place in the folder that was named; `refused`: what should be one and cannot, with
    the reason; `results`: how many files of earlier runs were left out."""

    places: dict[Path, Path] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    results: int = 0

    def names(self) -> dict[Path, str]:
        """What each image's pictures are called: its place without the suffix, with it where two would be called alike.

        Raises DataError where even that does not tell two apart.
        """
        stems = Counter(place.with_suffix("") for place in self.places.values())
        called: dict[str, Path] = {}
        for path, place in self.places.items():
            name = str(place.with_suffix("") if stems[place.with_suffix("")] == 1 else place)
            if name in called:
                raise DataError(f"{called[name]} and {path}: both would be called {name}; run them apart")
            called[name] = path
        return {path: name for name, path in called.items()}


def select(words: Sequence[str]) -> Selection:
    """The images that the words name: files, folders with all below, or globs.

    Raises DataError for a word that names nothing, and where no image is left.
    """
    chosen, seen = Selection(), set()
    for word in words:
        for path, place in _named(word, chosen.refused):
            if (absolute := os.path.abspath(path)) in seen:
                continue
            seen.add(absolute)
            if is_result(path):
                chosen.results += 1
            elif reason := _unreadable(path):
                chosen.refused.append(f"{path}: {reason}")
            else:
                chosen.places[path] = place
    if not chosen.places:
        left_out = [f"{chosen.results} files of earlier runs left out"] if chosen.results else []
        raise DataError("; ".join(["no image to look at", *left_out, *chosen.refused]))
    return chosen


def _named(word: str, refused: list[str]) -> list[tuple[Path, Path]]:
    """What one word names, each with its place in the folder that was named. Raises DataError where that is nothing."""
    if not word:
        raise DataError("expected an image, a folder or a pattern, got an empty text")
    word = word if os.path.lexists(word) else os.path.expanduser(word)
    path = Path(word)
    if path.is_dir():
        before, files = len(refused), image_files(path, refused)
        if not files and before == len(refused):
            raise DataError(f"{path}: no images in this folder; expected files called {', '.join(sorted(IMAGES))}")
        return [(file, file.relative_to(path)) for file in files]
    found = [path] if os.path.lexists(path) else sorted(map(Path, glob.glob(word, recursive=True)))
    files = [file for file in found if not file.is_dir()]
    if found and not files:
        raise DataError(f"{word}: only folders are called so; name one of them, or {word.rstrip('/')}/*")
    if not files:
        raise DataError(f"{word}: no such image, folder or files")
    return [(file, Path(file.name)) for file in files]


def _unreadable(path: Path) -> str:
    """Why a path cannot be an image file, or nothing."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"a broken link, to {os.readlink(path)}" if path.is_symlink() else "image not found"
    except OSError as error:
        return error.strerror or str(error)
    return next((f"expected an image file, got {kind}" for is_kind, kind in KINDS if is_kind(mode)), "")


def is_result(path: Path) -> bool:
    """Whether a file is a heat map, an overlay or the lines that an earlier run wrote."""
    folders = path.absolute().parents
    return path.name == LINES or any(
        kind.name in (HEAT_MAPS, OVERLAYS) and task.name in get_args(Task) and (out / LINES).is_file()
        for kind, task, out in zip(folders, folders[1:], folders[2:])
    )


class Results:
    """A folder of results that one run writes. A line of detections.jsonl means that all of its image is written."""

    def __init__(self, folder: Path, lines: BinaryIO, pictures: bool) -> None:
        self.folder, self._lines, self._pictures = folder, lines, pictures

    def add(self, image: Path, name: str, detections: "list[Detection]") -> None:
        """Write the pictures, called `name`, of what was found in an image, then its line. Raises DataError."""
        try:
            for detection in detections if self._pictures else []:
                self._draw(name, detection)
            found = {detection.task: detection.to_dict() for detection in detections}
            self._append(json.dumps({"image": str(image), **found}).encode() + b"\n")
        except OSError as error:
            raise DataError(
                f"{image}: its results cannot be written: {said(error)}; "
                f"those of the images before are whole in {self.folder / LINES}"
            ) from None

    def _append(self, line: bytes) -> None:
        """Write a whole line or nothing."""
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
        Image.fromarray((detection.heatmap * 255 + 0.5).astype("uint8")).save(heat_map)
        fits = max(detection.heatmap.shape) <= LONGEST_JPEG
        overlay = self._place(detection.task, OVERLAYS, f"{name}.jpg" if fits else f"{name}.png")
        detection.overlay().save(overlay, quality=90)

    def _place(self, task: str, kind: str, name: str) -> Path:
        path = self.folder / task / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def results(folder: Path, pictures: bool) -> Iterator[Results]:
    """An empty detections.jsonl in the folder, which is made where it is missing, for this run alone.

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
        with (folder / LINES).open("wb", buffering=0) as lines:
            yield Results(folder, lines, pictures)
    finally:
        Path(lock.lock_file).unlink()  # while it is held, so that none who waits gets hold of it
        lock.release()
