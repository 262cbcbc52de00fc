"""Writing a packed split, sample by sample; pipeline.data.packed.split tells what the file holds."""

import json
import os
import shutil
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np

from pipeline.data.packed.split import CHECKSUM, METADATA, checksum

HEADER = 4096  # bytes of JSON, padded with blanks; written last, when the number of samples is known
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
    entries = {METADATA: {CHECKSUM: checksum(entries, crc)}} | entries
    return HEADER.to_bytes(8, "little") + json.dumps(entries).encode().ljust(HEADER)
