"""What is said of a user's mistake: of params.yaml by `check`, of a stage that is called wrongly."""

import os
from pathlib import Path

import pytest

from stages import check
from stages.command import run_stage
from tests.project import called, run


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """In which `dvc exp run` would run."""
    run(tmp_path, "git", "init", "--quiet")
    run(tmp_path, "git", "config", "core.trustctime", "false")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    run(tmp_path, "git", "add", "params.yaml")
    run(tmp_path, "git", "commit", "--quiet", "-m", "as it was")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "project", Path.cwd)
    monkeypatch.setenv("DVC_EXP_NAME", "one")
    return tmp_path


def test_a_change_is_seen_though_git_takes_the_file_for_unchanged(repository):
    """As DVC 3.67.1 leaves the index after an experiment that failed: see findings/."""
    assert not check.changed_by_dvc()
    params, old = repository / "params.yaml", 1_000_000_000
    os.utime(params, (old, old))
    run(repository, "git", "update-index", "--refresh")
    params.write_text("a: 2\n")
    os.utime(params, (old, old))
    assert run(repository, "git", "status", "--porcelain") == ""
    assert check.changed_by_dvc()
    command = check.RESTORE.partition("`git show ")[2].partition("`")[0]
    run(repository, "sh", "-c", f"git show {command}")
    assert params.read_text() == "a: 1\n" and not check.changed_by_dvc()


def test_outside_of_experiments_and_of_git_nothing_is_said(repository, monkeypatch):
    (repository / "params.yaml").write_text("a: 2\n")
    assert check.changed_by_dvc()
    monkeypatch.delenv("DVC_EXP_NAME")
    assert not check.changed_by_dvc()
    monkeypatch.setenv("DVC_EXP_NAME", "one")
    (repository / ".git").rename(repository / "git")
    assert not check.changed_by_dvc()


@pytest.mark.parametrize("words", [(), ("--help",), ("a", "b", "c")])
def test_a_stage_that_is_called_wrongly_says_how(monkeypatch, words):
    def stage(dataset, use):
        raise AssertionError

    monkeypatch.setattr("sys.argv", ["stages/pack.py", *words])
    with pytest.raises(SystemExit, match="^usage: python stages/pack.py DATASET USE; DVC calls it so"):
        run_stage(stage)


def test_a_word_that_comes_too_late(tmp_path):
    """The libraries were set up by params.yaml before it was read."""
    done = called(tmp_path, "stages.weights", "some", "task=reflection", "reproducible=machine")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ParamsError: reproducible: acts before a stage reads its words; set it in params.yaml" in done.stderr
