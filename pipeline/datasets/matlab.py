"""MATLAB files of the data sets as plain Python values."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from pipeline.errors import DataError


def read_matlab(path: Path) -> dict:
    """The variables of a .mat file; structs as dicts, cell and struct arrays as object arrays."""
    if not path.is_file():
        raise DataError(f"{path}: file not found")
    try:
        return loadmat(path, simplify_cells=True)
    except Exception as error:  # in a damaged file scipy stumbles into OSError, IndexError, KeyError, ...
        raise DataError(f"{path}: not a MATLAB file that can be read: {error}") from None


def segments(path: Path, value: object) -> list[list[float]]:
    """Segments [[x1, y1, x2, y2], ...] from a row, a matrix or a cell array of rows; DataError names `path`."""
    array = np.asarray(value, object) if isinstance(value, list) else np.asarray(value)
    if not array.size:
        return []
    rows = list(array) if array.dtype == object and array.ndim else [array]
    try:
        marks = np.concatenate([_fours(np.asarray(row, float)) for row in rows])
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected segments of four numbers (x1 y1 x2 y2): {error}") from None
    return marks.tolist()


def _fours(row: np.ndarray) -> np.ndarray:
    """[..., 4], [4] or [2, 2] -> [N, 4]; ValueError for any other shape (a transposed matrix!) and for NaN."""
    if row.size and row.shape[-1:] != (4,) and row.shape != (2, 2):
        raise ValueError(f"got an array of shape {row.shape}")
    if not np.isfinite(row).all():
        raise ValueError("got a number that is not finite")
    return row.reshape(-1, 4)
