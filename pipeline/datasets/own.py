"""A researcher's own images: NAME.jpg (or another format) with LabelMe's NAME.json beside it.

Either in folders train, val and test, or all in one folder, of which a seeded share is set apart for each of the last
two.
"""

import glob
import shutil
from pathlib import Path

import numpy as np

from pipeline.annotations import Sample
from pipeline.datasets import labelme
from pipeline.datasets.files import IMAGES, annotated
from pipeline.datasets.findings import Finding
from pipeline.errors import DataError

SPLITS = ("train", "val", "test")
SET_APART = 0.15  # share of the images for val, and for test


def samples(root: Path, split: str, findings: list[Finding]) -> list[Sample]:
    """The images of `split`; none where `bring` found none. Malformed annotations become faults in `findings`."""
    return annotated(root / split, "*.json", labelme.read_annotation, findings) if (root / split).is_dir() else []


def bring(folder: Path, root: Path, seed: int, needed: bool) -> None:
    """Copy images and annotations from `folder` to `root`/SPLIT; `root` exists and is empty.

    A folder without annotations leaves `root` empty, or raises DataError where the data are `needed`, as it does where
    there are too few to split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder (params.yaml: own.folder)")
    parts = {split: sorted((folder / split).glob("*.json")) for split in SPLITS}
    if not any(parts.values()):
        parts = _split(folder, sorted(folder.glob("*.json")), seed)
    if needed and not (parts["train"] and parts["val"]):
        raise DataError(
            f"{folder}: expected NAME.json of LabelMe beside each image, for training and validation, found "
            f"{len(parts['train'])} and {len(parts['val'])} (params.yaml: own.folder, named in train.datasets)"
        )
    for split, annotations in parts.items():
        for path in annotations:
            (root / split).mkdir(exist_ok=True)
            shutil.copyfile(path, root / split / path.name)
            for image in path.parent.glob(f"{glob.escape(path.stem)}.*"):
                if image.suffix.lower() in IMAGES:
                    shutil.copyfile(image, root / split / image.name)


def _split(folder: Path, annotations: list[Path], seed: int) -> dict[str, list[Path]]:
    if 0 < len(annotations) < len(SPLITS):
        raise DataError(f"{folder}: expected three annotated images or more, to train, validate and test; got fewer")
    order = np.random.default_rng(seed).permutation(len(annotations))
    apart = max(1, round(SET_APART * len(annotations))) if annotations else 0
    test, val, train = np.split(order, [apart, 2 * apart])
    return {split: [annotations[n] for n in sorted(part)] for split, part in zip(SPLITS, (train, val, test))}
