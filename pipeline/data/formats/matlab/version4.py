"""MATLAB files of version 4, which Octave writes with `-v4`: matrices of numbers or letters."""

import struct
from collections.abc import Collection

import numpy as np

from pipeline.data.formats.matlab.values import Unreadable, squeezed, text

NUMBERS = ("f8", "f4", "i4", "i2", "u2", "u1")
FULL, TEXT = 0, 1  # kinds of matrices
LONGEST_NAME = 64


def byte_order(content: bytes) -> str | None:
    """`<` or `>` where the content begins as a file of version 4, else None."""
    for order in "<>":
        if len(content) > 20:
            mark, _, _, imaginary, length = struct.unpack_from(f"{order}5I", content)
            known = mark // 1000 == "<>".index(order) and not mark // 100 % 10 and mark // 10 % 10 < len(NUMBERS)
            if known and mark % 10 <= 2 and imaginary <= 1 and 1 < length <= LONGEST_NAME:
                return order if content[19 + length : 20 + length] == b"\0" else None
    return None


def read(content: bytes, order: str, names: Collection[str]) -> tuple[dict[str, object], list[str]]:
    """The variables of these names, and the names of all. Raises one of DAMAGE."""
    found, held, position = {}, [], 0
    while position < len(content):
        mark, rows, columns, imaginary, length = struct.unpack_from(f"{order}5I", content, position)
        start, kind, numbers = position + 20 + length, mark % 10, np.dtype(order + NUMBERS[mark // 10 % 10])
        name = content[position + 20 : start].split(b"\0")[0].decode("latin-1")
        position = start + rows * columns * numbers.itemsize * (2 if imaginary else 1)
        if position > len(content):
            raise ValueError(f"{name}: it ends too early")
        held.append(name)
        if name in names:
            values = np.frombuffer(content, numbers, rows * columns, start).reshape((rows, columns), order="F")
            found[name] = _value(values, kind, bool(imaginary), name)
    return found, held


def _value(values: np.ndarray, kind: int, is_complex: bool, name: str) -> object:
    if kind == TEXT:
        if not ((values >= 0) & (values < 256)).all():
            raise ValueError(f"{name}: expected letters, got other numbers")
        return text(values.astype("u1"), "utf-8")  # Octave stores its bytes
    if kind == FULL and not is_complex:
        return squeezed(values.astype(values.dtype.newbyteorder("=")))
    return Unreadable("complex numbers (use real)" if kind == FULL else "a sparse matrix (use full)")
