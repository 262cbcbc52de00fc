"""Axes and centres of images in our JSON: what `symmetry detect` writes, and the same written by hand or by others.

An image is an object with `image`, its file's name, and under `reflection` and `rotation` an object with `axes` or
`centres`, and `width` and `height` of the image; or all of these in the object itself, where there may be `discs`, too.
An axis is {"x1", "y1", "x2", "y2", "score"} or a list of these numbers, a centre {"x", "y", "score", "fold"} or
[x, y, score, fold], a disc {"points"}. Coordinates: x right, y down, pixels of the image as it is seen.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pipeline.annotations import ReflectionDisc
from pipeline.data.reading.files import IMAGES, coordinate, point, read_bytes, read_json
from pipeline.data.reading.pairing import composed
from pipeline.errors import DataError
from pipeline.params.choices import Task

LINES = ".jsonl"
OF_MAPS = (".png", ".npy")
AXIS, CENTRE = ("x1", "y1", "x2", "y2", "score"), ("x", "y", "score", "fold")
Size = tuple[int, int]  # width and height in pixels


@dataclass(frozen=True)
class Marks:
    """Of one image. `axes`: x1, y1, x2, y2, score; `centres`: x, y, score, fold; None where a number is not told.

    `name`: see `name_of`; `tasks`: those that the record tells of; `where`: the file, and the line or number in it.
    """

    name: str
    tasks: tuple[Task, ...]
    size: Size | None
    axes: tuple[tuple[Any, ...], ...]
    centres: tuple[tuple[Any, ...], ...]
    discs: tuple[ReflectionDisc, ...]
    where: str


def name_of(path: Path | str) -> str:
    """What an image, its annotation and its prediction share: `a` of a.jpg, a.jpg.json, a.json, a.png, a.npy.

    Folders do not count; accents are in one piece, as not all systems write them.
    """
    name = Path(str(path).replace("\\", "/")).name
    for suffixes in ((".json", *OF_MAPS), tuple(IMAGES)):
        stem, dot, suffix = name.rpartition(".")
        name = stem if stem and f"{dot}{suffix}".lower() in suffixes else name
    return composed(name)


def read_marks(path: Path) -> list[Marks]:
    """The images of a file of JSON lines, or of JSON: one object or a list. Raises DataError, which says where."""
    if path.suffix.lower() == LINES:
        return [_marks(record, where, path) for where, record in _lines(path)]
    content = read_json(path)
    if isinstance(content, list):
        return [_marks(record, f"{path}: image {number}", path) for number, record in enumerate(content)]
    return [_marks(content, str(path), path)]


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if line.strip():
            try:
                yield f"{path}: line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {number}: expected one object of JSON a line, got {error}") from None


def _marks(record: Any, where: str, path: Path) -> Marks:
    if not isinstance(record, dict):
        raise DataError(
            f"{where}: expected an object with `image` and `axes` or `centres`, got {record!r:.60}; take a file that "
            "is something else out of the folder"
        )
    if "shapes" in record:
        raise DataError(f"{where}: a drawing of LabelMe's can be the truth, but no prediction: it has no scores")
    parts: dict[Task, Any] = {task: record[task] for task in get_args(Task) if task in record}
    if not parts:
        told = {"reflection": "axes" in record, "rotation": "centres" in record}
        parts = {task: record for task in get_args(Task) if record.get("task") in (task, None) and told[task]}
    if not parts:
        raise DataError(
            f"{where}: expected `reflection`, `rotation`, `axes` or `centres`, as `symmetry detect --out` writes them, "
            f"got the keys {sorted(record)}"
        )
    image = record.get("image", path.name)
    if not isinstance(image, str) or not image:
        raise DataError(f"{where}: image: expected the name of its file, got {image!r}")
    if "image" not in record and path.suffix.lower() == LINES:
        raise DataError(f"{where}: expected `image`, the name of the image's file")
    sizes = {_size(part, where) for part in [*parts.values(), record] if "width" in part or "height" in part}
    if len(sizes) > 1:
        raise DataError(f"{where}: expected one size of the image, got {sorted(sizes)} (width, height)")
    rotation, reflection = parts.get("rotation"), parts.get("reflection")
    return Marks(
        name_of(image),
        tuple(parts),
        next(iter(sizes), None),
        _each(reflection, "axes", AXIS, 4, where) if reflection is not None else (),
        _each(rotation, "centres", CENTRE, 2, where) if rotation is not None else (),
        _discs(record.get("discs", []), where),
        where,
    )


def _size(part: Any, where: str) -> Size:
    sides = part.get("width"), part.get("height")
    if not all(type(side) is int and side > 0 for side in sides):
        raise DataError(f"{where}: expected width and height in whole pixels, got {sides[0]!r} and {sides[1]!r}")
    return sides


def _each(part: Any, key: str, fields: tuple[str, ...], needed: int, where: str) -> tuple[tuple[Any, ...], ...]:
    """The numbers of each mark in a list; the first `needed` are coordinates, which must be there."""
    marks = part.get(key) if isinstance(part, dict) else None
    if not isinstance(marks, list):
        raise DataError(f"{where}: expected a list `{key}`, got {marks!r:.60}")
    found = []
    for number, mark in enumerate(marks):
        try:
            if isinstance(mark, dict):
                if missing := [field for field in fields[:needed] if field not in mark]:
                    raise ValueError(f"no {', '.join(missing)} among the keys {sorted(mark)}")
                values = [mark.get(field) for field in fields]
            elif isinstance(mark, list) and needed <= len(mark) <= len(fields):
                values = mark + [None] * (len(fields) - len(mark))
            else:
                raise ValueError(f"{mark!r:.60}")
            rest = zip(values[needed:], fields[needed:])
            others = [None if value is None else _number(value, field) for value, field in rest]
            found.append((*map(coordinate, values[:needed]), *others))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{where}: {key}[{number}]: expected numbers {', '.join(fields)}, in pixels, got {error}"
            ) from None
    return tuple(found)


def _number(value: Any, field: str) -> float:
    """A score, or a fold, which is whole."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} for the {field}")
    if field == "fold" and (value < 0 or value != int(value)):
        raise ValueError(f"{value!r} for the fold, a whole number from 0 on")
    return int(value) if field == "fold" else value


def _discs(marks: Any, where: str) -> tuple[ReflectionDisc, ...]:
    try:
        return tuple(ReflectionDisc(tuple(point(pair) for pair in mark["points"])) for mark in marks)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{where}: discs: expected a list of objects with 4 or 5 `points`, got {error!r}") from None
