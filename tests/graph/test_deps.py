"""A stage depends on just the rooms whose code it runs: a change reruns what it concerns, and nothing is missed."""

import ast
from functools import cache
from pathlib import Path

import pytest

from pipeline.data.preparation.catalogue import READERS
from pipeline.scoring.sets import TEST_SETS
from tests.graph.stages import GRAPHS, LINKS, NAMES, PROJECT, resolved

# What changes no result: what carries parameters, whose values are tracked by themselves, how a stage is called and
# interrupted and writes, what is shown of a training.
WITHOUT_EFFECT = {
    "pipeline/params",
    "pipeline/runtime",
    "pipeline/monitoring",
    "pipeline/errors.py",
    "stages/command.py",
}
DEEPER = {"pipeline/data": 3, "pipeline/data/formats": 4}  # rooms apart lie so deep in these
LIBRARIES, OTHER_LIBRARIES = "requirements.txt", "requirements-no-deps.txt"
COPYING = {"choose", *LINKS}  # they link and digest files: no version of a library changes what comes of it


def room(file: Path) -> str:
    """What a stage that runs a file depends on: the folder that is its room, or a file in none."""
    parts = file.relative_to(PROJECT).parts
    depth = max((depth for folder, depth in DEEPER.items() if "/".join(parts).startswith(f"{folder}/")), default=2)
    return "/".join(parts[:depth])


@cache
def imports(file: Path) -> set[Path]:
    """The files of this project that a module imports itself."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = {PROJECT / f"{name.replace('.', '/')}.py" for name in names if name.startswith(("pipeline.", "stages."))}
    return {file for file in files if file.is_file()}


def reached(*files: Path, without: set[str] = WITHOUT_EFFECT) -> set[Path]:
    """These files and all that they import, directly or through others."""
    found, waiting = set(), set(files)
    while waiting := waiting - found:
        found |= waiting
        waiting = {file for known in waiting for file in imports(known) if room(file) not in without}
    return found


def code(stage) -> set[Path]:
    """The files whose code a stage runs. The reader of a data set is imported by its name."""
    readers = [READERS[stage.words[0]]] if stage.module == "stages.preprocess" else []
    files = [PROJECT / f"{reader.replace('.', '/')}.py" for reader in readers]
    # `check` says what is wrong with params.yaml, which the code that reads it decides
    return reached(
        stage.script, *files, without=WITHOUT_EFFECT - ({"pipeline/params"} if stage.name == "check" else set())
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_depends_on_just_the_rooms_whose_code_it_runs(name):
    for stage in resolved()[name]:
        listed = {dep for dep in stage.deps if dep.startswith(("pipeline", "stages"))} - {"pipeline/weights"}  # no code
        needed = {room(file) for file in code(stage)}
        assert listed == needed, f"{stage.name}: add {sorted(needed - listed)}, take {sorted(listed - needed)}"
        assert all((PROJECT / dep).exists() for dep in listed)


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_depends_on_the_libraries_that_it_computes_with(name):
    """Their versions are all in one file; but for those of which models are built."""
    for stage in resolved()[name]:
        more = {PROJECT / "pipeline/model/clipsym.py", PROJECT / "pipeline/data/download/packages.py"}
        reads = bool(more & code(stage)) or name == "check"  # is made of them, or of photographs that they hold
        assert (LIBRARIES in stage.deps, OTHER_LIBRARIES in stage.deps) == (name not in COPYING, reads), stage.name


def test_what_uses_the_shipped_weights_depends_on_them():
    for name, stages in resolved().items():
        uses = name in ("train", "seeds", "evaluate")  # to start from, and to show beside
        assert all(("pipeline/weights" in stage.deps) == uses for stage in stages), name


def test_the_lists_are_short():
    assert sum(len((PROJECT / file).read_text().splitlines()) for file in GRAPHS) <= 450
    for stage in (stage for stages in resolved().values() for stage in stages):
        assert len([dep for dep in stage.deps if dep.endswith(".py")]) <= 4, stage.name


def test_an_evaluation_depends_on_the_images_that_it_scores():
    for stage in resolved()["evaluate"]:
        folders = {Path(dep).parts[3] for dep in stage.deps if dep.startswith("data/packed/model/")}
        assert folders == set(TEST_SETS[stage.words[0]])
