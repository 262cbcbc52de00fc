"""dvc.yaml says what the stages really read: a change of the code reruns what it concerns, and nothing is missed."""

import ast
import re
from itertools import product
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from pipeline.params import DecoderParams, PromptParams, TrainParams, load_params
from pipeline.params.values import named_files
from pipeline.reporting.presets import cell_names, preset_table
from pipeline.reporting.published import PUBLISHED_CELLS
from pipeline.scoring.sets import TEST_SETS

PROJECT = Path(__file__).parents[2]
GRAPH = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
PRESETS = yaml.safe_load((PROJECT / "ablation" / "dvc.yaml").read_text())
WEIGHTS = yaml.safe_load((PROJECT / "weights" / "dvc.yaml").read_text())
STAGES = (
    GRAPH["stages"] | PRESETS["stages"] | {name: stage.get("do", stage) for name, stage in WEIGHTS["stages"].items()}
)
EXPENSIVE = [
    "train",
    "ablation",
    "synthesize",
    "weights",
    "label",
    "taught",
    "further",
    *(name for name in PRESETS["stages"] if name != "table"),
]
WITHOUT_EFFECT = {
    *(
        PROJECT / "pipeline" / f"{name}.py"
        for name in (
            "allocation",
            "changes",
            "errors",
            "figures",
            "interruption",
            "names",
            "params",
            "project",
            "resources",
            "values",
        )
    ),
    PROJECT / "stages" / "command.py",
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


def listed(stage):
    """The keys of params.yaml that a stage depends on."""
    entries = [e["params.yaml"] if isinstance(e, dict) else [e] for e in stage.get("params", [])]
    return [key for keys in entries for key in keys]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_the_code_that_it_runs(name):
    needed = {script(STAGES[name]), *imported(script(STAGES[name]))} - (set() if name == "check" else WITHOUT_EFFECT)
    listed = [PROJECT / dependency for dependency in STAGES[name]["deps"]]
    missing = [file for file in needed if not any(file == place or place in file.parents for place in listed)]
    assert not missing, f"{name}: add {sorted(str(file.relative_to(PROJECT)) for file in missing)} to its deps"


@pytest.mark.parametrize("name", EXPENSIVE)
def test_an_expensive_stage_depends_on_no_code_that_it_does_not_run(name):
    needed = {script(STAGES[name]), *imported(script(STAGES[name]))} - WITHOUT_EFFECT
    listed = [PROJECT / dependency for dependency in STAGES[name]["deps"] if dependency.startswith(("pip", "stages"))]
    idle = [place for place in listed if not any(file == place or place in file.parents for file in needed)]
    assert not idle and PROJECT / "pipeline" not in listed


@pytest.mark.parametrize("name", EXPENSIVE)
def test_an_expensive_stage_has_only_cached_outs(name):
    assert all(isinstance(out, str) for out in STAGES[name]["outs"])


def test_the_main_graph_does_not_wait_for_the_weights():
    """Neither for the presets: a stage waits for whatever writes into a folder that it depends on."""
    outs = {
        Path((out if isinstance(out, str) else next(iter(out))).split("$")[0])
        for graph in (PRESETS, WEIGHTS)
        for stage in graph["stages"].values()
        for out in stage.get("do", stage).get("outs", [])
    }
    deps = {Path(dep.split("$")[0]) for stage in GRAPH["stages"].values() for dep in stage["deps"] if dep[0] != "$"}
    assert not [dep for dep in deps for out in outs if dep == out or dep in out.parents]


def test_metrics_are_kept_by_git_and_listed():
    written = {
        next(iter(out)).replace("${item.test_set}", test_set)
        for stage in GRAPH["stages"].values()
        for out in stage["outs"]
        if isinstance(out, dict) and next(iter(out.values())) == {"cache": False}
        for test_set in TEST_SETS
    }
    names = (*TEST_SETS, "robustness", "ablation", "data")
    assert set(GRAPH["metrics"]) == written == {f"metrics/{name}.json" for name in names}
    assert "metrics" not in PRESETS  # they would be missed where a preset has not been run


def test_the_matrices_cover_the_test_sets_and_the_grid():
    assert STAGES["evaluate"]["matrix"]["test_set"] == list(TEST_SETS)
    axes = load_params(PROJECT / "params.yaml").ablation
    cells = list(product(axes.backbone, axes.prompts, axes.upsampler))
    assert len(cells) == len(set(cells)) > 1
    assert GRAPH["stages"]["ablation"]["matrix"] == {
        key: f"${{ablation.{key}}}" for key in ("backbone", "prompts", "upsampler")
    }


def test_every_parameter_is_a_dependency_of_some_stage():
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    entries = [key for stage in STAGES.values() for key in listed(stage)]
    for key in params:
        assert any(entry.split(".")[0] == key for entry in entries), key


def changed_by(name):
    """The keys that a stage's command changes, whatever its cell."""
    cells = WEIGHTS["stages"].get(name, {}).get("foreach", {None: ""}).values()
    texts = [item if isinstance(item, str) else item.get("words", "") for item in cells]
    words = [f"{STAGES[name]['cmd']} {text}".split()[3:] for text in texts]
    return set.intersection(*({word.split("=")[0] for word in some if "=" in word} for some in words))


def named_keys():
    """The keys that name files; those of one backbone stand for those of all."""
    keys = [key for key, _ in named_files(load_params(PROJECT / "params.yaml"))]
    return {re.sub(r"^backbones\.\w+", "backbones.NAME", key) for key in keys}


NAMING = {name: STAGES[name] for name in ("sources", "named", "photographs")}


@pytest.mark.parametrize("name", [name for name in STAGES if name not in NAMING])
def test_a_stage_that_reads_the_name_of_a_file_depends_on_its_content(name):
    deps = [dep.removeprefix("data/named/") for dep in STAGES[name]["deps"]]
    for entry in listed(STAGES[name]):
        backbone = entry.split(".")[1] if entry.startswith("backbones.") else ""
        for key in named_keys():
            key = key.replace("NAME", backbone)
            if f"{key}.".startswith(f"{entry}.") and key not in changed_by(name):
                assert key in deps, f"{name}: add data/named/{key} to its deps"


def test_every_named_file_is_linked_for_dvc():
    outs = {next(iter(out)).removeprefix("data/named/") for stage in NAMING.values() for out in stage["outs"]}
    lists = {"-".join(stage["cmd"].split()[3:]) for stage in NAMING.values()}
    assert outs == named_keys() - {"backbones.NAME.weights"} | lists
    assert all(
        next(iter(out.values())) == {"cache": False, "persist": True} for s in NAMING.values() for out in s["outs"]
    )
    sections = [word for stage in NAMING.values() for word in stage["cmd"].split()[3:]]
    assert sorted(sections) == sorted({key.split(".")[0] for key in named_keys()})
    for stage in NAMING.values():
        for key in named_keys() & {key.removeprefix("data/named/") for out in stage["outs"] for key in out}:
            assert key in listed(stage)


FIXED = {"datasets", "epochs"}  # by pipeline.evaluation.cells.short
FREE = {"workers"}  # how fast it runs, not what comes of it
CELLS = ["ablation", *(name for name in PRESETS["stages"] if name != "table")]


@pytest.mark.parametrize("name", ["train", "weights", "further", *CELLS])
def test_a_training_depends_on_just_the_parameters_that_change_it(name):
    """Those that its command sets, or that a short run replaces, are none of them."""
    stage, sections = STAGES[name], {"train": TrainParams, "decoder": DecoderParams, "prompts": PromptParams}
    if "prompts.kind=none" in stage["cmd"]:
        del sections["prompts"]
    leaves = {f"{section}.{key}" for section, type_ in sections.items() for key in type_.model_fields}
    without = {f"train.{key}" for key in (FIXED | FREE if name in CELLS else FREE)}
    found, entries = set(), listed(stage)
    assert len(entries) == len(set(entries))
    for entry in entries:
        section, _, key = entry.partition(".")
        if section in sections:
            found |= {entry} if key else {f"{section}.{field}" for field in sections[section].model_fields}
    assert found == leaves - without - changed_by(name)


def test_what_the_published_figures_are_of_is_what_the_cells_set():
    """Their keys are the values that a cell's command sets, in its order."""
    cells = {"grid": GRAPH["stages"]["ablation"]} | {name: PRESETS["stages"][name] for name in PRESETS["stages"]}
    for preset, by_task in PUBLISHED_CELLS.items():
        words = [word.partition("=") for word in cells[preset]["cmd"].split()[3:] if "=" in word]
        words = [(key, value) for key, _, value in words if key != "seed"]
        for task, figures in by_task.items():
            for values, figure in figures.items():
                assert all(set_ in ("${item." + set_[7:], str(value)) for (_, set_), value in zip(words, values))
                changes = dict(zip([key for key, _ in words], values, strict=True))
                score = {"max_f1": 0.5, "validation_f1": 0.5}
                table = preset_table(preset, [{"changes": changes | {"seed": 0}, "task": task, **score}])
                assert table["published_f1"].tolist() == [figure]


@pytest.mark.parametrize("name", [name for name in PRESETS["stages"] if name != "table"])
def test_a_preset_varies_by_seed_and_writes_where_its_table_reads(name):
    stage = PRESETS["stages"][name]
    cell = "-".join(f"${{item.{axis}}}" for axis in stage["matrix"])
    assert list(stage["matrix"])[-1] == "seed" and stage["outs"] == [f"models/ablation/{name}/{cell}"]
    assert stage["cmd"].split()[3] == f"{name}/{cell}" and name in PRESETS["stages"]["table"]["matrix"]["preset"]
    params = load_params(PROJECT / "params.yaml")
    assert len(set(cell_names(stage["matrix"], params))) == len(cell_names(stage["matrix"], params)) > 2


def test_cell_names_are_those_of_dvc():
    params = load_params(PROJECT / "params.yaml")
    presets = {name: stage["matrix"] for name, stage in PRESETS["stages"].items() if name != "table"}
    ours = {f"{name}@{cell}" for name, matrix in presets.items() for cell in cell_names(matrix, params)}
    stages = Repo(PROJECT).stage.load_all(str(PROJECT / "ablation" / "dvc.yaml"))
    assert ours == {stage.name for stage in stages if not stage.name.startswith("table@")}
