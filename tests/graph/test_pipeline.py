"""The whole graph as its users run it: real `dvc` commands in a copy of the project, on a small scale."""

import csv
import io
import json
import re
import shlex

import pytest

from tests.project import PROJECT, commit, copied, dvc, f1, run

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
        assert metrics == {"max_f1": summary["max_f1"], "f1": summary["f1_at_validation_threshold"]}
        assert 0 <= metrics["f1"] <= metrics["max_f1"] <= 1
        assert summary["images"] > 0 and 0 < summary["centre_map_f1"] < 1
        assert f"({test_set}-gallery.png)" in report
        assert (project / f"report/{test_set}-gallery.png").stat().st_size > 1000
        assert len((project / f"evaluation/{test_set}/pr.csv").read_text().splitlines()) == 101
    assert json.loads((project / "metrics/own.json").read_text()) == {"own": {"max_f1": None, "f1": None}}
    assert json.loads((project / "metrics/ablation.json").read_text())["reflection"]["tiny-none-plain"]["max_f1"] >= 0
    robustness = json.loads((project / "metrics/robustness.json").read_text())["reflection"]
    assert robustness["identity"]["model_mean_difference"] == 0 < robustness["rotation"]["model_mean_difference"] < 1
    assert "not comparable" in report.lower()
    data = json.loads((project / "metrics/data.json").read_text())
    assert data["dendi"]["train"]["images"] == 8 and all(
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
    assert max(map(len, table)) <= 200 >= max(map(len, dvc(project, "metrics", "show").splitlines()))
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
