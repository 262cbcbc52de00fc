"""A researcher's own images and their annotations, from a folder of any shape to one folder a split.

Either in folders train, val and test, or all in one folder and those in it, of which a seeded share is set apart for
each of the last two.
"""

import logging
import shutil
from pathlib import Path

import numpy as np

from pipeline.data.reading.files import annotation_files, is_image_file, read_json, visible
from pipeline.data.reading.pairing import Images, image_path
from pipeline.errors import DataError

logger = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
SET_APART = 0.15  # share of the images for val, and for test
UNUSED = "images without an annotation, or what lies outside train, val and test"


def bring(folder: Path, root: Path, seed: int, needed: bool) -> None:
    """Copy images and annotations from `folder` to `root`/SPLIT; `root` exists and is empty.

    A folder without annotations leaves `root` empty, or raises DataError where the data are `needed`, as it does where
    there are too few to split. What is passed over is told.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder (params.yaml: own.folder)")
    refused: list[str] = []
    files = visible(folder, refused)
    annotations = annotation_files(files)
    parts = {split: [path for path in annotations if _part(path, folder) == split] for split in SPLITS}
    apart = any(parts.values())
    if not apart:
        parts = _split(folder, annotations, seed)
    if needed and not (parts["train"] and parts["val"]):
        raise DataError(
            f"{folder}: expected NAME.json of LabelMe beside each image, for training and validation, found "
            f"{len(parts['train'])} and {len(parts['val'])} (params.yaml: own.folder, named in train.datasets)"
        )
    images = Images()
    copies = [  # where from, where to
        (source, root.joinpath(split, *path.relative_to(folder).parts[apart:]).with_name(source.name))
        for split, some in parts.items() for path in some for source in (path, *_images(path, folder, images))
    ]  # fmt: skip
    _copy(copies)
    used = {source for source, _ in copies}
    unused = [path for path in files if path not in used and (path.suffix.lower() == ".json" or is_image_file(path))]
    for line in refused + ([f"{len(unused)} files are not used, such as {unused[0]}: {UNUSED}"] if unused else []):
        logger.info("%s: %s", folder, line)


def _part(path: Path, folder: Path) -> str:
    """The name of the folder directly in `folder` that a file lies in, in small letters."""
    return path.relative_to(folder).parts[0].lower()


def _images(annotation: Path, folder: Path, images: Images) -> list[Path]:
    """The images called like an annotation; where there is none, the one that it names, anywhere in `folder`."""
    if found := images.candidates(annotation):
        return found
    try:
        named = image_path(read_json(annotation))
    except DataError:  # which the stage after this one tells
        return []
    for place in (named, named.name):
        image = (annotation.parent / place).resolve()
        if image.is_relative_to(folder.resolve()) and image.is_file() and is_image_file(image):
            return [image]
    return []


def _copy(copies: list[tuple[Path, Path]]) -> None:
    """Copy files; `copies`: where from, where to. Raises DataError, which names all that cannot be."""
    faults: list[str] = []
    sources: dict[Path, Path] = {}
    for source, target in copies:
        if sources.setdefault(target, source) != source:
            faults.append(f"{source}: {sources[target]} would become the same file; rename one")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            gone = source.is_symlink() and not source.exists()
            faults.append(f"{source}: {f'a link to {source.readlink()}, which is not there' if gone else error}")
    if faults:
        raise DataError("\n".join(["own images or annotations that cannot be taken; bring or remove them:", *faults]))


def _split(folder: Path, annotations: list[Path], seed: int) -> dict[str, list[Path]]:
    if 0 < len(annotations) < len(SPLITS):
        raise DataError(f"{folder}: expected three annotated images or more, to train, validate and test; got fewer")
    order = np.random.default_rng(seed).permutation(len(annotations))
    apart = max(1, round(SET_APART * len(annotations))) if annotations else 0
    test, val, train = np.split(order, [apart, 2 * apart])
    return {split: [annotations[n] for n in sorted(part)] for split, part in zip(SPLITS, (train, val, test))}
