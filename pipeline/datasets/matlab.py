"""MATLAB files of the data sets as plain Python values.

Read by ourselves (level 5 of the MAT-file format, versions 5 to 7 of MATLAB), because a damaged file makes scipy's
compiled reader end the whole process: here every length is checked against what is there.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.datasets.files import FARTHEST, LARGEST_FILE, read_bytes
from pipeline.errors import DataError

HEADER, DEEPEST = 128, 16  # bytes before the first element; cells within cells
MATRIX, COMPRESSED = 14, 15  # kinds of elements that hold others
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # and of others
TEXTS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, CHAR = 1, 2, 4  # classes of arrays
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
IS_COMPLEX = 0x0800

Element = tuple[int, bytes]  # kind and content


def read_matlab(path: Path) -> dict:
    """The variables of a .mat file, without dimensions of length 1.

    Numbers become arrays or scalars, text str, structs dicts, arrays of cells or structs object arrays. Raises
    DataError, which names the file.
    """
    content = read_bytes(path)
    try:
        if content.startswith(b"MATLAB 7.3"):
            raise ValueError("it is of version 7.3; save it again with -v7")
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise ValueError("it has no header of MATLAB 5")
        return dict(_array(data, order, 0) for data in _matrices(content[HEADER:], order))
    except (ValueError, IndexError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: not a MATLAB file that can be read: {error}") from None


def _matrices(content: bytes, order: str) -> Iterator[bytes]:
    """The variables of a file, decompressed, within a limit: kilobytes can hold gigabytes."""
    left = LARGEST_FILE
    for kind, data in _elements(content, order):
        if kind == COMPRESSED:
            data = zlib.decompressobj().decompress(data, left + 1)
            left -= len(data)
            if left < 0:
                raise ValueError(f"expected at most {LARGEST_FILE} bytes when decompressed, got more")
            kind, data = next(_elements(data, order), (MATRIX, b""))
        if kind != MATRIX:
            raise ValueError(f"expected a variable, got an element of kind {kind}")
        yield data


def _elements(content: bytes, order: str) -> Iterator[Element]:
    """The elements of a file, a variable or a cell, one after another."""
    position = 0
    while position + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, position)
        if kind >> 16:  # small: kind and length share four bytes, and the next four hold the data
            kind, length, start, end = kind & 0xFFFF, kind >> 16, position + 4, position + 8
        else:
            start = position + 8
            end = start + length + (0 if kind == COMPRESSED else -length % 8)
        if start + length > len(content):
            raise ValueError("it ends too early")
        yield kind, content[start : start + length]
        position = end


def _array(content: bytes, order: str, depth: int) -> tuple[str, object]:
    """Name and value of a matrix element."""
    if not content:
        return "", np.empty(0)
    if depth > DEEPEST:
        raise ValueError(f"cells lie in cells {DEEPEST} deep and deeper")
    elements = list(_elements(content, order))
    flags, dimensions = (_numbers(element, order) for element in elements[:2])
    name, parts = elements[2][1].decode("latin-1"), elements[3:]
    shape = tuple(int(length) for length in dimensions)
    kind, is_complex = int(flags[0]) & 0xFF, int(flags[0]) & IS_COMPLEX
    if kind == CHAR:
        return name, _text(parts[0], order, shape)
    if kind in CLASSES and not is_complex:
        values = _numbers(parts[0], order).astype(CLASSES[kind])
    elif kind == CELL:
        values = _objects([_array(_content(part), order, depth + 1)[1] for part in parts])
    elif kind == STRUCT:
        values = _objects(_structs(parts, order, depth))
    else:
        raise ValueError(f"{name}: expected numbers, text, cells or structs, got class {kind}")
    array = values.reshape(shape, order="F").squeeze()
    return name, array if array.ndim else array.item()


def _structs(parts: list[Element], order: str, depth: int) -> list[dict]:
    """Structs of which the first element tells the length of a field's name, the second the names."""
    length, names = int(_numbers(parts[0], order)[0]), parts[1][1]
    if length < 1:
        raise ValueError(f"expected names of fields, got some of length {length}")
    fields = [names[i : i + length].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), length)]
    values = [_array(_content(part), order, depth + 1)[1] for part in parts[2:]]
    return [dict(zip(fields, values[i : i + len(fields)])) for i in range(0, len(values), len(fields) or 1)]


def _text(element: Element, order: str, shape: tuple[int, ...]) -> object:
    """A string, or an array of one for each row."""
    kind, content = element
    if kind not in TEXTS:
        raise ValueError(f"expected text, got an element of kind {kind}")
    ending = "" if TEXTS[kind] == "utf-8" else {"<": "-le", ">": "-be"}[order]
    letters = np.array(list(content.decode(TEXTS[kind] + ending)), "U1").reshape(shape, order="F")
    lines = ["".join(line) for line in letters.reshape(-1, shape[-1])] if letters.size else [""]
    return lines[0] if len(lines) == 1 else np.array(lines)


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


def _objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def rows(value: object) -> list:
    """The rows of a matrix, of which one may have become a vector, or the cells of a cell array."""
    array = np.asarray(value)
    if not array.size:
        return []
    return list(np.atleast_1d(array) if array.dtype == object else np.atleast_2d(array))


def segments(path: Path, value: object) -> list[list[float]]:
    """Segments [[x1, y1, x2, y2], ...] from a row, a matrix or a cell array of rows; DataError names `path`."""
    try:
        array = np.asarray(value)
        cells = list(array) if array.dtype == object and array.ndim else [array]
        marks = [_fours(np.asarray(cell, float)) for cell in cells if np.size(cell)]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected segments of four numbers (x1 y1 x2 y2): {error}") from None
    return np.concatenate(marks).tolist() if marks else []


def _fours(row: np.ndarray) -> np.ndarray:
    """[..., 4], [4] or [2, 2] -> [N, 4]; ValueError for any other shape (a transposed matrix!) and for NaN."""
    if row.shape[-1:] != (4,) and row.shape != (2, 2):
        raise ValueError(f"got an array of shape {row.shape}")
    if not (np.abs(row) <= FARTHEST).all():
        raise ValueError(f"got a number that is not finite, or beyond {FARTHEST:.0f}")
    return row.reshape(-1, 4)
