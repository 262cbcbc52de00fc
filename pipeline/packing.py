"""Samples -> one folder of flat arrays a split, opened as memory maps.

    images.npy   uint8 [N, S, S, 3]   letterboxed, not normalised
    where.npy    int32 [K]            the non-zero pixels of all targets, one after another, as row * S + column
    values.npy   float32 [K]          what the target holds there, in 0..1
    starts.npy   int64 [N + 1]        sample i owns entries starts[i] to starts[i + 1]
    samples.json                      per sample its name, native size and marks

Targets are nearly empty, so that storing their non-zero pixels is exact, small and quick to read at random.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from pipeline.annotations import Annotation, Sample
from pipeline.errors import DataError
from pipeline.geometry import Letterbox
from pipeline.targets import mask, native_target, normalised


def pack(samples: Sequence[Sample], task: str, size: int, folder: Path, description: str) -> None:
    """Write the arrays of `samples` for `task` at `size` x `size` pixels into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(samples), size, size, 3))
    where, values, starts, records = [], [], [0], []
    for number, sample in enumerate(tqdm(samples, desc=description, unit="image")):
        image = read_image(sample.image)
        height, width = image.shape[:2]
        letterbox = Letterbox(height, width, size)
        images[number] = letterbox.image(image)
        marked = mask(sample.annotation, task, height, width)
        target = normalised(letterbox.target(native_target(marked, task))).ravel()
        where.append(np.flatnonzero(target).astype(np.int32))
        values.append(target[where[-1]])
        starts.append(starts[-1] + len(where[-1]))
        records.append(
            {"name": sample.name, "height": height, "width": width, "annotation": sample.annotation.to_dict()}
        )
    images.flush()
    np.save(folder / "where.npy", np.concatenate([np.empty(0, np.int32), *where]))
    np.save(folder / "values.npy", np.concatenate([np.empty(0, np.float32), *values]))
    np.save(folder / "starts.npy", np.array(starts, np.int64))
    (folder / "samples.json").write_text(json.dumps(records))


def read_image(path: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3] of an image file; DataError names a file that is missing or cannot be decoded."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: image not found") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be decoded as an image: {error}") from None


@dataclass(frozen=True)
class PackedSplit:
    """The arrays of one split, opened without reading them."""

    folder: Path
    task: str

    def __len__(self) -> int:
        return len(self._records)

    @property
    def dataset(self) -> str:
        """The data set's name: the split's folder lies in one of that name."""
        return self.folder.parent.name

    @property
    def size(self) -> int:
        """Side S of the square images in pixels."""
        return self._images.shape[1]

    def name(self, number: int) -> str:
        """Name of a sample, unique within the split."""
        return self._records[number]["name"]

    def image(self, number: int) -> np.ndarray:
        """uint8 RGB [S, S, 3]."""
        return np.array(self._images[number])

    def target(self, number: int) -> np.ndarray:
        """float32 [S, S] in 0..1."""
        entries = slice(self._starts[number], self._starts[number + 1])
        target = np.zeros(self.size**2, np.float32)
        target[self._where[entries]] = self._values[entries]
        return target.reshape(self.size, self.size)

    def letterbox(self, number: int) -> Letterbox:
        """How the native image lies in the square."""
        record = self._records[number]
        return Letterbox(record["height"], record["width"], self.size)

    def mask(self, number: int) -> np.ndarray:
        """bool [height, width] at native size: the ground truth of evaluation."""
        record = self._records[number]
        return mask(Annotation.from_dict(record["annotation"]), self.task, record["height"], record["width"])

    def native_image(self, number: int) -> np.ndarray:
        """uint8 RGB [height, width, 3]: the letterboxed image brought back to native size, to be looked at."""
        channels = torch.from_numpy(self.image(number)).permute(2, 0, 1).float()
        native = torch.stack([self.letterbox(number).native(channel) for channel in channels])
        return native.round().byte().permute(1, 2, 0).numpy()

    @cached_property
    def _records(self) -> list[dict]:
        return json.loads((self.folder / "samples.json").read_text())

    @cached_property
    def _images(self) -> np.ndarray:
        return np.load(self.folder / "images.npy", mmap_mode="r")

    @cached_property
    def _where(self) -> np.ndarray:
        return np.load(self.folder / "where.npy", mmap_mode="r")

    @cached_property
    def _values(self) -> np.ndarray:
        return np.load(self.folder / "values.npy", mmap_mode="r")

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.load(self.folder / "starts.npy")


def packed_splits(folder: Path, datasets: Sequence[str], split: str, task: str) -> list[PackedSplit]:
    """The packed `split` of each of these data sets that has one and holds images in it."""
    folders = [folder / dataset / split for dataset in datasets]
    splits = [PackedSplit(place, task) for place in folders if place.is_dir()]
    return [packed for packed in splits if len(packed)]
