"""Which images the words of a command line name."""

import glob
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.application.results import is_result
from pipeline.data.reading.files import IMAGES, pictures
from pipeline.errors import DataError

KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


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
        before, files = len(refused), pictures(path, refused)
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
