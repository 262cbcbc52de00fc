"""What the readers of MATLAB files make of its arrays: plain Python values, without dimensions of length 1."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

DEEPEST = 16  # cells within cells
DAMAGE = ValueError, IndexError, struct.error, zlib.error  # what the readers raise


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value that is not read, so that it blocks none beside it; `what`: in words."""

    what: str

    def __float__(self) -> float:
        raise ValueError(f"got {self.what}")


def reason(error: Exception) -> str:
    """What is wrong with a damaged file, in words."""
    return "it ends too early, or a length in it is wrong" if type(error) in (IndexError, struct.error) else str(error)


def squeezed(array: np.ndarray) -> object:
    """An array without dimensions of length 1; its only value where nothing is left."""
    array = array.squeeze()
    return array if array.ndim else array.item()


def objects(values: list) -> np.ndarray:
    """[N] of any values, which NumPy is not to look into."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def text(letters: np.ndarray, encoding: str) -> object:
    """A string, or an array of one for each row, from the code units [rows, ..., columns] of its letters."""
    rows: Iterable[np.ndarray] = letters.reshape(-1, letters.shape[-1]) if letters.size else []
    lines = [np.ascontiguousarray(row).tobytes().decode(encoding) for row in rows] or [""]
    return lines[0] if len(lines) == 1 else np.array(lines)
