"""A packed split: one file, that many processes can read at random; pipeline.data.preparation.packing writes it.

The file is of the safetensors format, so that other programs can open it. Its tensors, in this order:

    images   uint8 [N, S, S, 3]   letterboxed, not normalised
    padding  uint8 [0 to 7]       so that what follows begins at a multiple of 8
    bounds   int64 [N + 1, 3]     sample i owns entries bounds[i, k] to bounds[i + 1, k] of `where` and `values`
                                  (k = 0), of `edges` (k = 1) and of `records` (k = 2)
    where    int32 [W]            the unscaled target's pixels that are neither 0 nor its maximum, as row * S + column
    values   float32 [W]          what it holds there, in 0..1
    edges    int32 [E]            runs of pixels at its maximum: first, one past the last, first, ...
    records  uint8 [R]            JSON: name, file, height, width, annotation, and the maximum as `top`

Targets are scaled when they are read, since augmentation may turn them before. They are nearly empty or flat, so that
storing them so is exact, small and quick to read. A file is opened anew for each piece that is asked for: what is
mapped counts as memory of the process for as long as it is open, and a split may be far larger than the memory. The
header's metadata hold a CRC-32 of the tensors' bytes and of the header's other entries.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from pipeline.annotations import Annotation
from pipeline.data.packed.targets import clipped, mask, scaled
from pipeline.errors import DataError
from pipeline.geometry import Letterbox
from pipeline.params.choices import Task

SUFFIX = ".safetensors"
METADATA, CHECKSUM = "__metadata__", "crc32"  # safetensors' name for what is no tensor; our entry there
TENSORS = ("images", "padding", "bounds", "where", "values", "edges", "records")


def checksum(entries: dict, crc: int) -> str:
    """Of a file: the CRC-32 of the header's entries without the metadata, going on from `crc`, that of the tensors."""
    return f"{zlib.crc32(json.dumps(entries).encode(), crc):08x}"


@dataclass(frozen=True)
class PackedSplit:
    """The samples of one file, which stays closed between two of them; with `chosen`, only those of these numbers."""

    path: Path
    task: Task
    chosen: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return self._head[0]["images"][0] if self.chosen is None else len(self.chosen)

    @property
    def dataset(self) -> str:
        """The data set's name: the file lies in a folder of that name."""
        return self.path.parent.name

    @property
    def size(self) -> int:
        """Side S of the square images in pixels."""
        return self._head[0]["images"][1]

    def require_whole(self) -> None:
        """Raise DataError unless the file holds what was written. Reads all of it, some gigabytes a second."""
        _, known = self._head
        with self.path.open("rb") as file:
            entries, crc = json.loads(file.read(int.from_bytes(file.read(8), "little"))), 0
            while block := file.read(2**20):
                crc = zlib.crc32(block, crc)
        entries.pop(METADATA)
        if checksum(entries, crc) != known:
            raise DataError(
                f"{self.path}: damaged: its bytes are not those that were written. To have it made anew, see `Damaged "
                "files` in docs/data.md"
            )

    def excerpt(self, numbers: Iterable[int]) -> "PackedSplit":
        """The split of only these samples."""
        return replace(self, chosen=tuple(self._stored(number) for number in numbers))

    def name(self, number: int) -> str:
        """Name of a sample, unique within the split."""
        return self.record(number)["name"]

    def image(self, number: int) -> np.ndarray:
        """uint8 RGB [S, S, 3]."""
        number = self._stored(number)
        return self._read("images", number, number + 1)[0]

    def target(self, number: int) -> np.ndarray:
        """float32 [S, S] in 0..1, scaled by its maximum."""
        return scaled(self.unscaled_target(number))

    def unscaled_target(self, number: int) -> np.ndarray:
        """float32 [S, S] in 0..1, as pipeline.data.packed.targets made it."""
        top, number = self.record(number)["top"], self._stored(number)
        (first, run, _), (end, last, _) = self._read("bounds", number, number + 2)
        target = np.zeros(self.size**2, np.float32)
        target[self._read("where", first, end)] = self._read("values", first, end)
        for start, stop in self._read("edges", run, last).reshape(-1, 2):
            target[start:stop] = top
        return target.reshape(self.size, self.size)

    def record(self, number: int) -> dict:
        """What is known of a sample: name, file, height, width, annotation as a dict, top."""
        number = self._stored(number)
        first, end = self._read("bounds", number, number + 2)[:, 2]
        return json.loads(self._read("records", first, end).tobytes())

    def annotation(self, number: int) -> Annotation:
        """The marks, in pixels of the native image."""
        return Annotation.from_dict(self.record(number)["annotation"])

    def letterbox(self, number: int) -> Letterbox:
        """How the native image lies in the square."""
        record = self.record(number)
        return Letterbox(record["height"], record["width"], self.size)

    def mask(self, number: int) -> np.ndarray:
        """bool [height, width] at native size: the ground truth of evaluation."""
        record = self.record(number)
        return mask(Annotation.from_dict(record["annotation"]), self.task, record["height"], record["width"])

    def native_image(self, number: int) -> np.ndarray:
        """uint8 RGB [height, width, 3]: the letterboxed image brought back to native size, to be looked at."""
        channels = torch.from_numpy(self.image(number)).permute(2, 0, 1).float()
        native = torch.stack([self.letterbox(number).native(channel) for channel in channels])
        return native.round().byte().permute(1, 2, 0).numpy()

    def _stored(self, number: int) -> int:
        """The number of a sample within the file."""
        return number if self.chosen is None else self.chosen[number]

    def _read(self, name: str, first: int, end: int) -> np.ndarray:
        """A copy of entries `first` to `end` of a tensor. IndexError where there are none of these numbers."""
        length, *rest = self._head[0][name]
        if not 0 <= first <= end <= length:
            raise IndexError(f"{self.path}: {name} holds {length} entries, asked for {first} to {end}")
        if first == end:  # which safetensors refuses
            return np.empty((0, *rest), np.int32)
        with safe_open(self.path, "np") as file:
            return file.get_slice(name)[int(first) : int(end)]

    @cached_property
    def _head(self) -> tuple[dict[str, list[int]], str]:
        """The shape of each tensor, and the checksum."""
        try:
            with safe_open(self.path, "np") as file:
                return {name: file.get_slice(name).get_shape() for name in TENSORS}, file.metadata()[CHECKSUM]
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: not a packed split; `dvc repro preprocess` makes it: {error!r}") from None


class TargetSplit(PackedSplit):
    """The same samples as if their native size were the input size, with the training target as the truth.

    For asking whether a model fits what it is shown: at a larger native size even the perfect target falls short.
    """

    def letterbox(self, number: int) -> Letterbox:
        """The whole square."""
        return Letterbox(self.size, self.size, self.size)

    def mask(self, number: int) -> np.ndarray:
        """bool [S, S]: where the target, clipped, is at least one half, so that a crossing does not hide its axes."""
        return scaled(clipped(self.unscaled_target(number), self.task)) >= 0.5


def packed_splits(folder: Path, datasets: Sequence[str], split: str, task: Task) -> list[PackedSplit]:
    """The packed `split` of each of these data sets that has one and holds images in it. Raises DataError where a file
    is damaged.
    """
    paths = [folder / dataset / f"{split}{SUFFIX}" for dataset in datasets]
    splits = [PackedSplit(path, task) for path in paths if path.is_file()]
    for packed in splits:
        packed.require_whole()
    return [packed for packed in splits if len(packed)]


def evaluation_images(split: PackedSplit, numbers: Sequence[int]) -> torch.Tensor:
    """float32 [B, 3, S, S] in 0..1 of the samples with these numbers."""
    return torch.stack([float_image(split.image(number)) for number in numbers])


def float_image(image: np.ndarray) -> torch.Tensor:
    """uint8 [S, S, 3] -> float32 [3, S, S] in 0..1."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
