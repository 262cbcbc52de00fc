"""Files of annotations, read with limits: they come from strangers.

Coordinates are pixels of the native image, x right, y down.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pipeline.annotations import Annotation, Sample
from pipeline.datasets.findings import Finding, sound
from pipeline.errors import DataError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}
LARGEST_FILE = 64 * 2**20  # bytes; the largest annotation file known holds a few megabytes
FARTHEST = 1e6  # pixels from the image's corner


def read_bytes(path: Path) -> bytes:
    """The content of an annotation file. Raises DataError when it is missing, no plain file, or too large."""
    if not path.is_file():
        raise DataError(f"{path}: file not found")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(f"{path}: expected an annotation file of at most {LARGEST_FILE} bytes, got {size}")
    return path.read_bytes()


def read_json(path: Path) -> object:
    """The content of a JSON file as plain Python values. Raises DataError, which names the file."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:  # ValueError: of json, of a wrong encoding, of endless digits
        raise DataError(f"{path}: expected JSON, got {error}") from None


def point(value: object) -> tuple[float, float]:
    """A pair of finite coordinates. Raises ValueError, or TypeError where there are no two numbers at all."""
    x, y = value
    return coordinate(x), coordinate(y)


def coordinate(value: object) -> float:
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


def locate(folder: Path, name: object, findings: list[Finding]) -> Path:
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


def annotated(folder: Path, pattern: str, read: Callable[[Path], Annotation], findings: list[Finding]) -> list[Sample]:
    """A sample for every annotation file of `folder`, with the image of the same name beside it.

    What cannot be read, or has no image, becomes a fault in `findings`. Raises DataError where there is nothing at all.
    """
    annotations = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if not annotations:
        raise DataError(f"{folder}: expected annotations {pattern} with images of the same name, found none")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix != ".jpg", path.name)):
        if path.suffix.lower() in IMAGES and images.setdefault(path.stem, path) != path:
            kept = f"{path}: not used, because {images[path.stem].name} has the same name"
            findings.append(Finding("note", "two images of one name", kept, str(images[path.stem])))

    def sample(path: Path) -> Sample:
        if path.stem not in images:
            raise DataError(f"{path}: there is no image of that name beside it")
        return Sample(path.stem, images[path.stem], read(path))

    return sound(annotations, sample, findings)
