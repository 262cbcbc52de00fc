"""MATLAB files of the data sets as plain Python values, whatever version of MATLAB or Octave wrote them.

Read by ourselves, because a damaged file makes scipy's and HDF5's compiled readers end the whole process: here every
length is checked against what is there.
"""

import struct
from collections.abc import Collection
from pathlib import Path

import numpy as np

from pipeline.data.formats.matlab import hdf5
from pipeline.data.formats.matlab import version4 as matlab4
from pipeline.data.formats.matlab import version5 as matlab5
from pipeline.data.formats.matlab import version73 as matlab73
from pipeline.data.formats.matlab.values import DAMAGE, Unreadable, reason
from pipeline.data.reading.files import FARTHEST, read_bytes
from pipeline.errors import DataError

ORDERS = {b"IM": "<", b"MI": ">"}  # as the header of MATLAB 5 to 7.3 tells the order of bytes
HDF5_VERSION = 2  # in that header
OTHERS = {  # what else is called .mat, by how it begins
    b"# Created by Octave": "Octave's text format",
    b"# name:": "Octave's text format",
    b"Octave-1-": "Octave's binary format",
    b"\x1f\x8b": "a file compressed by gzip, as Octave writes with -zip",
    hdf5.SIGNATURE: "HDF5 that is not MATLAB's, as Octave writes with -hdf5",
}


def read_matlab(path: Path, names: Collection[str]) -> dict:
    """The variables of these names in a .mat file, without dimensions of length 1; others may be of any kind.

    Numbers become arrays or scalars, text str, structs dicts, arrays of cells or structs object arrays; what cannot be
    read within these becomes Unreadable. Raises DataError, which names the file, where a variable is missing or cannot
    be read.
    """
    content = read_bytes(path)
    try:
        found, held = _read(content, names)
    except DAMAGE as error:
        raise DataError(
            f"{path}: not a MATLAB file that can be read: {reason(error)}. If MATLAB or Octave opens it, save it there "
            f"again: save -v7 {path.name} {' '.join(names)}"
        ) from None
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{path}: expected the variables {missing}, got {sorted(filter(None, held))}")
    for name in names:
        if isinstance(value := found[name], Unreadable):
            raise DataError(f"{path}: {name}: expected numbers, text, cells or structs, got {value.what}")
    return found


def _read(content: bytes, names: Collection[str]) -> tuple[dict[str, object], list[str]]:
    """The variables of these names, and the names of all."""
    for beginning, what in OTHERS.items():
        if content.startswith(beginning):
            raise ValueError(f"it is {what}")
    order = ORDERS.get(content[126:128])
    if order is None:
        order = matlab4.byte_order(content)
        if order is None:
            raise ValueError("it has no header of MATLAB")
        return matlab4.read(content, order, names)
    is_hdf5 = content[matlab73.HEADER :].startswith(hdf5.SIGNATURE)
    if is_hdf5 or struct.unpack_from(f"{order}H", content, 124)[0] >> 8 == HDF5_VERSION:  # its text may say otherwise
        return matlab73.read(content, names)
    return matlab5.read(content, order, names)


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
