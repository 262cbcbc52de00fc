"""Files of a folder, and what annotation files hold, read with limits: they come from strangers.

Coordinates are pixels of the native image, x right, y down.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.data.reading.images import RAW, starts_as_image
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


def annotation_files(files: Iterable[Path]) -> list[Path]:
    """Those of LabelMe, by their name."""
    return [path for path in files if path.suffix.lower() == ".json"]


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is nobody's data."""
    return name.startswith(".") or name in SYSTEM


def image_files(folder: Path, refused: list[str]) -> list[Path]:
    """The images among the `visible` files, those too that cannot be read, so that reading says why."""
    return [path for path in visible(folder, refused) if is_image_file(path)]


def is_image_file(path: Path) -> bool:
    """Whether a file is called like an image, or is one by its content."""
    suffix = path.suffix.lower()
    return suffix in IMAGES | UNREAD or (suffix not in (".json", ".mat") and path.is_file() and starts_as_image(path))


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
