"""MATLAB files of the data sets as plain Python values."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from pipeline.errors import DataError


def read_matlab(path: Path) -> dict:
    """The variables of a .mat file; structs as dicts, cell and struct arrays as object arrays."""
    try:
        return loadmat(path, simplify_cells=True)
    except FileNotFoundError:
        raise DataError(f"{path}: file not found") from None
    except (MatReadError, ValueError, TypeError, NotImplementedError, EOFError) as error:
        raise DataError(f"{path}: not a MATLAB file that can be read: {error}") from None


def segments(path: Path, value: object) -> list[list[float]]:
    """Segments [[x1, y1, x2, y2], ...] from a row, a matrix or a cell array of rows; DataError names `path`."""
    array = np.asarray(value, object) if isinstance(value, list) else np.asarray(value)
    if not array.size:
        return []
    rows = list(array) if array.dtype == object and array.ndim else [array]
    try:
        return np.concatenate([np.asarray(row, float).reshape(-1, 4) for row in rows]).tolist()
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected segments of four numbers (x1 y1 x2 y2): {error}") from None
