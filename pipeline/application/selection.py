"""The images that the words of `symmetry detect` name, and what is left out of them."""

import glob
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.application.files import is_result
from pipeline.data.reading.files import IMAGES, hidden, is_image_file, visible
from pipeline.errors import DataError

KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
STANDARD_INPUT = "-"
RESULTS, HIDDEN, BELOW = "files of earlier runs", "hidden files and folders", "folders below"


@dataclass
class Selection:
    """`places`: each image with its place in the folder that was named; `refused`: what should be one and cannot, with
    the reason; `left_out`: how many files or folders of each kind are nobody's images."""

    places: dict[Path, Path] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def names(self) -> dict[Path, str]:
        """What each image's pictures are called: its place without the suffix, with it where two would be called alike.

        Where places are alike, too, as of `a/1.jpg b/1.jpg`, all are called by their path below the folder that holds
        all of them.
        """
        absolute = {path: Path(os.path.abspath(path)) for path in self.places}
        top = os.path.commonpath([path.parent for path in absolute.values()])
        paths = {path: whole.relative_to(top) for path, whole in absolute.items()}
        for places in (self.places, paths):
            stems = Counter(place.with_suffix("") for place in places.values())
            short = {
                path: place if stems[place.with_suffix("")] > 1 else place.with_suffix("")
                for path, place in places.items()
            }
            for names in (short, places):
                if len(set(names.values())) == len(names):
                    return {path: str(name) for path, name in names.items()}
        raise AssertionError("two paths of one file")

    def left_out_in_words(self) -> str:
        """All that was left out, or nothing."""
        return "; ".join(f"{count} {what}" for what, count in self.left_out.items() if count)


def select(words: Sequence[str], recursive: bool = True) -> Selection:
    """The images that the words name: files, folders (with all below where `recursive`), globs, or `-` for a list.

    The list is read from the standard input: a file or folder a line, or parted by NUL as `find -print0` does; lines
    that name nothing are refused. Raises DataError for a word that names nothing, and where no image is left.
    """
    chosen, seen = Selection(), set()
    for path, place in _all_named(words, recursive, chosen):
        if (absolute := os.path.abspath(path)) in seen:
            continue
        seen.add(absolute)
        if is_result(path):
            chosen.left_out[RESULTS] += 1
        elif reason := _unreadable(path):
            chosen.refused.append(f"{path}: {reason}")
        else:
            chosen.places[path] = place
    if not chosen.places:
        left_out = chosen.left_out_in_words()
        reasons = [f"{left_out} left out"] if left_out else []
        raise DataError("; ".join(["no image to look at", *reasons, *chosen.refused]))
    return chosen


def _all_named(words: Sequence[str], recursive: bool, chosen: Selection) -> Iterator[tuple[Path, Path]]:
    for word in words:
        if word != STANDARD_INPUT:
            yield from _named(word, recursive, chosen)
            continue
        for line in _listed():
            try:
                yield from _named(line, recursive, chosen)
            except DataError as error:  # one of thousands, gone since the list was made
                chosen.refused.append(str(error))


def _listed() -> list[str]:
    """The paths of the standard input."""
    if sys.stdin is None:
        raise DataError("-: expected a list of paths in the standard input, which is closed")
    content = sys.stdin.buffer.read()
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]


def _named(word: str, recursive: bool, chosen: Selection) -> list[tuple[Path, Path]]:
    """What one word names, each with its place in the folder that was named. Raises DataError where that is nothing."""
    if not word:
        raise DataError("expected an image, a folder or a pattern, got an empty text")
    word = word if os.path.lexists(word) else os.path.expanduser(word)
    path = Path(word)
    if path.is_dir():
        before, files = len(chosen.refused), _images(path, recursive, chosen)
        if not files and before == len(chosen.refused):
            below = f"; {chosen.left_out[BELOW]} {BELOW} are not looked into" if chosen.left_out[BELOW] else ""
            known = ", ".join(sorted(IMAGES))
            raise DataError(f"{path}: no images in this folder{below}; expected files called {known}")
        return [(file, file.relative_to(path)) for file in files]
    found = [path] if os.path.lexists(path) else sorted(map(Path, glob.glob(word, recursive=True)))
    files = [file for file in found if not file.is_dir()]
    if found and not files:
        raise DataError(f"{word}: only folders are called so; name one of them, or {word.rstrip('/')}/*")
    if not files:
        raise DataError(f"{word}: no such image, folder or files")
    return [(file, Path(file.name)) for file in files]


def _images(folder: Path, recursive: bool, chosen: Selection) -> list[Path]:
    """The images of a folder, those too that cannot be read, so that reading says why; the rest is counted."""
    if recursive:
        files = visible(folder, chosen.refused)
    else:
        entries = sorted(path for path in folder.iterdir() if not hidden(path.name))
        files = [path for path in entries if not path.is_dir()]
        chosen.left_out[BELOW] += len(entries) - len(files)
    chosen.left_out[HIDDEN] += _hidden(folder, recursive)
    images = [path for path in files if is_image_file(path)]
    others = Counter(path.suffix.lower() for path in set(files).difference(images) if not is_result(path))
    for suffix, count in others.most_common():
        chosen.left_out[f"{suffix} files" if suffix else "files without a suffix"] += count
    return images


def _hidden(folder: Path, recursive: bool) -> int:
    count = 0
    for _, folders, names in os.walk(folder):
        count += sum(map(hidden, [*folders, *names]))
        folders[:] = [name for name in folders if recursive and not hidden(name)]
    return count


def _unreadable(path: Path) -> str:
    """Why a path cannot be an image file, or nothing."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"a broken link, to {os.readlink(path)}" if path.is_symlink() else "image not found"
    except OSError as error:
        return error.strerror or str(error)
    return next((f"expected an image file, got {kind}" for is_kind, kind in KINDS if is_kind(mode)), "")
