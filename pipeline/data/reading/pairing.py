"""The image that belongs to an annotation, by their names: what people call their files is not to be relied on."""

import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.annotations import Annotation, Sample
from pipeline.data.reading.files import IMAGES, hidden, is_image_file
from pipeline.data.reading.findings import Finding, sound
from pipeline.errors import DataError


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


class Images:
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
                if not hidden(path.name) and not path.is_dir() and is_image_file(path):
                    stems.setdefault(composed(path.stem), []).append(path)
            self._folders[folder] = stems
        return self._folders[folder]


def composed(name: str) -> str:
    """A file's name with its accents in one piece, for comparing."""
    return unicodedata.normalize("NFC", name)


def image_path(content: object) -> PurePosixPath:
    """Where LabelMe's JSON says that its image lies, seen from itself, with slashes; empty where it does not say."""
    named = content.get("imagePath") if isinstance(content, dict) else None
    return PurePosixPath(named.replace("\\", "/") if isinstance(named, str) and "\0" not in named else "")


def annotated_images(
    folder: Path, pattern: str, read: Callable[[Path], Annotation], findings: list[Finding]
) -> list[Sample]:
    """A sample for every annotation file of `folder`, with the image of the same name beside it.

    What cannot be read, or has no image, becomes a fault in `findings`. Raises DataError where there is nothing at all.
    """
    annotations = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if not annotations:
        raise DataError(f"{folder}: expected annotations {pattern} with images of the same name, found none")
    images = Images()
    return sound(annotations, lambda path: Sample(path.stem, images.choose(path, "", findings), read(path)), findings)
