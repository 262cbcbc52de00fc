"""MATLAB files of the versions 5 to 7 (level 5 of the MAT-file format)."""

import struct
import zlib
from collections.abc import Collection, Iterator
from math import prod

import numpy as np

from pipeline.data.formats.matlab.values import DAMAGE, DEEPEST, Unreadable, objects, reason, squeezed, text
from pipeline.data.reading.files import LARGEST_FILE

HEADER = 128  # bytes before the first element
HEAD = 2**12  # bytes that hold the name of a variable
MATRIX, COMPRESSED = 14, 15  # kinds of elements that hold others
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # and of others
LETTERS = {1: "u1", 2: "u1", 4: "u2", 16: "u1", 17: "u2", 18: "u4"}
ENCODINGS = {"u1": "utf-8", "u2": "utf-16", "u4": "utf-32"}
CELL, STRUCT, CHAR, OPAQUE = 1, 2, 4, 17  # classes of arrays
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
UNREADABLE = {
    3: "an object",
    5: "a sparse matrix (use full)",
    16: "a function",
    OPAQUE: "an object, such as a string, table or datetime (use char, cellstr, struct or numbers)",
}
IS_COMPLEX = 0x0800

Element = tuple[int, bytes]  # kind and content


def read(content: bytes, order: str, names: Collection[str]) -> tuple[dict[str, object], list[str]]:
    """The variables of these names, and the names of all; what is not asked for is passed over by its length.

    `order`: `<` or `>`. Raises one of DAMAGE.
    """
    found, held, left = {}, [], LARGEST_FILE
    for kind, data in _elements(content[HEADER:], order):
        head = _decompressed(data, HEAD)[0][8:] if kind == COMPRESSED else data
        if kind not in (MATRIX, COMPRESSED):
            raise ValueError(f"expected a variable, got an element of kind {kind}")
        held.append(name := _name(head, order))
        if name not in names:
            continue
        try:
            if kind == COMPRESSED:
                data = _variable(data, order, left)
                left -= len(data)
            found[name] = _array(data, order, 0)
        except DAMAGE as error:
            raise ValueError(f"{name}: {reason(error)}") from None
    return found, held


def _variable(packed: bytes, order: str, most: int) -> bytes:
    """The matrix in a compressed element, of at most `most` bytes: kilobytes can hold gigabytes."""
    data, whole = _decompressed(packed, most + 1)
    if len(data) > most:
        raise ValueError(f"expected at most {LARGEST_FILE} bytes when decompressed, got more")
    if not whole:  # zlib compares the checksum where the data end
        raise ValueError("its compressed data end too early")
    if struct.unpack_from(f"{order}I", data)[0] != MATRIX:
        raise ValueError("expected a matrix in the compressed data")
    return data[8:]  # all that was compressed: the length before it may be wrong, see _elements


def _decompressed(packed: bytes, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes of compressed data, and whether they are all and the checksum agrees."""
    stream = zlib.decompressobj()
    return stream.decompress(packed, most), stream.eof and not stream.unused_data.strip(b"\0")


def _elements(content: bytes, order: str) -> Iterator[Element]:
    """The elements of a file, a variable or a cell, one after another."""
    position = 0
    while position + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, position)
        if kind >> 16:  # small: kind and length share four bytes, and the next four hold the data
            kind, length, start, end = kind & 0xFFFF, kind >> 16, position + 4, position + 8
        else:
            if kind == MATRIX and length % 8 == 4:  # Octave counts 4 too many where it writes few letters in rows
                length -= 4
            start = position + 8
            end = start + length + (0 if kind == COMPRESSED else -length % 8)
        if start + length > min(len(content), end):
            raise ValueError("it ends too early, or a length in it is wrong")
        yield kind, content[start : start + length]
        position = end
    if content[position:].strip(b"\0"):
        raise ValueError("it ends within the head of an element")


def _name(content: bytes, order: str) -> str:
    """The name of a matrix, of which the beginning is enough."""
    if not content:
        return ""
    elements, nothing = _elements(content, order), (0, b"")
    is_opaque = _class(next(elements, nothing), order)[0] == OPAQUE  # which has no dimensions before its name
    first, second = next(elements, nothing), nothing if is_opaque else next(elements, nothing)
    return (first if is_opaque else second)[1].decode("latin-1")


def _class(flags: Element, order: str) -> tuple[int, int]:
    """The class of an array, and whether it is complex (not 0)."""
    number = int(_numbers(flags, order)[0])
    return number & 0xFF, number & IS_COMPLEX


def _array(content: bytes, order: str, depth: int) -> object:
    """The value of a matrix element."""
    if not content:
        return np.empty(0)
    if depth > DEEPEST:
        raise ValueError(f"cells lie in cells {DEEPEST} deep and deeper")
    kind, is_complex = _class(next(_elements(content, order), (0, b"")), order)
    if kind in UNREADABLE:
        return Unreadable(UNREADABLE[kind])
    _, dimensions, _, *parts = _elements(content, order)
    shape = tuple(int(length) for length in _numbers(dimensions, order))
    if kind in CLASSES and is_complex:
        return Unreadable("complex numbers (use real)")
    if kind == CHAR:
        return _text(parts[0], order, shape)
    if kind in CLASSES:
        values = _numbers(parts[0], order).astype(CLASSES[kind])
    elif kind == CELL:
        values = objects([_array(_content(part), order, depth + 1) for part in parts])
    elif kind == STRUCT:
        values = objects(_structs(parts, order, depth))
    else:
        return Unreadable(f"an array of class {kind}")
    return squeezed(values.reshape(shape, order="F"))


def _structs(parts: list[Element], order: str, depth: int) -> list[dict]:
    """Structs of which the first element tells the length of a field's name, the second the names."""
    length, names = int(_numbers(parts[0], order)[0]), parts[1][1]
    if length < 1:
        raise ValueError(f"expected names of fields, got some of length {length}")
    fields = [names[i : i + length].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), length)]
    values = [_array(_content(part), order, depth + 1) for part in parts[2:]]
    if len(values) % (len(fields) or 1):
        raise ValueError(f"expected values of {fields}, got {len(values)}")
    return [dict(zip(fields, values[i : i + len(fields)])) for i in range(0, len(values), len(fields) or 1)]


def _text(element: Element, order: str, shape: tuple[int, ...]) -> object:
    kind, content = element
    if kind not in LETTERS:
        raise ValueError(f"expected text, got an element of kind {kind}")
    unit = LETTERS[kind]
    if unit == "u1" and len(content) != prod(shape):  # MATLAB counts letters of 16 bits, Octave bytes
        content, unit, order = content.decode().encode("utf-16-le"), "u2", "<"
    ending = "" if unit == "u1" else {"<": "-le", ">": "-be"}[order]
    return text(np.frombuffer(content, order + unit).reshape(shape, order="F"), ENCODINGS[unit] + ending)


def _numbers(element: Element, order: str) -> np.ndarray:
    kind, content = element
    if kind not in NUMBERS:
        raise ValueError(f"expected numbers, got an element of kind {kind}")
    return np.frombuffer(content, order + NUMBERS[kind])


def _content(element: Element) -> bytes:
    kind, content = element
    if kind != MATRIX:
        raise ValueError(f"expected a cell or field, got an element of kind {kind}")
    return content
