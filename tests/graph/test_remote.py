"""The commands of docs/remote.md with a folder as the remote, on a graph of two stages with our `artifacts:`."""

import re

import pytest
import yaml

from tests.project import PROJECT, commit, dvc, run

MODEL = "models/main/model.safetensors"
GRAPH = {
    "artifacts": yaml.safe_load((PROJECT / "dvc.yaml").read_text())["artifacts"],
    "stages": {
        "choose": {"cmd": "echo dendi > training.json", "outs": ["training.json"]},
        "train": {
            "cmd": f"mkdir -p models/main && cp training.json {MODEL} && echo 1 > models/main/loss",
            "deps": ["training.json"],
            "outs": ["models/main"],
        },
    },
}
PRESETS = {"stages": {"cell": {"cmd": "echo 1 > scores.json", "outs": ["scores.json"]}}}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A project whose models are in a remote; a preset beside it was not run."""
    folder = tmp_path_factory.mktemp("project")
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    dvc(folder, "init", "--quiet")
    (folder / "ablation").mkdir()
    for place, graph in (("dvc.yaml", GRAPH), ("ablation/dvc.yaml", PRESETS)):
        (folder / place).write_text(yaml.safe_dump(graph))
    dvc(folder, "repro")
    dvc(folder, "remote", "add", "--default", "storage", str(tmp_path_factory.mktemp("storage")))
    commit(folder, "trained")
    assert "3 files pushed" in dvc(folder, "push", "dvc.yaml")  # a folder, and two contents
    return folder


def test_another_clone_pulls_the_main_graph(pushed, tmp_path):
    run(tmp_path, "git", "clone", "--quiet", str(pushed), "clone")
    dvc(tmp_path / "clone", "pull", "dvc.yaml")
    assert (tmp_path / "clone" / MODEL).read_text() == "dendi\n"
    assert dvc(tmp_path / "clone", "status", "dvc.yaml").strip() == "Data and pipelines are up to date."


def test_another_project_gets_the_model_by_its_path_and_by_its_version(pushed, tmp_path):
    dvc(tmp_path, "get", str(pushed), MODEL)
    assert (tmp_path / "model.safetensors").read_text() == "dendi\n"
    name = next(iter(GRAPH["artifacts"]))
    words = "artifacts", "get", str(pushed), name, "--out", "version"
    assert f"Unable to find artifact '{name}'" in dvc(tmp_path, *words, fails=True)
    user = "-c", "user.name=t", "-c", "user.email=t@example.org"
    run(pushed, "git", *user, "tag", "--annotate", f"{name}@v1.0.0", "--message", "first")
    dvc(tmp_path, *words)
    assert (tmp_path / "version").read_text() == "dendi\n"


def test_the_page_names_the_artifact_of_the_graph():
    text = (PROJECT / "docs/remote.md").read_text()
    (name,) = GRAPH["artifacts"]
    assert GRAPH["artifacts"][name]["path"] == MODEL and MODEL in text
    assert set(re.findall(r"(\w+)@v1\.0\.0", text)) == {name} == set(re.findall(r"clipsym\.git (\w+) ", text))
