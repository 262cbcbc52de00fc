"""A packed split: one file, mapped into memory piece by piece, that many processes can read at random.

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
storing them so is exact, small and quick to read. Only the header is read
when a split is opened, and only the bytes of one sample are mapped when it is asked for: a split far larger than the
memory costs none. The header's metadata hold a CRC-32 of the tensors' bytes and of the header's other entries.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import torch

from pipeline.annotations import Annotation
from pipeline.data.packed.targets import clipped, mask, scaled
from pipeline.errors import DataError
from pipeline.geometry import Letterbox
from pipeline.params.choices import Task

SUFFIX = ".safetensors"
HEADER = 4096  # bytes of JSON, padded with blanks; written last, when the number of samples is known
METADATA, CHECKSUM = "__metadata__", "crc32"  # safetensors' name for what is no tensor; our entry there
TYPES: dict[str, np.dtype] = {
    kind: np.dtype(name) for kind, name in {"U8": "u1", "I32": "<i4", "F32": "<f4", "I64": "<i8"}.items()
}


@dataclass(frozen=True)
class Packed:
    """One sample as the file holds it: `image`, uint8 [S, S, 3]; `where`, `values`, `edges` of its target; `record`."""

    image: np.ndarray
    where: np.ndarray
    values: np.ndarray
    edges: np.ndarray
    record: bytes

    @classmethod
    def of(cls, image: np.ndarray, target: np.ndarray, record: dict) -> "Packed":
        """From an unscaled target, float32 [S, S] in 0..1, and a record that JSON can hold."""
        flat, top = target.ravel(), float(target.max())
        full = flat == top if top else np.zeros(flat.shape, bool)
        where = np.flatnonzero((flat != 0) & ~full).astype(TYPES["I32"])
        edges = np.flatnonzero(np.diff(full, prepend=False, append=False)).astype(TYPES["I32"])
        return cls(image, where, flat[where].astype(TYPES["F32"]), edges, json.dumps(record | {"top": top}).encode())


def write_packed(path: Path, samples: Iterable[Packed], size: int) -> int:
    """Write the samples in their order, one in memory at a time, and return their number.

    `path` appears only when it is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with ExitStack() as stack:
        file = stack.enter_context(temporary.open("wb"))
        parts = [stack.enter_context(TemporaryFile(dir=path.parent)) for _ in ("where", "values", "edges", "records")]
        bounds, summed = [(0, 0, 0)], _Summed(file)
        file.write(bytes(8 + HEADER))
        for sample in samples:
            summed.write(sample.image.tobytes())
            arrays = sample.where, sample.values, sample.edges
            for part, content in zip(parts, [*(array.tobytes() for array in arrays), sample.record]):
                part.write(content)
            lengths = len(sample.where), len(sample.edges), len(sample.record)
            bounds.append(tuple(np.add(bounds[-1], lengths).tolist()))
        padding = bytes(-file.tell() % 8)
        summed.write(padding + np.array(bounds, TYPES["I64"]).tobytes())
        for part in parts:
            part.seek(0)
            shutil.copyfileobj(part, summed)
        count, (marked, ends, length) = len(bounds) - 1, bounds[-1]
        file.seek(0)
        file.write(
            _header(
                summed.crc,
                images=("U8", [count, size, size, 3]),
                padding=("U8", [len(padding)]),
                bounds=("I64", [count + 1, 3]),
                where=("I32", [marked]),
                values=("F32", [marked]),
                edges=("I32", [ends]),
                records=("U8", [length]),
            )
        )
    os.replace(temporary, path)
    return count


class _Summed:
    """Writes to a file, and keeps the CRC-32 of what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.crc = file, 0

    def write(self, block: bytes) -> None:
        self.crc = zlib.crc32(block, self.crc)
        self.file.write(block)


def _header(crc: int, **tensors: tuple[str, list[int]]) -> bytes:
    """The head of a safetensors file: the length of its JSON, and the JSON of names, types, shapes and places, with the
    checksum that goes on from that of the tensors.
    """
    entries: dict[str, dict] = {}
    position = 0
    for name, (kind, shape) in tensors.items():
        end = position + TYPES[kind].itemsize * int(np.prod(shape, dtype=np.int64))
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [position, end]}
        position = end
    entries = {METADATA: {CHECKSUM: _crc_of_header(entries, crc)}} | entries
    return HEADER.to_bytes(8, "little") + json.dumps(entries).encode().ljust(HEADER)


def _crc_of_header(entries: dict, crc: int) -> str:
    return f"{zlib.crc32(json.dumps(entries).encode(), crc):08x}"


@dataclass(frozen=True)
class PackedSplit:
    """The samples of one file, which stays closed between two of them; with `chosen`, only those of these numbers."""

    path: Path
    task: Task
    chosen: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return self._tensors["images"][1][0] if self.chosen is None else len(self.chosen)

    @property
    def dataset(self) -> str:
        """The data set's name: the file lies in a folder of that name."""
        return self.path.parent.name

    @property
    def size(self) -> int:
        """Side S of the square images in pixels."""
        return self._tensors["images"][1][1]

    def require_whole(self) -> None:
        """Raise DataError unless the file holds what was written. Reads all of it, some gigabytes a second."""
        crc, (_, entries, known), (_, _, start) = 0, self._head, self._tensors["images"]
        with self.path.open("rb") as file:
            file.seek(start)
            while block := file.read(2**20):
                crc = zlib.crc32(block, crc)
        if _crc_of_header(entries, crc) != known:
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
        kind, (length, *rest), start = self._tensors[name]
        if not 0 <= first <= end <= length:
            raise IndexError(f"{self.path}: {name} holds {length} entries, asked for {first} to {end}")
        shape = (end - first, *rest)
        if first == end:
            return np.empty(shape, kind)
        entry = kind.itemsize * int(np.prod(rest, dtype=np.int64))
        return np.array(np.memmap(self.path, kind, "r", start + int(first) * entry, shape))

    @cached_property
    def _head(self) -> tuple[int, dict[str, dict], str]:
        """The first byte of the tensors, their entries in the header, and the checksum there."""
        try:
            with self.path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                entries = json.loads(file.read(min(length, HEADER)))
            return 8 + length, entries, entries.pop(METADATA)[CHECKSUM]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._foreign(error) from None

    @cached_property
    def _tensors(self) -> dict[str, tuple[np.dtype, list[int], int]]:
        """Type, shape and first byte of each tensor."""
        start, entries, _ = self._head
        try:
            tensors = {
                name: (TYPES[entries[name]["dtype"]], entries[name]["shape"], start + entries[name]["data_offsets"][0])
                for name in ("images", "padding", "bounds", "where", "values", "edges", "records")
            }
            end = start + entries["records"]["data_offsets"][1]
        except (KeyError, TypeError, IndexError) as error:
            raise self._foreign(error) from None
        if self.path.stat().st_size != end:
            raise DataError(f"{self.path}: expected {end} bytes, got {self.path.stat().st_size}; run `dvc repro` again")
        return tensors

    def _foreign(self, error: Exception) -> DataError:
        return DataError(f"{self.path}: not a packed split; `dvc repro preprocess` makes it: {error!r}")


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
