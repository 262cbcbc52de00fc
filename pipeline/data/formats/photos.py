"""Photographs that installed packages carry, with marks made by hand for this project; for evaluation only."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.errors import DataError
from pipeline.params.choices import Task

MARKS = Path(__file__).with_name("photos.json")


def samples(root: Path, task: Task) -> list[Sample]:
    """The photographs with marks for `task`; `root` holds them as NAME.png or NAME.jpg beside `photos.json`."""
    marks = json.loads((root / MARKS.name).read_text())
    photographs = [
        Sample(name, root / f"{name}{Path(entry['file']).suffix}", _annotation(entry)) for name, entry in marks.items()
    ]
    return [photo for photo in photographs if photo.annotation.serves(task)]


def _annotation(entry: dict) -> Annotation:
    return Annotation(
        axes=tuple(ReflectionAxis(*axis) for axis in entry["axes"]),
        discs=tuple(ReflectionDisc(tuple((x, y) for x, y in disc)) for disc in entry["discs"]),
        centres=tuple(RotationCentre(*centre) for centre in entry["centres"]),
    )


def copy_from_packages(root: Path) -> None:
    """Copy the photographs from the installed packages, and the marks, into `root`, which is made."""
    root.mkdir(parents=True, exist_ok=True)
    for name, entry in json.loads(MARKS.read_text()).items():
        package = find_spec(entry["package"])
        places = (package and package.submodule_search_locations) or ["nowhere"]
        source = Path(places[0], entry["file"])
        if not source.is_file():
            raise DataError(f"{name}: {entry['file']} is not in package {entry['package']}; install the pinned version")
        shutil.copyfile(source, root / f"{name}{source.suffix}")
    shutil.copyfile(MARKS, root / MARKS.name)
