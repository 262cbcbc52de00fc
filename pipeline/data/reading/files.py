"""Files of annotations, read with limits: they come from strangers.

Coordinates are pixels of the native image, x right, y down.
"""

import json
import math
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.annotations import Annotation, Sample
from pipeline.data.reading.findings import Finding, sound
from pipeline.data.reading.images import RAW, is_image
from pipeline.errors import DataError

# What images are called. A file of another name is one by its content; what is called so and is none is told.
IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm"}
UNREAD = RAW | {
    ".heic", ".heics", ".heif", ".heifs", ".hif", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jxl", ".jxr", ".wdp",
    ".psd", ".psb", ".xcf", ".eps", ".svg", ".exr", ".pam", ".pcx", ".qoi", ".tga",
}  # fmt: skip
SYSTEM = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}  # folders that systems leave behind
LARGEST_FILE = 64 * 2**20  # bytes; the largest annotation file known holds a few megabytes
FARTHEST = 1e6  # pixels from the image's corner


def visible(folder: Path, refused: list[str]) -> list[Path]:
    """All files in a folder and below, sorted, without hidden ones and those of hidden or system folders.

    Broken links are among them. What cannot be looked into goes to `refused`, with the reason.
    """
    found: list[Path] = []
    unlisted: list[OSError] = []
    for inner, folders, names in os.walk(folder, onerror=unlisted.append):
        folders[:] = [name for name in folders if not hidden(name)]
        links = [Path(inner, name) for name in sorted(folders) if Path(inner, name).is_symlink()]
        refused += [f"{link}: links to folders are not followed; name it by itself" for link in links]
        found += [Path(inner, name) for name in names if not hidden(name)]
    refused += [f"{error.filename}: {error.strerror}" for error in unlisted]
    return sorted(found)


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is nobody's data."""
    return name.startswith(".") or name in SYSTEM


def pictures(folder: Path, refused: list[str]) -> list[Path]:
    """The images among the `visible` files, those too that cannot be read, so that reading says why."""
    return [path for path in visible(folder, refused) if is_picture(path)]


def is_picture(path: Path) -> bool:
    """Whether a file is called like an image, or is one by its content."""
    suffix = path.suffix.lower()
    return suffix in IMAGES | UNREAD or (suffix not in (".json", ".mat") and path.is_file() and is_image(path))


def read_bytes(path: Path) -> bytes:
    """The content of an annotation file. Raises DataError when it is missing, no plain file, or too large."""
    if not path.is_file():
        raise DataError(f"{path}: file not found")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(f"{path}: expected an annotation file of at most {LARGEST_FILE} bytes, got {size}")
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """The content of a JSON file as plain Python values. Raises DataError, which names the file."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:  # ValueError: of json, of a wrong encoding, of endless digits
        raise DataError(f"{path}: expected JSON, got {error}") from None


def point(value: Any) -> tuple[float, float]:
    """A pair of finite coordinates. Raises ValueError, or TypeError where there are no two numbers at all."""
    x, y = value
    return coordinate(x), coordinate(y)


def coordinate(value: Any) -> float:
    """One finite coordinate. Raises ValueError or TypeError."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= FARTHEST:  # so that NaN does not pass
        raise ValueError(f"expected a coordinate within {FARTHEST:.0f} pixels, got {number}")
    return number


def inside(root: Path, name: object) -> Path:
    """`root / name`. Raises ValueError where `name` is no text or would lead out of `root`."""
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"expected a relative path, got {name!r}")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"expected a path inside {root}, got {name!r}")
    return root / name


def locate(folder: Path, name: Any, findings: list[Finding]) -> Path:
    """The image in `folder` that an annotation calls `name`; by its stem where that file is missing.

    Blanks around a name and wrong extensions occur in SDRW; what was mended goes into `findings`, once. Raises
    ValueError where there is no such image or several.
    """
    image, what = inside(folder, name), ""
    if not image.is_file():
        image, what = inside(folder, name.strip()), "blanks around a name"
    if not image.is_file():
        stem = Path(name.strip()).stem.strip()
        twins = [f for f in folder.glob("*") if f.suffix.strip().lower() in IMAGES and f.stem.strip() == stem]
        if len(twins) != 1:
            raise ValueError(f"{name!r}: {folder} holds {len(twins)} images of that name (expected 1)")
        image, what = twins[0], "wrong extension in an annotation"
    mended = Finding("repair", what, f"{image}: called {name!r}", str(image))
    if what and mended not in findings:
        findings.append(mended)
    return image


class Beside:
    """The images in the folders of annotations, each folder looked at once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def candidates(self, annotation: Path) -> list[Path]:
        """The images called like an annotation, the likeliest first.

        However accents are written (a Mac decomposes them); in other capitals only where none has the same.
        """
        stems, stem = self._stems(annotation.parent), composed(annotation.stem)
        return stems.get(stem) or [i for name in stems if name.casefold() == stem.casefold() for i in stems[name]]

    def choose(self, annotation: Path, named: str, findings: list[Finding]) -> Path:
        """The image of an annotation; `named`: what it calls the image, empty where it does not.

        The one called so, where several are called like the annotation or none is. Raises DataError where there is no
        such image.
        """
        images = self.candidates(annotation)
        others = images or [image for some in self._stems(annotation.parent).values() for image in some]
        called = [image for image in others if composed(image.name) == composed(named)]
        if not images + called:
            also = f", nor {named}, which it names" if named else ""
            raise DataError(f"{annotation}: there is no image of that name beside it{also}")
        image = (called or images)[0]
        for other in images:
            if other != image:
                text = f"{other}: not used, because {image.name} has the same name"
                findings.append(Finding("note", "two images of one name", text, str(image)))
        return image

    def _stems(self, folder: Path) -> dict[str, list[Path]]:
        """The images of a folder by their name without suffix; .jpg first."""
        if folder not in self._folders:
            stems: dict[str, list[Path]] = {}
            for path in sorted(folder.iterdir(), key=lambda path: (path.suffix != ".jpg", path.name)):
                if not hidden(path.name) and not path.is_dir() and is_picture(path):
                    stems.setdefault(composed(path.stem), []).append(path)
            self._folders[folder] = stems
        return self._folders[folder]


def composed(name: str) -> str:
    """A file's name with its accents in one piece, for comparing."""
    return unicodedata.normalize("NFC", name)


def annotated(folder: Path, pattern: str, read: Callable[[Path], Annotation], findings: list[Finding]) -> list[Sample]:
    """A sample for every annotation file of `folder`, with the image of the same name beside it.

    What cannot be read, or has no image, becomes a fault in `findings`. Raises DataError where there is nothing at all.
    """
    annotations = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if not annotations:
        raise DataError(f"{folder}: expected annotations {pattern} with images of the same name, found none")
    beside = Beside()
    return sound(annotations, lambda path: Sample(path.stem, beside.choose(path, "", findings), read(path)), findings)
