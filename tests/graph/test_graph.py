"""The graphs hang together: outs, metrics, matrices, links to named files, presets and their tables."""

import json
import re
from itertools import product
from pathlib import Path

import pytest
import yaml

from pipeline.data.preparation.catalogue import SPLITS
from pipeline.params import load_params
from pipeline.params.project import named_files
from pipeline.reporting.presets import cell_names, preset_table
from pipeline.reporting.published import PUBLISHED_CELLS
from pipeline.scoring.sets import TEST_SETS
from stages.compare import BESIDES
from tests.graph.stages import FILES, GRAPHS, LINKS, PROJECT, resolved

PARAMS = load_params(PROJECT / "params.yaml")
MAIN, PRESETS, WEIGHTS = (GRAPHS[file] for file in FILES)
CELLS = [name for name in PRESETS if name not in ("table", "spread")]
EXPENSIVE = ["train", "ablation", *CELLS, "synthesize", "label", "weights", "further"]


@pytest.mark.parametrize("name", EXPENSIVE)
def test_an_expensive_stage_has_only_cached_outs(name):
    stages = MAIN | PRESETS | WEIGHTS
    assert all(isinstance(out, str) for out in stages[name].get("do", stages[name])["outs"])


def test_the_main_graph_does_not_wait_for_the_weights():
    """Neither for the presets: a stage waits for whatever writes into a folder that it depends on."""
    outs = {
        Path((out if isinstance(out, str) else next(iter(out))).split("$")[0])
        for stage in [*PRESETS.values(), *WEIGHTS.values()]
        for out in stage.get("do", stage).get("outs", [])
    }
    deps = {Path(dep) for name in MAIN for stage in resolved()[name] for dep in stage.deps}
    assert not [dep for dep in deps for out in outs if dep == out or dep in out.parents]


def test_composites_depend_on_the_marks_that_their_command_names():
    for stage in resolved()["synthesize"]:
        assert stage.changes.get("synthetic.marks", "data/named/synthetic.marks") in stage.deps, stage.name


def test_metrics_are_kept_by_git_and_listed():
    written = {
        next(iter(out)).replace("${key}", test_set)
        for stage in MAIN.values()
        for out in stage.get("do", stage)["outs"]
        if isinstance(out, dict) and next(iter(out.values())) == {"cache": False}
        for test_set in TEST_SETS
    }
    content = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
    assert content["metrics"] == [f"metrics/{name}.json" for name in TEST_SETS]
    of_models = {*content["metrics"], *BESIDES} - {"metrics/data.json"}
    provenance = {file.replace("metrics/", "metrics/provenance/") for file in of_models}
    assert {*content["metrics"], *BESIDES, *provenance} == written
    for name, file in zip(TEST_SETS, content["metrics"]):  # else `dvc exp show` puts the file before each key
        assert list(json.loads((PROJECT / file).read_text())) == [name]
    presets = yaml.safe_load((PROJECT / "ablation/dvc.yaml").read_text())
    assert "metrics" not in presets  # they would be missed where a preset has not been run


def test_the_matrices_cover_the_data_the_test_sets_and_the_grid():
    assert list(MAIN["evaluate"]["foreach"]) == list(TEST_SETS)
    assert list(MAIN["preprocess"]["foreach"]) == list(SPLITS) == [*MAIN["fetch"]["foreach"], "photos", "own"]
    axes = PARAMS.ablation
    cells = list(product(axes.backbone, axes.prompts, axes.upsampler))
    assert len(cells) == len(set(cells)) > 1
    assert MAIN["ablation"]["matrix"] == {key: f"${{ablation.{key}}}" for key in ("backbone", "prompts", "upsampler")}


def test_every_parameter_is_a_dependency_of_some_stage():
    sections = {key.split(".")[0] for stages in resolved().values() for stage in stages for key in stage.keys}
    free = {"machine"}  # how fast a training runs
    assert set(type(PARAMS).model_fields) - free == sections


def named_keys():
    """The keys that name files; those of one backbone stand for those of all."""
    return {re.sub(r"^backbones\.\w+", "backbones.NAME", key) for key, _ in named_files(PARAMS)}


def test_every_named_file_is_linked_for_dvc():
    linked = set()
    for stage in (stage for name in LINKS for stage in resolved()[name]):
        keys = {key for key in named_keys() if f"{key}.".startswith(tuple(f"{word}." for word in stage.words))}
        outs = {out.removeprefix("data/named/") for out in stage.outs}
        assert outs == {f"{'-'.join(stage.words)}.paths", *keys} - {"backbones.NAME.weights"}
        assert {re.sub(r"^backbones$", "backbones.NAME.weights", key) for key in stage.keys} - {"data"} == keys
        assert ("data" in stage.keys) == (stage.words[0].startswith("published"))  # else they are not used
        linked |= keys
    assert linked == named_keys()
    for stage in ({**MAIN, **WEIGHTS}[name] for name in LINKS):
        options = [next(iter(out.values())) for out in stage.get("do", stage)["outs"]]
        assert options == [{"cache": False, "persist": True}] * len(options)


def test_what_the_published_figures_are_of_is_what_the_cells_set():
    """Their keys are the values that a cell's command sets, in its order."""
    cells = {"grid": MAIN["ablation"], **PRESETS}
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


@pytest.mark.parametrize("name", CELLS)
def test_a_preset_varies_by_seed_and_writes_where_its_table_reads(name):
    stage = PRESETS[name]
    cell = "-".join(f"${{item.{axis}}}" for axis in stage["matrix"])
    assert list(stage["matrix"])[-1] == "seed" and stage["outs"] == [f"models/ablation/{name}/{cell}"]
    assert stage["cmd"].split()[3] == f"{name}/{cell}" and name in [*PRESETS["table"]["matrix"]["preset"], "seeds"]
    names = cell_names(stage["matrix"], PARAMS.presets)
    assert len(set(names)) == len(names) > 2


def test_cell_names_are_those_of_dvc():
    for name in CELLS:
        ours = {f"{name}@{cell}" for cell in cell_names(PRESETS[name]["matrix"], PARAMS.presets)}
        assert ours == {stage.name for stage in resolved()[name]}
