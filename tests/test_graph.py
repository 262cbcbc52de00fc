"""dvc.yaml says what the stages really read: a change of the code reruns what it concerns, and nothing is missed."""

import ast
from itertools import product
from pathlib import Path

import pytest
import yaml

from pipeline.names import TEST_SETS
from pipeline.params import load_params

PROJECT = Path(__file__).parents[1]
GRAPH = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
STAGES = GRAPH["stages"]
CARRIERS = {
    PROJECT / f"{name}.py"
    for name in ("pipeline/allocation", "pipeline/errors", "pipeline/names", "pipeline/params", "stages/command")
}


def imported(path, found=None):
    """The files of this project that a module imports, directly or through others."""
    found = set() if found is None else found
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            file = PROJECT / f"{name.replace('.', '/')}.py"
            if name.startswith(("pipeline.", "stages.")) and file.is_file() and file not in found:
                found.add(file)
                imported(file, found)
    return found


def script(stage):
    """The Python file that a stage runs: `python -m stages.NAME ...`."""
    return PROJECT / f"{stage['cmd'].split()[2].replace('.', '/')}.py"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_the_code_that_it_runs(name):
    needed = {script(STAGES[name]), *imported(script(STAGES[name]))} - (set() if name == "check" else CARRIERS)
    listed = [PROJECT / dependency for dependency in STAGES[name]["deps"]]
    missing = [file for file in needed if not any(file == place or place in file.parents for place in listed)]
    assert not missing, f"{name}: add {sorted(str(file.relative_to(PROJECT)) for file in missing)} to its deps"


@pytest.mark.parametrize("name", ["train", "ablation"])
def test_an_expensive_stage_depends_on_no_code_that_it_does_not_run(name):
    needed = {script(STAGES[name]), *imported(script(STAGES[name]))} - CARRIERS
    listed = [PROJECT / dependency for dependency in STAGES[name]["deps"] if dependency.startswith(("pip", "stages"))]
    idle = [place for place in listed if not any(file == place or place in file.parents for file in needed)]
    assert not idle and PROJECT / "pipeline" not in listed


@pytest.mark.parametrize("name", ["train", "ablation"])
def test_an_expensive_stage_has_only_cached_outs(name):
    assert all(isinstance(out, str) for out in STAGES[name]["outs"])


def test_metrics_are_kept_by_git_and_listed():
    written = {
        next(iter(out)).replace("${item.test_set}", test_set)
        for stage in STAGES.values()
        for out in stage["outs"]
        if isinstance(out, dict) and next(iter(out.values())) == {"cache": False}
        for test_set in TEST_SETS
    }
    assert set(GRAPH["metrics"]) == written == {f"metrics/{name}.json" for name in (*TEST_SETS, "ablation", "data")}


def test_the_matrices_cover_the_test_sets_and_the_grid():
    assert STAGES["evaluate"]["matrix"]["test_set"] == list(TEST_SETS)
    axes = load_params(PROJECT / "params.yaml").ablation
    cells = list(product(axes.backbone, axes.prompts, axes.upsampler))
    assert len(cells) == len(set(cells)) > 1
    assert STAGES["ablation"]["matrix"] == {key: f"${{ablation.{key}}}" for key in ("backbone", "prompts", "upsampler")}


def test_every_parameter_is_a_dependency_of_some_stage():
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    listed = [key for stage in STAGES.values() for key in stage.get("params", [])]
    for key in params:
        assert any(entry.split(".")[0] == key for entry in listed), key
