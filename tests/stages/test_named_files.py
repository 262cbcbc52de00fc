"""Files that parameters name, own images and comments, by real `dvc` commands in a copy of the project."""

import json
import shutil

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from pipeline.errors import ParamsError
from stages.named import link, main
from tests.project import PROJECT, choose, commit, copied, dvc, label, run

SETS = ("dendi", "sdrw", "ldrs", "nyu", "own")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project as DVC finds it after a training, which was none: DVC looks at the files alone."""
    folder = copied(tmp_path_factory.mktemp("clone"))
    (folder / "words.txt").write_text("apple\nbox\ncat\ndog\n")
    (folder / ".git/info/exclude").write_text("/words.txt\n")  # Git does not know it
    choose(folder, prompts={"vocabulary": "words.txt"}, train={"datasets": ["dendi"]})
    commit(folder, "with words")
    for name in SETS:
        pack(folder, name, "1")
    dvc(folder, "repro", "named")
    dvc(folder, "repro", "--single-item", "choose")
    (folder / "models/main").mkdir(parents=True)
    (folder / "models/main/model.safetensors").write_text("a model")
    dvc(folder, "commit", "--force", "train")
    commit(folder, "trained")
    return folder


def pack(folder, name, content):
    packed = folder / "data/packed/model" / name
    packed.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        (packed / f"{split}.safetensors").write_text(f"{split} {content}")


def changed(project, *stages):
    """What DVC says of stages that it would run again; an empty dict where it would run none."""
    return json.loads(dvc(project, "status", "--json", *stages))


def test_training_runs_again_for_its_own_data_and_words_alone(project):
    assert changed(project, "named", "choose", "train") == {}
    pack(project, "own", "2")
    pack(project, "sdrw", "2")
    dvc(project, "repro", "--single-item", "choose")
    assert changed(project, "choose", "train") == {}
    pack(project, "dendi", "2")
    dvc(project, "repro", "--single-item", "choose")
    assert "data/training.json" in str(changed(project, "train"))
    pack(project, "dendi", "1")
    dvc(project, "repro", "--single-item", "choose")
    assert changed(project, "choose", "train") == {}

    (project / "words.txt").write_text("tulip\nboat\ncar\nduck\n")
    assert "data/named/prompts.vocabulary" in str(changed(project, "named")) and changed(project, "train")
    dvc(project, "repro", "named")
    assert changed(project, "named") == {}
    assert "data/named/prompts.vocabulary" in str(changed(project, "train"))
    assert (project / "words.txt").read_text().startswith("tulip")  # a link was replaced, not written through

    choose(project, train={"initial": "word.safetensors"})
    printed = dvc(project, "repro", "named", fails=True)
    assert "train.initial: " in printed and "word.safetensors: no such file or folder" in printed
    assert "Traceback" not in printed
    choose(project, train={"initial": None})
    dvc(project, "repro", "named")  # what was wrong does not stand in the way once it is right
    choose(project, prompts={"vocabulary": "words.txt"})


def test_links_follow_parameters_that_git_restores(project):
    """With dvc.lock: by the parameters alone DVC would see no change."""
    (project / "w").mkdir()
    (project / "w/model.pt").write_text("x")
    place, files = project / "data/named/backbones.lite.weights", ("params.yaml", "dvc.lock")
    dvc(project, "repro", "named")
    before = {name: (project / name).read_text() for name in files}
    choose(project, backbones={"lite": {**yaml.safe_load(before["params.yaml"])["backbones"]["lite"], "weights": "w"}})
    dvc(project, "repro", "named")
    assert place.is_symlink()
    for name, content in before.items():
        (project / name).write_text(content)
    dvc(project, "repro", "named")
    assert not place.is_symlink() and changed(project, "named") == {}


def test_a_run_in_a_temporary_copy_sees_what_is_in_the_project(project):
    for number in range(3):
        label(project / "data/own", number)
    words = ["exp", "run", "--temp", "fetch_own"]
    assert "Running stage 'fetch_own'" in dvc(project, *words, "-n", "three")
    for number in range(3, 6):
        label(project / "data/own", number)
    assert "Running stage 'fetch_own'" in dvc(project, *words, "-n", "six")
    counts = []
    references = run(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    for name in ("/three", "/six"):
        (reference,) = [reference for reference in references if reference.endswith(name)]
        lock = yaml.safe_load(run(project, "git", "show", f"{reference}:dvc.lock"))["stages"]
        counts.append((lock["fetch_own"]["outs"][0]["nfiles"], lock["fetch_own"]["deps"][1]["nfiles"]))
    assert counts == [(6, 7), (12, 13)]  # there is a README in the folder, too


def test_a_misspelt_value_says_how_params_come_back(project):
    words = "run", "-S", "backbone=tny", "--single-item", "check"
    printed = dvc(project, "exp", *words, fails=True)
    assert "did you mean 'tiny'?" in printed and "`git show HEAD:./params.yaml > params.yaml`" in printed
    printed = dvc(project, "repro", "--single-item", "check", fails=True)  # which changes no file
    assert "did you mean 'tiny'?" in printed and "git show" not in printed
    (project / "params.yaml").write_text(run(project, "git", "show", "HEAD:./params.yaml"))
    assert "did you mean" not in dvc(project, "repro", "--single-item", "check")


def test_set_param_keeps_every_comment(project):
    shutil.copyfile(PROJECT / "params.yaml", project / "params.yaml")
    commit(project, "params.yaml with its comments")
    before = (project / "params.yaml").read_text().splitlines()
    dvc(project, "exp", "run", "-S", "train.gamma=3.0", "-S", "published.dendi=/a/b", "--single-item", "check")
    after = (project / "params.yaml").read_text().splitlines()
    differing = [number for number, lines in enumerate(zip(before, after)) if lines[0] != lines[1]]
    assert len(before) == len(after) and len(differing) == 2
    assert all(after[n].partition("#")[2] == before[n].partition("#")[2] for n in differing)


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "train.datasets=[own]",
        "presets.options=[a]",
        "backbones.lite.blocks=[1,2,3]",
        "synthetic.marks=x",
        "presets.groups=[]",
    ],
)
def test_any_parameter_can_be_set_without_loss(tmp_path, change):
    """By what `dvc exp run -S` calls; a list may become shorter, in its own lines."""
    path = tmp_path / "params.yaml"
    shutil.copyfile(PROJECT / "params.yaml", path)
    before = path.read_text().splitlines()
    apply_overrides(path, [change])
    after = path.read_text().splitlines()
    assert [line.partition("#")[2] for line in after if "#" in line] == [
        line.partition("#")[2] for line in before if "#" in line
    ]
    assert [line for line in after if not line] == [line for line in before if not line]
    keys = [[line.split(":")[0] for line in lines if ":" in line.split("#")[0]] for lines in (before, after)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("folder", [".", "data", ".."])
def test_a_folder_around_the_links_is_refused(tmp_path, monkeypatch, folder):
    """DVC would follow the link into itself."""
    (tmp_path / "data").mkdir()
    text = (PROJECT / "params.yaml").read_text().replace("folder: data/own", f"folder: {folder}", 1)
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"own\.folder: .* it holds the project's own data"):
        main("own")
    assert not (tmp_path / "data/named/own.folder").is_symlink()


def test_links_survive_a_move_and_are_never_written_through(tmp_path, monkeypatch):
    inside, outside = tmp_path / "project", tmp_path / "outside"
    for folder in (inside / "data/named", outside):
        folder.mkdir(parents=True)
    for folder in (inside, outside):
        (folder / "words").write_text("apple")
    monkeypatch.chdir(inside)
    for name, target in (("a", inside / "words"), ("b", outside / "words"), ("c", None)):
        link(inside / "data/named" / name, target)
    inside.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    folder = tmp_path / "moved/data/named"
    assert [(folder / name).read_text() for name in "abc"] == ["apple", "apple", "no file is named\n"]
    for name in "abc":
        link(folder / name, None)
    assert (outside / "words").read_text() == "apple" == (tmp_path / "moved/words").read_text()
