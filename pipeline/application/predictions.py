"""Anyone's predictions: a folder of heat maps, or axes and centres in our JSON.

Coordinates: x right, y down, pixels of the image.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.application.files import lines_name
from pipeline.application.marks import LINES, OF_MAPS, Marks, name_of, read_marks
from pipeline.data.reading.files import visible
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.errors import DataError
from pipeline.params.choices import Task
from pipeline.scoring.matching import Found
from pipeline.scoring.sets import KINDS

EXPECTED = (
    "expected a folder of heat maps (PNG of 8 or 16 bits, or NPY), a folder of JSON, or a .json or .jsonl file as "
    "`symmetry detect --out` writes it"
)


@dataclass(frozen=True)
class Predictions:
    """By the names of the images: files of `heat_maps`, or `marks`; one of both is empty."""

    path: Path
    heat_maps: dict[str, Path]
    marks: dict[str, Marks]

    @property
    def names(self) -> set[str]:
        """Of the images that were looked at."""
        return self.heat_maps.keys() | self.marks.keys()

    @property
    def tasks(self) -> set[Task]:
        """The tasks that any record tells of."""
        return {task for marks in self.marks.values() for task in marks.tasks}

    def tells(self, name: str, task: Task) -> bool:
        """Whether the image was looked at for the task."""
        return name in self.heat_maps or (name in self.marks and task in self.marks[name].tasks)


def read_predictions(path: Path) -> Predictions:
    """The predictions in a file or folder; heat maps are not opened yet. Raises DataError, which names the file."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {EXPECTED}")
    results = path / lines_name("jsonl")
    files = [results] if results.is_file() else visible(path, []) if path.is_dir() else [path]
    maps = [file for file in files if file.suffix.lower() in OF_MAPS and path.is_dir()]
    lists = [file for file in files if file.suffix.lower() in (".json", LINES)]
    if bool(maps) == bool(lists):
        what = f"{len(maps)} heat maps and {len(lists)} files of JSON: name the folder of either" if maps else "none"
        raise DataError(f"{path}: {EXPECTED}; got {what}")
    found = Predictions(path, {}, {})
    for file in maps:
        _add(found.heat_maps, name_of(file), file, str(file))
    for marks in (marks for file in lists for marks in read_marks(file)):
        _add(found.marks, marks.name, marks, marks.where)
    return found


def read_heat_map(path: Path) -> np.ndarray:
    """float32 [H, W] in 0..1 of an 8- or 16-bit grey PNG or an NPY file. Raises DataError, which names the file."""
    try:
        values = _array(path) if path.suffix.lower() == ".npy" else _pixels(path)
    except DataError:
        raise
    except Exception as error:  # of a dozen kinds for a damaged file
        raise DataError(f"{path}: cannot be read as a heat map: {error}") from None
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"{path}: expected a heat map of [height, width], got shape {list(values.shape)}")
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    if values.dtype.kind != "f":
        raise DataError(f"{path}: expected floats in 0..1, uint8 or uint16, got {values.dtype}")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: {int((~np.isfinite(values)).sum())} pixels are NaN or infinite; expected 0..1")
    if values.min() < 0 or values.max() > 1:
        raise DataError(
            f"{path}: expected probabilities in 0..1, got {values.min():.3g} to {values.max():.3g}; "
            "of logits take the sigmoid"
        )
    return values.astype(np.float32)


def detected(marks: Marks, task: Task) -> Found:
    """The axes or centres of a record, in its order. Raises DataError where a score is missing."""
    axes = [DetectedAxis(*axis) for axis in marks.axes]
    centres = [DetectedCentre(*centre) for centre in marks.centres]
    found: Found = axes if task == "reflection" else centres
    listed: list[DetectedAxis | DetectedCentre] = [*found]
    for number, mark in enumerate(listed):
        if mark.score is None:
            raise DataError(f"{marks.where}: {KINDS[task]}[{number}] has no `score`, by which predictions are ranked")
    return found


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path, formats=("PNG",)) as image:
        if image.mode not in ("L", "I", "I;16"):
            raise DataError(f"{path}: expected a grey PNG of 8 or 16 bits, got one of Pillow's mode {image.mode}")
        values = np.asarray(image)
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def _array(path: Path) -> np.ndarray:
    values = np.load(path, allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise DataError(f"{path}: expected one array, as np.save writes it, got an archive of np.savez")
    return values.astype(values.dtype.newbyteorder("="))


def _add(found: dict, name: str, item: Path | Marks, where: str) -> None:
    if name in found:
        other = found[name]
        raise DataError(
            f"{where}: {getattr(other, 'where', other)} is of an image called {name}, too; images are told apart by "
            "their names without folders"
        )
    found[name] = item
