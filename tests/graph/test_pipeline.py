"""The whole graph as its users run it: real `dvc` commands in a copy of the project, on a small scale."""

import csv
import io
import json
import re
import shlex

import pytest
import yaml

from tests.project import PROJECT, choose, commit, copied, dvc, f1, label, run

TEST_SETS = ("dendi", "sdrw", "ldrs", "mixed", "photos")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project after one `dvc repro`, committed."""
    folder = copied(tmp_path_factory.mktemp("clone"))
    dvc(folder, "repro", anew=True)
    commit(folder, "small run")
    return folder


def test_repro_leaves_a_report_and_small_metrics(project):
    report = (project / "report/report.md").read_text()
    for test_set in TEST_SETS:
        summary = json.loads((project / f"evaluation/{test_set}/summary.json").read_text())["reflection"]
        metrics = json.loads((project / f"metrics/{test_set}.json").read_text())[test_set]
        axes = summary["axes"]
        assert metrics == {
            "max_f1": summary["max_f1"], "f1": summary["f1_at_validation_threshold"],
            "axes_sap10": axes["sap"]["released"]["10"], "axes_max_f1": axes["max_f1"], "axes_f1": axes["f1"],
        }  # fmt: skip
        assert axes["marked"] > 0 and 0 <= axes["f1"] <= axes["max_f1"] <= 1
        assert 0 <= metrics["f1"] <= metrics["max_f1"] <= 1
        assert summary["images"] > 0 and summary["shipped"]["axes"]["marked"] == axes["marked"]
        untrained = json.loads((project / f"evaluation/baselines/{test_set}.json").read_text())["reflection"]
        assert 0 < untrained["centre map"]["max_f1"] < 1 and untrained["classical"]["axes"]["marked"] == axes["marked"]
        assert f"({test_set}-gallery.png)" in report
        assert (project / f"report/{test_set}-gallery.png").stat().st_size > 1000
        assert len((project / f"evaluation/{test_set}/pr.csv").read_text().splitlines()) == 101
    nothing = dict.fromkeys(("max_f1", "f1", "axes_sap10", "axes_max_f1", "axes_f1"))
    assert json.loads((project / "metrics/own.json").read_text()) == {"own": nothing}
    assert json.loads((project / "metrics/ablation.json").read_text())["reflection"]["tiny-none-plain"]["max_f1"] >= 0
    robustness = json.loads((project / "metrics/robustness.json").read_text())["reflection"]
    assert robustness["identity"]["model_mean_difference"] == 0 < robustness["rotation"]["model_mean_difference"] < 1
    assert "not comparable" in report.lower()
    data = json.loads((project / "metrics/data.json").read_text())
    assert data["dendi"]["train"]["images"] == 16 and all(  # twice as many as of the others
        s["fault"] == 0 for splits in data.values() for s in splits.values()
    )
    assert "<table>" in (project / "data/report/report.html").read_text()


def test_repro_again_does_nothing(project):
    assert "Data and pipelines are up to date." in run(project, "dvc", "repro")
    assert run(project, "git", "status", "--porcelain") == ""


def test_git_keeps_metrics_and_ignores_data(project):
    tracked = run(project, "git", "ls-files").splitlines()
    names = (*TEST_SETS, "own", "robustness", "ablation", "data")
    assert {f"metrics/{name}.json" for name in names} <= set(tracked)
    assert not [file for file in tracked if file.startswith(("data/raw/dendi/", "models/main/", "report/"))]


def test_experiments_are_tracked_restored_and_compared(project, tmp_path):
    before = {test_set: f1(project, test_set) for test_set in TEST_SETS}
    printed = dvc(project, "exp", "run", "-n", "plain", "-S", "decoder.upsampler=plain")
    assert "Running stage 'train'" in printed and "Running stage 'ablation" not in printed
    shown = dvc(project, "exp", "show", "--csv")
    rows = {row["Experiment"]: row for row in csv.DictReader(io.StringIO(shown))}
    assert rows["plain"]["decoder.upsampler"] == "plain"
    assert float(rows["plain"]["dendi.max_f1"]) == pytest.approx(f1(project, "dendi"), rel=1e-3)
    (command,) = re.findall("^(dvc exp show .*?) *#", (PROJECT / "docs/remote.md").read_text(), re.MULTILINE)
    table = dvc(project, *shlex.split(command)[1:]).splitlines()
    assert "dendi.max_f1" in table[1] and "decoder.upsampler" in table[1] and "/" not in table[1]
    assert max(map(len, table)) <= 200
    assert max(map(len, dvc(project, "metrics", "show", "metrics/dendi.json").splitlines())) <= 120
    commit(project, "plain upsampler")

    clone = tmp_path / "fresh"
    run(tmp_path, "git", "clone", "--quiet", str(project), str(clone))
    changes = json.loads(dvc(clone, "metrics", "diff", "HEAD~1", "--json"))
    change = changes["metrics/dendi.json"]["dendi.max_f1"]
    assert change["old"] == pytest.approx(before["dendi"]) and change["new"] == pytest.approx(f1(project, "dendi"))

    run(project, "git", "checkout", "--quiet", "HEAD~1", "--", "params.yaml")
    printed = dvc(project, "repro", "evaluate@mixed", "evaluate@photos")
    assert "Stage 'train' is cached - skipping run" in printed
    assert {test_set: f1(project, test_set) for test_set in ("mixed", "photos")} == {
        test_set: before[test_set] for test_set in ("mixed", "photos")
    }


def test_a_preset_is_one_command_and_goes_on_cell_by_cell(project):
    run(project, "git", "checkout", "--quiet", "--force", "HEAD")
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
    nothing = dict.fromkeys(("max_f1", "f1", "centres_sap10", "centres_max_f1", "centres_f1"))
    assert json.loads((project / "metrics/sdrw.json").read_text()) == {"sdrw": nothing}
    assert "rotation" in json.loads((project / "metrics/ablation.json").read_text())
    report = (project / "report/report.md").read_text()
    assert "rotation" in report.splitlines()[0] and "sdrw-gallery.png" not in report


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
