"""The rooms of the house: imports point down, and the README lists the rooms in this order."""

import re

import pytest

from tests.graph.stages import PROJECT
from tests.graph.test_deps import imports

# From the top: a floor may import from those below it, and the rooms of one floor not from one another.
FLOORS = """
stages/ pipeline/cli.py
pipeline/application/ pipeline/reporting/
pipeline/evaluation/ pipeline/training/
pipeline/monitoring/ pipeline/inference/
pipeline/conversion/
pipeline/scoring/
pipeline/detection/
pipeline/model/
pipeline/data/report/
pipeline/data/preparation/
pipeline/data/synthesis/ pipeline/data/download/
pipeline/data/formats/
pipeline/data/packed/
pipeline/data/reading/
pipeline/figures/ pipeline/processes.py
pipeline/annotations.py pipeline/geometry.py
pipeline/runtime/ pipeline/params/
pipeline/errors.py
"""
HEIGHT = {room: -number for number, floor in enumerate(FLOORS.split("\n")) for room in floor.split()}
MODULES = [file for name in ("stages", "pipeline") for file in PROJECT.glob(f"{name}/**/*.py") if file.read_text()]


def room(file):
    name = file.relative_to(PROJECT).as_posix()
    return next((place for place in HEIGHT if name.startswith(place)), None)


@pytest.mark.parametrize("place", HEIGHT)
def test_imports_point_down(place):
    inside = [file for file in MODULES if room(file) == place]
    outside = {
        (file, other) for file in inside for other in imports(file) if other.read_text() and room(other) != place
    }
    up = [f"{file} imports {other}" for file, other in outside if HEIGHT[room(other)] >= HEIGHT[place]]
    assert inside and not up


def test_every_module_is_in_a_room():
    """But for the package itself, which hands out two functions of the application when they are asked for."""
    assert [file for file in MODULES if room(file) is None] == [PROJECT / "pipeline/__init__.py"]


def test_the_readme_shows_the_rooms_in_this_order():
    blocks = (PROJECT / "README.md").read_text().split("```")[1::2]
    lists = [re.findall(rf"^({'|'.join(map(re.escape, HEIGHT))})\s", block, re.MULTILINE) for block in blocks]
    (rooms,) = [found for found in lists if len(found) > 9]
    assert set(rooms) == set(HEIGHT) and [HEIGHT[room] for room in rooms] == sorted(HEIGHT.values(), reverse=True)
