"""What the messages in the headers of HDF5 objects say, and the filters that pieces of an array go through."""

import struct
import zlib
from typing import NamedTuple

import numpy as np

DEFLATE, SHUFFLE, FLETCHER = 1, 2, 3  # filters
LARGEST_ITEM, HIGHEST_RANK, LONGEST = 2**16, 8, 2**32  # bytes of an item; dimensions of an array and their length


class Type(NamedTuple):
    """Of the items of an array: as NumPy reads them, and their kind: numbers, text, references, lists or compounds."""

    numpy: str
    kind: str


def attribute_parts(message: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Name, type, shape and data of an attribute, as they stand in the file."""
    version, flags, *sizes = struct.unpack_from("<BBHHH", message)
    if version not in (1, 2, 3) or version > 1 and flags:
        raise ValueError("an attribute is damaged or of another kind than MATLAB's")
    position, parts = 9 if version == 3 else 8, []
    for size in sizes:
        parts.append(message[position : position + size])
        position += size + (-size % 8 if version == 1 else 0)
    name, kind, shape = parts
    return name, kind, shape, message[position:]


def type_of(message: bytes) -> Type:
    """The type of the items of an array."""
    kind, flags, size = message[0] & 15, message[1], struct.unpack_from("<I", message, 4)[0]
    order = ">" if flags & 1 else "<"
    if kind == 0 and size in (1, 2, 4, 8):
        return Type(f"{order}{'i' if flags & 8 else 'u'}{size}", "numbers")
    if kind == 1 and size in (4, 8) and not flags & 0x40:  # of a VAX
        return Type(f"{order}f{size}", "numbers")
    if kind == 3 and 0 < size <= LARGEST_ITEM:
        return Type(f"S{size}", "text")
    if kind == 7 and not flags & 15 and size == 8:
        return Type("<u8", "references")
    if kind == 9 and size == 16:
        return Type("V16", "lists")
    if kind == 6 and 0 < size <= LARGEST_ITEM:
        return Type(f"V{size}", "compounds")
    raise ValueError(f"got items of class {kind} and {size} bytes, which MATLAB has not")


def shape_of(message: bytes) -> tuple[int, ...]:
    """The lengths of an array."""
    version, rank = message[0], message[1]
    shape = struct.unpack_from(f"<{rank}Q", message, 8 if version == 1 else 4)
    if rank > HIGHEST_RANK or any(length > LONGEST for length in shape):
        raise ValueError(f"got an array of shape {shape}")
    return shape


def filters_of(message: bytes | None) -> list[int]:
    """The numbers of the filters that pieces went through, in this order."""
    if message is None:
        return []
    version, count, found = message[0], message[1], []
    position = 8 if version == 1 else 2
    for _ in range(count):
        kind, length = struct.unpack_from("<HH", message, position)
        if version == 2 and kind < 256:  # these have no name, and no length of one
            position, length = position - 2, 0
        values = struct.unpack_from("<H", message, position + 6)[0]
        padding = -length % 8 + 4 * (values % 2) if version == 1 else 0
        position += 8 + length + 4 * values + padding
        found.append(kind)
    return found


def unfiltered(data: bytes, kind: int, size: int, width: int) -> bytes:
    """A piece of `size` bytes, of items of `width` bytes, before a filter was applied."""
    if kind == SHUFFLE:
        return np.frombuffer(data, "u1").reshape(width, -1).T.tobytes()
    if kind == FLETCHER:
        return _summed(data)
    if kind != DEFLATE:
        raise ValueError(f"its data went through filter {kind}, which MATLAB does not use")
    stream = zlib.decompressobj()
    data = stream.decompress(data, size + 1)
    if len(data) != size or not stream.eof:  # zlib compares the checksum where the data end
        raise ValueError("its compressed data end too early, or are longer than expected")
    return data


def linked(message: bytes) -> dict[str, int]:
    """Name and address of an object that a group holds; nothing for a link to elsewhere."""
    flags, position, kind = message[1], 2, 0
    if flags & 8:
        kind, position = message[position], position + 1
    position += 8 * (flags >> 2 & 1) + (flags >> 4 & 1)
    width = 1 << (flags & 3)
    start = position + width
    end = start + int.from_bytes(message[position:start], "little")
    return {} if kind else {message[start:end].decode(): struct.unpack_from("<Q", message, end)[0]}


def _summed(data: bytes) -> bytes:
    """Data without the Fletcher checksum behind them, which must agree."""
    data, kept = data[:-4], struct.unpack("<I", data[-4:])[0]
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype("u8")
    weights = np.arange(len(words), 0, -1, dtype="u8") % 65535
    if (kept & 0xFFFF) % 65535 != words.sum() % 65535 or (kept >> 16) % 65535 != (weights * words).sum() % 65535:
        raise ValueError("its data do not have the checksum that is kept with them")
    return data
