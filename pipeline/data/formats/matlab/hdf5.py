"""HDF5 files as MATLAB 7.3 writes them, read with every length checked: the library itself may crash on damaged ones.

What the format's specification (version 3.0) calls superblock 0 to 3, groups as B-trees or links in their header, data
contiguous, compact or in chunks under a B-tree, filters deflate, shuffle and Fletcher. All offsets have 8 bytes.
"""

import struct
from math import prod
from typing import NamedTuple

import numpy as np

from pipeline.data.formats.matlab.hdf5_messages import (
    Type,
    attribute_parts,
    filters_of,
    linked,
    shape_of,
    type_of,
    unfiltered,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1
SPACE, TYPE, LINK, LAYOUT, FILTERS, ATTRIBUTE, CONTINUED, TABLE, LINK_INFO = 1, 3, 6, 8, 11, 12, 16, 17, 2  # messages
SHARED = 2  # a message's flag: it stands elsewhere
LEAST = 2**10  # bytes that the smallest thing counts for, so that what refers to itself ends


class Array(NamedTuple):
    """`values` [...] in the order of the file, MATLAB's dimensions reversed; references are addresses of objects."""

    values: np.ndarray
    kind: str


class Hdf5:
    """A file, from its signature on, of which at most `most` bytes of values are read.

    All methods raise ValueError, IndexError, struct.error or zlib.error where the file is damaged or of a kind that is
    not read.
    """

    def __init__(self, content: bytes, most: int) -> None:
        self._content, self._left = content, most
        self._headers: dict[int, list[tuple[int, bytes]]] = {}
        version = content[8] if content.startswith(SIGNATURE) and len(content) > 8 else NOWHERE
        if version > 3 or content[13:15] != b"\x08\x08" and content[9:11] != b"\x08\x08":
            raise ValueError("its HDF5 header is damaged or of another kind")
        start = {0: 24 + 4 * 8 + 8, 1: 28 + 4 * 8 + 8}.get(version, 12 + 3 * 8)
        self.root = self._unpack("Q", start)[0]

    def members(self, address: int) -> dict[str, int]:
        """The addresses of the objects in a group, by name; links to elsewhere are left out."""
        found: dict[str, int] = {}
        for kind, message in self._messages(address):
            if kind == TABLE:
                tree, heap = struct.unpack_from("<2Q", message)
                found |= self._table(tree, heap)
            elif kind == LINK:
                self._spend()
                found |= linked(message)
            elif kind == LINK_INFO and struct.unpack_from("<Q", message, 2 + 8 * (message[1] & 1))[0] != NOWHERE:
                raise ValueError("it has groups of another kind than MATLAB's")
        return found

    def is_group(self, address: int) -> bool:
        return any(kind in (TABLE, LINK, LINK_INFO) for kind, _ in self._messages(address))

    def attributes(self, address: int) -> dict[str, bytes]:
        """The attributes of an object as they stand in the file."""
        messages = (message for kind, message in self._messages(address) if kind == ATTRIBUTE)
        return {attribute_parts(message)[0].rstrip(b"\0").decode(): message for message in messages}

    def attribute(self, message: bytes) -> Array:
        """The value of an attribute."""
        _, of, space, data = attribute_parts(message)
        return self._array(data, type_of(of), shape_of(space))

    def dataset(self, address: int) -> Array:
        """The value of a dataset."""
        messages = dict(self._messages(address))
        if not {SPACE, TYPE, LAYOUT} <= messages.keys():
            raise ValueError("expected a dataset, got another object")
        of, shape, layout = type_of(messages[TYPE]), shape_of(messages[SPACE]), messages[LAYOUT]
        size = prod(shape) * np.dtype(of.numpy).itemsize
        version, kind = layout[0], layout[1]
        if version not in (3, 4) or kind > 2 or version == 4 and kind == 2:
            raise ValueError("its data are stored in another way than MATLAB's")
        if not size:
            return self._array(b"", of, shape)
        if kind == 0:
            return self._array(layout[4 : 4 + struct.unpack_from("<H", layout, 2)[0]], of, shape)
        if kind == 1:
            return self._array(self._bytes(struct.unpack_from("<Q", layout, 2)[0], size), of, shape)
        return Array(self._chunked(layout, of, shape, filters_of(messages.get(FILTERS))), of.kind)

    def lists(self, values: np.ndarray) -> list[bytes]:
        """The contents of lists of different lengths, of which an array holds the places."""
        return [self._heap_item(*struct.unpack("<QI", value.tobytes()[4:])) for value in values.ravel()]

    def _array(self, data: bytes, of: Type, shape: tuple[int, ...]) -> Array:
        size = prod(shape) * np.dtype(of.numpy).itemsize
        self._spend(size)
        if len(data) < size:
            raise ValueError("it ends too early")
        return Array(np.frombuffer(data[:size], of.numpy).reshape(shape), of.kind)

    def _chunked(self, layout: bytes, of: Type, shape: tuple[int, ...], filters: list[int]) -> np.ndarray:
        """An array of which each piece is stored alone; as many pieces as it takes, each once."""
        rank, tree = struct.unpack_from("<BQ", layout, 2)
        *chunk, width = struct.unpack_from(f"<{rank}I", layout, 11)
        if len(chunk) != len(shape) or not all(chunk) or width != np.dtype(of.numpy).itemsize:
            raise ValueError("its pieces do not fit its shape")
        self._spend(prod(shape) * width)
        values, seen = np.zeros(shape, of.numpy), set()
        for key, address in self._leaves(tree, 1, 8 + 8 * rank):
            size, mask, *start = struct.unpack(f"<II{rank}Q", key)
            if any(s % c or s >= n for s, c, n in zip(start, chunk, shape)):
                raise ValueError("a piece lies outside its array")
            seen.add(tuple(start))
            self._spend(prod(chunk) * width)
            data = self._bytes(address, size)
            for number, kind in reversed(list(enumerate(filters))):
                if not mask >> number & 1:
                    data = unfiltered(data, kind, prod(chunk) * width, width)
            piece = np.frombuffer(data, of.numpy).reshape(chunk)
            place = tuple(slice(s, min(s + c, n)) for s, c, n in zip(start, chunk, shape))
            values[place] = piece[tuple(slice(p.stop - p.start) for p in place)]
        if len(seen) != prod(-(-n // c) for n, c in zip(shape, chunk)):
            raise ValueError("pieces of an array are missing")
        return values

    def _spend(self, size: int = 0) -> None:
        """Count what is read, and stop where it is more than there can be."""
        self._left -= max(size, LEAST)
        if self._left < 0:
            raise ValueError("it holds more values than an annotation file can have")

    def _bytes(self, address: int, size: int) -> bytes:
        if address + size > len(self._content):
            raise ValueError("it ends too early")
        return self._content[address : address + size]

    def _unpack(self, form: str, address: int) -> tuple:
        return struct.unpack(f"<{form}", self._bytes(address, struct.calcsize(f"<{form}")))

    def _signed(self, mark: bytes, address: int) -> None:
        if self._bytes(address, 4) != mark:
            raise ValueError(f"expected {mark.decode()} at byte {address}")

    def _messages(self, address: int) -> list[tuple[int, bytes]]:
        """Kind and content of all messages of an object's header, read once."""
        if address not in self._headers:
            self._headers[address] = self._read_messages(address)
        return self._headers[address]

    def _read_messages(self, address: int) -> list[tuple[int, bytes]]:
        old = self._bytes(address, 4) != b"OHDR"
        if old:
            version, size = self._unpack("B7xI", address)
            if version != 1:
                raise ValueError(f"expected an object at byte {address}")
            blocks, head = [(address + 16, size)], "<HHB3x"
        else:
            flags = self._bytes(address + 5, 1)[0]
            start, width = address + 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1), 1 << (flags & 3)
            size = int.from_bytes(self._bytes(start, width), "little")
            blocks, head = [(start + width, size)], "<BHB" + "2x" * (flags >> 2 & 1)
        found, length = [], struct.calcsize(head)
        for place, size in blocks:  # which grows
            self._spend(size)
            block, position = self._bytes(place, size), 0
            while position + length <= size:
                kind, count, flags = struct.unpack_from(head, block, position)
                message = block[position + length : position + length + count]
                position += length + count
                if len(message) < count or flags & SHARED and kind in (SPACE, TYPE, LAYOUT, FILTERS, ATTRIBUTE):
                    raise ValueError("an object's header is damaged or of another kind than MATLAB's")
                found.append((kind, message))
                if kind == CONTINUED:
                    blocks.append(self._continued(message, old))
        return found

    def _continued(self, message: bytes, old: bool) -> tuple[int, int]:
        """Place and size of the messages in a later part of an object's header."""
        place, size = struct.unpack_from("<QQ", message)
        if old:
            return place, size
        self._signed(b"OCHK", place)
        return place + 4, max(size - 8, 0)  # without the signature before and the checksum behind

    def _table(self, tree: int, heap: int) -> dict[str, int]:
        """The members of a group, of which a B-tree holds the places and a heap the names."""
        self._signed(b"HEAP", heap)
        size, _, place = self._unpack("QQQ", heap + 8)
        names, found = self._bytes(place, size), {}
        for _, address in self._leaves(tree, 0, 8):
            self._signed(b"SNOD", address)
            for number in range(self._unpack("6xH", address)[0]):
                self._spend()
                name, target, kind = self._unpack("QQI", address + 8 + 40 * number)
                if name >= size:
                    raise ValueError("a name lies outside its heap")
                if kind != 2:  # a link by name
                    found[names[name : names.index(b"\0", name)].decode()] = target
        return found

    def _leaves(self, root: int, kind: int, width: int) -> list[tuple[bytes, int]]:
        """Key and address of all that a B-tree leads to; `width` of a key, in bytes."""
        found, nodes = [], [] if root == NOWHERE else [root]
        for node in nodes:  # which grows
            self._signed(b"TREE", node)
            of, level, count = self._unpack("4xBBH", node)
            self._spend(LEAST * count)
            if of != kind:
                raise ValueError("a B-tree is damaged")
            pairs = [
                (self._bytes(place, width), self._unpack("Q", place + width)[0])
                for place in range(node + 24, node + 24 + count * (width + 8), width + 8)
            ]
            if level:
                nodes += [address for _, address in pairs]
            else:
                found += pairs
        return found

    def _heap_item(self, heap: int, wanted: int) -> bytes:
        """An item of a global heap."""
        self._signed(b"GCOL", heap)
        position, end = heap + 16, heap + self._unpack("8xQ", heap)[0]
        while position < end:
            self._spend()
            number, size = self._unpack("H6xQ", position)
            if number == wanted:
                return self._bytes(position + 16, size)
            if not number:
                break
            position += 16 + size + -size % 8
        raise ValueError("a list is missing")
