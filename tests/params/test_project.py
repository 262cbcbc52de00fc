"""Where the project is: not where DVC_ROOT alone says."""

from pathlib import Path

import pytest

from pipeline.params.project import located, project


def laid_out(root, *folders):
    for folder in folders:
        (root / folder).mkdir(parents=True)


@pytest.mark.parametrize(
    ("folders", "root", "here", "expected"),
    [
        # as usual, and without DVC
        (["p/.git", "p/.dvc"], "p", "p", "p"),
        (["p/.git"], None, "p", "p"),
        # a stage of another pipeline calls DVC here; it may lie above, beside, or have its own Git repository around us
        (["outer/.git", "outer/.dvc", "outer/p/.dvc"], "outer", "outer/p", "outer/p"),
        (["outer/.git", "outer/.dvc", "p/.git", "p/.dvc"], "outer", "p", "p"),
        # the project is a part of a repository, whose .dvc is its only one
        (["outer/.git", "outer/.dvc", "outer/p"], "outer", "outer/p", "outer/p"),
        # temporary copies: of a queue, of --temp, of a project below the root of its repository
        (["p/.git", "p/.dvc/tmp/exps/x/.git"], "p", "p/.dvc/tmp/exps/x", "p"),
        (["p/.git", "p/.dvc/tmp/exps/standalone/x/.git"], "p", "p/.dvc/tmp/exps/standalone/x", "p"),
        (["g/.git", "g/p/.dvc/tmp/exps/x/.git", "g/p/.dvc/tmp/exps/x/p"], "g/p", "g/p/.dvc/tmp/exps/x/p", "g/p"),
        (["o/.git", "o/p", "o/.dvc/tmp/exps/x/.git", "o/.dvc/tmp/exps/x/p"], "o", "o/.dvc/tmp/exps/x/p", "o/p"),
    ],
)
def test_the_project(tmp_path, monkeypatch, folders, root, here, expected):
    laid_out(tmp_path, *folders)
    monkeypatch.chdir(tmp_path / here)
    if root:
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / root))
    assert project() == tmp_path / expected


def test_a_temporary_folder_that_lies_elsewhere(tmp_path, monkeypatch):
    """By a link, on a larger disk."""
    laid_out(tmp_path, "p/.git", "p/.dvc", "disk/exps/x/.git")
    (tmp_path / "p/.dvc/tmp").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "p/.dvc/tmp/exps/x")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "p"))
    assert project() == tmp_path / "p"


def test_what_a_path_names(tmp_path, monkeypatch):
    copy = tmp_path / "p/.dvc/tmp/exps/x"
    laid_out(tmp_path, "p/.git", "p/data/own", "p/.dvc/tmp/exps/x/.git", "p/.dvc/tmp/exps/x/data/own", "home")
    for place in (tmp_path / "p/words", tmp_path / "p/known", copy / "known"):
        place.write_text(str(place))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "p"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert located(Path("words")) == tmp_path / "p/words"  # Git does not know it
    assert located(Path("known")) == copy / "known"
    assert located(Path("data/own")) == tmp_path / "p/data/own"  # the copy has the part that Git knows
    assert located(Path("~/w")) == tmp_path / "home/w" and located(Path("/a/b")) == Path("/a/b")
    assert located(Path("nowhere")) == tmp_path / "p/nowhere"
