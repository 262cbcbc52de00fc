"""MATLAB files of the data sets as plain Python values."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from pipeline.datasets.files import FARTHEST, LARGEST_FILE, read_bytes
from pipeline.errors import DataError

HEADER, COMPRESSED = 128, 15  # bytes before the first element; the kind of a compressed element (MAT-file level 5)


def read_matlab(path: Path) -> dict:
    """The variables of a .mat file; structs as dicts, cell and struct arrays as object arrays."""
    content = read_bytes(path)
    try:
        _check_expanded_size(content)
        return loadmat(BytesIO(content), simplify_cells=True)
    except Exception as error:  # in a damaged file scipy stumbles into OSError, IndexError, KeyError, ...
        raise DataError(f"{path}: not a MATLAB file that can be read: {error}") from None


def _check_expanded_size(content: bytes) -> None:
    """Raise ValueError where compressed elements unfold to more than a file may hold: kilobytes can hold gigabytes."""
    order, position, left = "<" if content[126:128] == b"IM" else ">", HEADER, LARGEST_FILE
    while position + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, position)
        position += 8
        if kind == COMPRESSED:
            left -= len(zlib.decompressobj().decompress(content[position : position + length], left + 1))
            if left < 0:
                raise ValueError(f"expected at most {LARGEST_FILE} bytes when decompressed, got more")
        position += length


def rows(path: Path, value: object) -> list:
    """The rows of a matrix, of which one may have become a vector, or the cells of a cell array."""
    try:
        array = np.asarray(value, object if isinstance(value, list) else None)
    except ValueError as error:
        raise DataError(f"{path}: expected one row of numbers a name: {error}") from None
    if not array.size:
        return []
    return list(np.atleast_1d(array) if array.dtype == object else np.atleast_2d(array))


def segments(path: Path, value: object) -> list[list[float]]:
    """Segments [[x1, y1, x2, y2], ...] from a row, a matrix or a cell array of rows; DataError names `path`."""
    try:
        array = np.asarray(value, object if isinstance(value, list) else None)
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
