"""A researcher's own images: NAME.jpg (or another format) with LabelMe's NAME.json beside it.

Either in folders train, val and test, or all in one folder and those in it, of which a seeded share is set apart for
each of the last two.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from pipeline.annotations import Annotation, Sample
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.data.reading.files import Beside, is_picture, read_json, visible
from pipeline.data.reading.findings import Finding, sound
from pipeline.errors import DataError

logger = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
SET_APART = 0.15  # share of the images for val, and for test
LEFT_OUT = "shapes that are no symmetry marks left out"
UNUSED = "images without an annotation, or what lies outside train, val and test"


def samples(root: Path, split: str, labels: Collection[str], findings: list[Finding]) -> list[Sample]:
    """The images of `split`; none where `bring` found none. `labels`: those of symmetry marks, all where there is none.

    Malformed annotations become faults in `findings`. Raises DataError where nothing in a split for training is a
    symmetry mark.
    """
    folder, beside = root / split, Beside()
    strange: Counter[str] = Counter()

    def sample(path: Path) -> Sample:
        drawing = labelme.read_drawing(path, labels)
        image = beside.choose(path, drawing.image, findings)
        if drawing.left_out:
            strange.update(drawing.left_out)
            findings.append(Finding("repair", LEFT_OUT, f"{path}: {_listed(Counter(drawing.left_out))}", str(image)))
        name = "--".join(path.relative_to(folder).with_suffix("").parts)  # a gallery has no folders
        return Sample(name, image, drawing.annotation, drawing.size)

    found = sound(_annotations(visible(folder, [])), sample, findings)
    if split == "train" and found and strange and all(sample.annotation == Annotation() for sample in found):
        raise DataError(
            f"{folder}: no shape is a symmetry mark by its kind and its label: {_listed(strange)}; "
            f"params.yaml, own.labels: {', '.join(labels)}"
        )
    return found


def bring(folder: Path, root: Path, seed: int, needed: bool) -> None:
    """Copy images and annotations from `folder` to `root`/SPLIT; `root` exists and is empty.

    A folder without annotations leaves `root` empty, or raises DataError where the data are `needed`, as it does where
    there are too few to split. What is passed over is told.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder (params.yaml: own.folder)")
    refused: list[str] = []
    files = visible(folder, refused)
    annotations = _annotations(files)
    parts = {split: [path for path in annotations if _part(path, folder) == split] for split in SPLITS}
    apart = any(parts.values())
    if not apart:
        parts = _split(folder, annotations, seed)
    if needed and not (parts["train"] and parts["val"]):
        raise DataError(
            f"{folder}: expected NAME.json of LabelMe beside each image, for training and validation, found "
            f"{len(parts['train'])} and {len(parts['val'])} (params.yaml: own.folder, named in train.datasets)"
        )
    beside = Beside()
    copies = [  # where from, where to
        (source, root.joinpath(split, *path.relative_to(folder).parts[apart:]).with_name(source.name))
        for split, some in parts.items() for path in some for source in (path, *_images(path, folder, beside))
    ]  # fmt: skip
    _copy(copies)
    used = {source for source, _ in copies}
    unused = [path for path in files if path not in used and (path.suffix.lower() == ".json" or is_picture(path))]
    for line in refused + ([f"{len(unused)} files are not used, such as {unused[0]}: {UNUSED}"] if unused else []):
        logger.info("%s: %s", folder, line)


def _part(path: Path, folder: Path) -> str:
    """The name of the folder directly in `folder` that a file lies in, in small letters."""
    return path.relative_to(folder).parts[0].lower()


def _images(annotation: Path, folder: Path, beside: Beside) -> list[Path]:
    """The images called like an annotation; where there is none, the one that it names, anywhere in `folder`."""
    images = beside.candidates(annotation)
    if images:
        return images
    try:
        named = labelme.image_path(read_json(annotation))
    except DataError:  # which the stage after this one tells
        return []
    for place in (named, named.name):
        image = (annotation.parent / place).resolve()
        if image.is_relative_to(folder.resolve()) and image.is_file() and is_picture(image):
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


def _listed(shapes: Counter) -> str:
    """Shapes in words, the most frequent first."""
    return ", ".join(f"{shape} x {count}" for shape, count in shapes.most_common())


def _annotations(files: Iterable[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() == ".json"]


def _split(folder: Path, annotations: list[Path], seed: int) -> dict[str, list[Path]]:
    if 0 < len(annotations) < len(SPLITS):
        raise DataError(f"{folder}: expected three annotated images or more, to train, validate and test; got fewer")
    order = np.random.default_rng(seed).permutation(len(annotations))
    apart = max(1, round(SET_APART * len(annotations))) if annotations else 0
    test, val, train = np.split(order, [apart, 2 * apart])
    return {split: [annotations[n] for n in sorted(part)] for split, part in zip(SPLITS, (train, val, test))}
