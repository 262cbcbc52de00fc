"""The photographs of `photos.json`, out of installed packages, none of them so large that it outweighs the others."""

import json
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from pipeline.data.reading.images import read_photograph
from pipeline.errors import DataError
from pipeline.runtime.files import save_image

MARKS = Path(__file__).with_name("photos.json")  # where each photograph is, and what is marked in it
LONGEST = 512  # pixels of the longer side; the pixels of all photographs are counted together


def copy_from_packages(root: Path) -> None:
    """Write the photographs, at most 512 pixels long, as NAME.png, and their marks into `root`, which is made.

    Raises DataError where one is not there.
    """
    root.mkdir(parents=True, exist_ok=True)
    entries = json.loads(MARKS.read_text())
    for name, entry in entries.items():
        package = find_spec(entry["package"])
        places = (package and package.submodule_search_locations) or ["nowhere"]
        source = Path(places[0], entry["file"])
        if not source.is_file():
            raise DataError(f"{name}: {entry['file']} is not in package {entry['package']}; install the pinned version")
        image = Image.fromarray(read_photograph(source).turned())
        scale = min(1.0, LONGEST / max(image.size))
        size = [round(scale * side) for side in image.size]
        save_image(image.resize(size, Image.Resampling.LANCZOS), root / f"{name}.png")
        entries[name] |= {key: _scaled(entry[key], scale) for key in ("axes", "discs", "centres")} | {"size": size}
    (root / MARKS.name).write_text(json.dumps(entries, indent=1) + "\n")


def _scaled(marks: list, scale: float) -> list:
    """Marks with all their coordinates scaled; pixel centres are at integers. A fold stays as it is."""
    if marks and isinstance(marks[0], list):
        return [_scaled(mark, scale) for mark in marks]
    places = [scale * (place + 0.5) - 0.5 for place in marks]
    return places[:2] + marks[2:] if len(marks) == 3 else places
