"""`python -m stages.compare` in a small repository with real Git and DVC, and the workflow that calls it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.project import copied, forked

PROJECT = Path(__file__).parents[2]
GRAPH = """
params: [params.yaml]
metrics: [metrics/dendi.json, metrics/own.json, metrics/cells.json]
stages:
  fetch:
    cmd: cp source.json data.json
    deps: [source.json]
    outs: [data.json]
  ablation:
    cmd: cp data.json metrics/cells.json
    deps: [data.json]
    params: [seed]
    outs: [metrics/cells.json]
"""
DENDI = {"images": 80, "max_f1": 0.67, "f1": 0.65, "random_map_f1": 0.1}
OWN = {"images": 0, "max_f1": None}
TURNED = {"flip": {"max_f1": 0.6}}  # beside the metrics of dvc.yaml


def run(folder, *words):
    if words[0] in ("dvc", "python"):
        return forked(folder, *words)
    return subprocess.run(words, cwd=folder, text=True, capture_output=True)


def done(folder, *words):
    process = run(folder, *words)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def compare(folder, *words, fails=False):
    """The page; the stage must succeed, or must fail."""
    process = run(folder, "python", "-m", "stages.compare", *words)
    assert process.returncode == (1 if fails else 0), process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    assert ("**Failed**:" in process.stdout, "**Passed**:" in process.stdout) == (fails, not fails)
    return process.stdout


def refused(folder, target):
    """The message that stands for the page."""
    process = run(folder, "python", "-m", "stages.compare", target)
    assert process.returncode == 1 and process.stdout == ""
    assert "Traceback" not in process.stderr
    return process.stderr.splitlines()[-1]


def write(folder, **metrics):
    for name, summary in metrics.items():
        (folder / f"metrics/{name}.json").write_text(json.dumps({name: summary}))


def commit(folder, message, all_files=True):
    if all_files:
        done(folder, "git", "add", "--all")
    done(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", message)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository whose first commit, `first`, has other metrics than `main`; DVC keeps one of them in its cache."""
    folder = tmp_path_factory.mktemp("made")
    done(folder, "git", "init", "--quiet", "--initial-branch=main")
    done(folder, "dvc", "init", "--quiet")
    (folder / "metrics").mkdir()
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "params.yaml").write_text("seed: 0\ntask: reflection\n")
    (folder / "source.json").write_text(json.dumps({"reflection": {"lite-none": {"max_f1": 0.5}}}))
    done(folder, "dvc", "repro", "--quiet")
    write(folder, dendi={"images": 80, "max_f1": None})
    commit(folder, "first")
    done(folder, "git", "tag", "first")
    write(folder, dendi=DENDI, own=OWN, robustness=TURNED)
    commit(folder, "second")
    return folder


@pytest.fixture
def repository(made):
    """The same, with the files of `main` again after each test."""
    yield made
    done(made, "git", "checkout", "--quiet", "--force", "main")


def test_nothing_changed(repository):
    page = compare(repository, "main")
    assert "No metric changed." in page and "No parameter changed." in page and "Warning" not in page
    assert "| Path" not in page


def test_an_improvement_and_a_fall_within_what_is_allowed_pass(repository):
    write(repository, dendi=DENDI | {"max_f1": 0.7, "f1": 0.641, "random_map_f1": 0.01})
    (repository / "params.yaml").write_text("seed: 7\ntask: reflection\n")
    page = compare(repository, "main")
    assert re.search(r"\| metrics/dendi.json \| dendi.max_f1 +\| 0.67 +\| 0.7 +\| 0.03 ", page)
    assert re.search(r"\| metrics/dendi.json \| dendi.f1 +\| 0.65 +\| 0.641 ", page)
    assert re.search(r"\| params.yaml \| seed +\| 0 +\| 7 ", page)
    assert "**Warning**: dvc.lock is not current for `ablation` and what depends" in page and "`fetch`" not in page


def test_a_regression_fails_and_is_named(repository):
    write(repository, dendi=DENDI | {"max_f1": 0.6})
    page = compare(repository, "main", fails=True)
    assert "- `metrics/dendi.json` `dendi.max_f1` fell from 67.00 to 60.00: 7.00 points lost, 1.0 allowed" in page
    assert page.count("\n- ") == 1 and "No parameter changed." in page
    assert "no F1 fell by more than 7.0 points" in compare(repository, "main", "--max-drop", "7")


def test_what_is_kept_beside_the_metrics_is_compared(repository):
    write(repository, robustness={"flip": {"max_f1": 0.5}})
    page = compare(repository, "main", fails=True)
    assert "- `metrics/robustness.json` `robustness.flip.max_f1` fell from 60.00 to 50.00" in page
    assert re.search(r"\| metrics/robustness.json \| robustness.flip.max_f1 +\| 0.6 +\| 0.5 ", page)


def test_metrics_of_another_task_fail(repository):
    (repository / "params.yaml").write_text("seed: 0\ntask: rotation\n")
    page = compare(repository, "main", fails=True)
    assert "- `task` is reflection at main, rotation here: their F1 are not of the same" in page
    assert page.count("\n- ") == 1


def test_what_is_missing_here_fails(repository):
    write(repository, dendi={"images": None, "max_f1": 0.67, "random_map_f1": float("nan")})
    (repository / "metrics/own.json").unlink()
    done(repository, "git", "rm", "--quiet", "--cached", "metrics/own.json")
    (repository / "dvc.yaml").write_text(GRAPH.replace(", metrics/cells.json]", "]"))
    done(repository, "git", "rm", "--quiet", "metrics/robustness.json")
    page = compare(repository, "main", fails=True)
    assert "- `metrics/own.json` is missing here: no such file" in page
    for file in ("metrics/cells.json", "metrics/robustness.json"):
        assert f"- `{file}` is missing here: no metric of dvc.yaml, and no such file" in page
    assert "- `metrics/dendi.json` `dendi.f1`: a number at main, missing here" in page
    assert "- `metrics/dendi.json` `dendi.images`: a number at main, null here" in page
    assert "- `metrics/dendi.json` `dendi.random_map_f1`: a number at main, not finite here" in page
    assert page.count("\n- ") == 6


def test_what_is_missing_there_fails(repository):
    page = compare(repository, "first", fails=True)
    assert "- `metrics/own.json` is missing at first: no such file" in page
    assert "- `metrics/dendi.json` `dendi.f1`: missing at first, a number here" in page
    assert "- `metrics/dendi.json` `dendi.max_f1`: null at first, a number here" in page
    assert "- `metrics/robustness.json` is missing at first: no metric of dvc.yaml, and no such file" in page
    assert page.count("\n- ") == 5


def test_a_damaged_metric_fails(repository):
    (repository / "metrics/dendi.json").write_text("{")
    (repository / "metrics/own.json").write_text("0.5")
    page = compare(repository, "main", fails=True)
    assert "- `metrics/dendi.json` is missing here: JSONDecodeError: Expecting property name" in page
    assert "- `metrics/own.json` is missing here: no JSON object" in page


def test_a_cached_metric_whose_cache_is_not_there_fails(made, tmp_path):
    """In a fresh clone, where DVC stops at a changed stage whose data are missing instead of listing it."""
    done(tmp_path, "git", "clone", "--quiet", str(made), "clone")
    (tmp_path / "clone/params.yaml").write_text("seed: 7\ntask: reflection\n")
    page = compare(tmp_path / "clone", "origin/main", fails=True)
    for place in ("at origin/main", "here"):
        assert f"- `metrics/cells.json` is missing {place}: not in DVC's cache; `dvc fetch --all-branches`" in page
    assert page.count("\n- ") == 2
    assert "**Warning**: dvc.lock is not current for `ablation` and what depends" in page


def test_a_shallow_clone_is_told_how_to_fetch_the_history(made, tmp_path):
    done(tmp_path, "git", "clone", "--quiet", "--depth", "1", made.as_uri(), "clone")
    for target in ("origin/feature", "first", "HEAD~1"):
        message = refused(tmp_path / "clone", target)
        assert message.startswith(f"UserError: no Git revision '{target}' here. Fetch the history: `fetch-depth: 0`")
    assert "`git fetch origin feature:" in refused(tmp_path / "clone", "origin/feature")


def test_a_project_below_the_root_of_its_git_repository(made, tmp_path):
    """One of its metrics is in DVC's cache only."""
    folder = tmp_path / "deep/project"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns(".git"))
    done(tmp_path, "git", "init", "--quiet", "--initial-branch=main")
    (tmp_path / "readme").write_text("before the project")
    done(tmp_path, "git", "add", "readme")
    commit(tmp_path, "outer", all_files=False)
    commit(tmp_path, "with the project")
    page = compare(folder, "main")
    assert "No metric changed." in page and "No parameter changed." in page and "Warning" not in page
    write(folder, dendi=DENDI | {"max_f1": 0.6})
    (folder / "params.yaml").write_text("seed: 7\ntask: reflection\n")
    page = compare(folder, "HEAD", fails=True)
    assert "- `metrics/dendi.json` `dendi.max_f1` fell from 67.00 to 60.00" in page
    assert page.count("\n- ") == 1
    assert re.search(r"\| params.yaml \| seed +\| 0 +\| 7 ", page)
    assert "HEAD~1: Commit" in refused(folder, "HEAD~1") and "does not contain a DVC repo" in refused(folder, "HEAD~1")


ANYWHERE = {"reproducible": "anywhere", "device": "x86-64 with AVX2", "threads": 2, "torch": "2.14.1"}


def test_metrics_of_another_machine_may_fall_by_the_noise(repository):
    """Which is measured for some of them; of the others, and of those that were made alike, none may."""
    provenance = repository / "metrics/provenance"
    provenance.mkdir()
    (provenance / "dendi.json").write_text(json.dumps(ANYWHERE))
    (repository / "metrics/spread.json").write_text(json.dumps({"dendi": {"max_f1": 0.01, "f1": 0.001}}))
    commit(repository, "with its provenance")
    write(repository, dendi=DENDI | {"max_f1": 0.65})
    page = compare(repository, "HEAD", fails=True)
    assert "2.00 points lost, 1.0 allowed" in page and "Not comparable" not in page
    (provenance / "dendi.json").write_text(json.dumps(ANYWHERE | {"reproducible": "machine", "device": "AMD EPYC"}))
    page = compare(repository, "HEAD")
    assert "**Noise**:\n\n- `metrics/dendi.json` `dendi.max_f1` fell from 67.00 to 65.00" in page
    assert "**Not comparable to the last bit**" in page and page.count("\n- ") == 2
    assert (
        "- at HEAD made with reproducible anywhere, device x86-64 with AVX2, threads 2, torch 2.14.1, here with "
        "reproducible machine, device AMD EPYC, threads 2, torch 2.14.1: `metrics/dendi.json`"
    ) in page
    write(repository, dendi=DENDI | {"max_f1": 0.6, "f1": 0.645})
    page = compare(repository, "HEAD", fails=True)
    assert "7.00 points lost, 2.83 allowed" in page and "0.50 points lost, 0.28 allowed" in page
    page = compare(repository, "main~1", fails=True)
    assert "at main~1 made with what is not known, here with reproducible machine" in page
    done(repository, "git", "reset", "--hard", "--quiet", "HEAD~1")


def test_a_linked_worktree(repository, tmp_path):
    done(repository, "git", "worktree", "add", "--quiet", str(tmp_path / "tree"), "-b", "feature")
    write(tmp_path / "tree", dendi=DENDI | {"max_f1": 0.6})
    page = compare(tmp_path / "tree", "main", fails=True)
    assert "- `metrics/dendi.json` `dendi.max_f1` fell from 67.00 to 60.00" in page
    done(repository, "git", "worktree", "remove", "--force", str(tmp_path / "tree"))
    done(repository, "git", "branch", "-D", "feature")


def test_a_folder_without_git_is_refused(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    assert "UserError: Git cannot read this folder's history: fatal: not a git rep" in refused(
        tmp_path / "copy", "main"
    )


def test_a_target_or_a_checkout_that_dvc_cannot_read_is_refused(repository):
    assert "no Git revision 'main:params.yaml'" in refused(repository, "main:params.yaml")
    (repository / "dvc.yaml").write_text("metrics: [")
    assert refused(repository, "main").startswith("UserError: this checkout: unable to read: 'dvc.yaml'")


def test_tests_find_a_project_below_the_root_of_its_git_repository(tmp_path):
    """Of which they copy the files that Git knows or would take, with their small parameters."""
    project, copy = tmp_path / "outer/sub", tmp_path / "copy"
    copy.mkdir()
    for name in ("tests/golden/map.npz", "ablation/dvc.lock", "new.py", "ignored"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    shutil.copy(PROJECT / "params.yaml", project)
    (project / ".gitignore").write_text("ignored\n")
    done(tmp_path, "git", "init", "--quiet", "outer")
    copied(copy, project)
    assert done(copy, "git", "ls-files").split() == [".gitignore", "new.py", "params.yaml"]
    assert yaml.safe_load((copy / "params.yaml").read_text())["backbone"] == "tiny"


WORKFLOW = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())
STEPS = WORKFLOW["jobs"]["ci"]["steps"]


def test_the_workflow_calls_targets_of_the_makefile():
    assert set(WORKFLOW[True]) == {"pull_request", "push"}  # YAML reads `on` as true
    called = re.findall(r"\bmake ([\w-]+)", "\n".join(step.get("run", "") for step in STEPS))
    assert called == ["test", "compare"]
    makefile = (PROJECT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in called)
    assert STEPS[0]["with"]["fetch-depth"] == 0


@pytest.mark.parametrize("status", [0, 1])
def test_the_workflow_shows_the_page_and_fails_with_it(tmp_path, status):
    (tmp_path / "make").write_text(f'#!/bin/sh\necho "page: $*"\nexit {status}\n')
    (tmp_path / "make").chmod(0o755)
    summary = {"BASE": "main", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    environment = os.environ | summary | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.run(["bash", "-e", "-c", STEPS[-1]["run"]], env=environment, text=True, capture_output=True)
    assert process.returncode == status
    assert process.stdout == (tmp_path / "summary").read_text() == "page: compare TARGET=origin/main\n"
