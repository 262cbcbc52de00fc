"""Parts of the graph and other choices, by real `dvc` commands in a copy of the project where nothing has been run."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.project import commit, copied, dvc, f1, run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project."""
    return copied(tmp_path_factory.mktemp("clone"))


def test_a_preset_is_one_command_and_goes_on_cell_by_cell(project):
    dvc(project, "repro", "ablation/dvc.yaml:upsampler@plain-0")
    printed = dvc(project, "repro", "ablation/dvc.yaml:table@upsampler", anew=True)
    assert "upsampler@plain-0' didn't change, skipping" in printed
    assert "Running stage 'ablation/dvc.yaml:upsampler@equivariant-0'" in printed and "prompts@" not in printed
    folder = project / "ablation/tables/upsampler"
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["decoder.upsampler"] for row in rows] == ["equivariant", "plain"]
    assert [row["published_f1"] for row in rows] == ["66.5", "62.9"] and all(float(row["max_f1"]) >= 0 for row in rows)
    assert "| equivariant" in (folder / "table.md").read_text() and r"\toprule" in (folder / "table.tex").read_text()
    figures = json.loads((project / "metrics/ablation_upsampler.json").read_text())["reflection"]
    assert figures["plain"]["max_f1"] == pytest.approx(float(rows[1]["max_f1"]) / 100)
    commit(project, "a preset")


def test_rotation_switches_the_whole_graph(project):
    dvc(project, "exp", "run", "-S", "task=rotation")
    assert 0 <= f1(project, "dendi") <= 1 and f1(project, "photos") is not None
    assert list(json.loads((project / "evaluation/dendi/summary.json").read_text())) == ["rotation"]
    assert json.loads((project / "metrics/sdrw.json").read_text()) == {"sdrw": {"max_f1": None, "f1": None}}
    assert "rotation" in json.loads((project / "metrics/ablation.json").read_text())
    report = (project / "report/report.md").read_text()
    assert "rotation" in report.splitlines()[0] and "sdrw-gallery.png" not in report


def label(folder, number, points=((30, 5), (34, 90))):
    """An image with LabelMe's file."""
    generator = np.random.default_rng(number)
    Image.fromarray(generator.integers(0, 256, (100, 80, 3), np.uint8)).save(folder / f"{number}.jpg")
    (folder / f"{number}.json").write_text(json.dumps({"shapes": [{"shape_type": "line", "points": points}]}))


def choose(project, **sections):
    """Write values into sections of params.yaml."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    for section, values in sections.items():
        params[section] = params[section] | values if isinstance(values, dict) else values
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def test_own_data_train_evaluate_and_are_fetched_anew_when_they_change(project):
    for number in range(6):
        label(project / "data/own", number)
    choose(project, task="reflection", train={"datasets": ["own"]})
    printed = dvc(project, "repro", "evaluate@own")
    assert "Running stage 'fetch_own'" in printed and "Running stage 'fetch@" not in printed
    assert json.loads((project / "evaluation/own/summary.json").read_text())["reflection"]["images"] == 1

    label(project / "data/own", 6, points=((30, 5),))
    (project / "data/own/7.json").write_text("{")
    printed = dvc(project, "repro", "preprocess@own", fails=True)
    assert "own: 2 files are malformed" in printed and "6.json: shape 0" in printed and "7.json: " in printed
    assert "preprocess.faults: skip" in printed and "Traceback" not in printed
    choose(project, preprocess={"faults": "skip"})
    dvc(project, "repro", "data_report")
    counts = json.loads((project / "metrics/data.json").read_text())["own"]
    assert sum(split["fault"] for split in counts.values()) == 2
    assert sum(split["images"] for split in counts.values()) == 6
    assert "7.json" in (project / "data/report/report.md").read_text()


def test_data_come_back_from_a_remote(project, tmp_path):
    run(project, "git", "checkout", "--quiet", "--force", "HEAD")
    dvc(project, "repro", "fetch@dendi", "preprocess@dendi")
    commit(project, "the data")
    dvc(project, "remote", "add", "--default", "lab", str(tmp_path / "storage"))
    dvc(project, "checkout", "--allow-missing")  # most presets have not been run
    dvc(project, "push", "fetch@dendi", "preprocess@dendi")
    clone = tmp_path / "fresh"
    run(tmp_path, "git", "clone", "--quiet", str(project), str(clone))
    dvc(clone, "remote", "add", "--default", "lab", str(tmp_path / "storage"))
    dvc(clone, "pull", "check", "fetch@dendi", "preprocess@dendi", fails=True)  # `check` was not pushed
    printed = dvc(clone, "repro", "preprocess@dendi")
    assert "Running stage 'check'" in printed and "Running stage 'fetch" not in printed
    assert (clone / "data/raw/dendi/reflection_split.pt").is_file()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("trian", {}, "trian: no such key; allowed: ablation, backbone,"),
        ("task", "reflexion", "task: Input should be 'reflection' or 'rotation'; got 'reflexion'"),
        ("backbone", "metaklip", "unknown backbone 'metaklip'; allowed: clip, clip_l14,"),
    ],
)
def test_a_misspelt_parameter_stops_before_any_work(project, key, value, expected):
    original = (project / "params.yaml").read_text()
    try:
        (project / "params.yaml").write_text(yaml.safe_dump({**yaml.safe_load(original), key: value}))
        printed = dvc(project, "repro", fails=True)
    finally:
        (project / "params.yaml").write_text(original)
    assert "params.yaml: " in printed and expected in printed
    assert "Traceback" not in printed and "Running stage 'fetch" not in printed


def test_missing_weights_stop_before_any_work_and_say_both_ways(project):
    printed = dvc(project, "exp", "run", "-S", "backbone=metaclip", fails=True)
    run(project, "git", "checkout", "--quiet", "HEAD", "--", "params.yaml")
    assert "they come from the hub" in printed and "backbones.NAME.weights" in printed
    assert "Running stage 'fetch" not in printed and "Traceback" not in printed
