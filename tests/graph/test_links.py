"""No stage writes through a link: its outs may be links to objects of DVC's cache (cache.type: hardlink, symlink).

Stages that are run by hand, without DVC, find them there; before its own runs DVC removes them.
"""

import ast
import ctypes
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import tests.warm  # noqa: F401 - else each forked process would import all of it anew
from pipeline.data.preparation.catalogue import SPLITS
from pipeline.params import load_params
from pipeline.reporting.presets import cell_names
from pipeline.scoring.sets import TEST_SETS
from stages import (
    ablation,
    baselines,
    check,
    data_report,
    evaluate,
    fetch,
    preprocess,
    report,
    robustness,
    table,
    train,
)
from tests.graph.test_kills import labelled
from tests.small import shrink

PROJECT = Path(__file__).parents[2]
OUTS = "data/checked data/raw data/packed data/report models evaluation metrics report ablation/tables".split()
WRITTEN = (
    "data/checked data/raw/own data/packed/model/own data/report models/main models/ablation/grid evaluation/own "
    "evaluation/baselines metrics/own.json metrics/data.json metrics/robustness.json metrics/ablation.json "
    "metrics/ablation_group.json report ablation/tables/group"
).split()
WRITERS = {
    "check": check.check,
    "fetch": lambda: fetch.fetch("own"),
    "preprocess": lambda: preprocess.preprocess("own", "model"),
    "data_report": data_report.main,
    "train": train.main,
    "evaluate": lambda: evaluate.main("own"),
    "baselines": lambda: [baselines.main(name) for name in TEST_SETS],
    "robustness": robustness.main,
    "ablation": lambda: ablation.main("grid/tiny-none-plain", "prompts.kind=none", "decoder.upsampler=plain"),
    "report": report.main,
    "table": lambda: table.main("group"),
}


def forked(step, folder):
    """Run a step in `folder` in a process of its own; its exit status."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        os.chdir(folder)
        os.environ["TQDM_DISABLE"] = "1"
        step()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def become_ordinary():
    """Give up root's right to write to what is for reading only: to all its capabilities, in Linux's terms."""
    version, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(version, none) == 0


def make_all():
    """Run every stage once, on a handful of own images that stand for all data sets."""
    WRITERS["check"]()
    WRITERS["fetch"]()
    WRITERS["preprocess"]()
    preprocess.preprocess("own", "ablation")
    Path("data/packed/ablation/own").rename("data/packed/ablation/dendi")
    own = Path("data/packed/model/own")
    for dataset, splits in SPLITS.items():
        if dataset == "own":
            continue
        shutil.copytree(own, own.with_name(dataset))
        for split in splits:
            shutil.copyfile(own / "val.safetensors", own.with_name(dataset) / f"{split}.safetensors")
    WRITERS["data_report"]()
    WRITERS["train"]()
    for test_set in TEST_SETS:
        evaluate.main(test_set)
    WRITERS["baselines"]()
    WRITERS["robustness"]()
    WRITERS["ablation"]()
    WRITERS["report"]()
    matrix = yaml.safe_load(Path("ablation/dvc.yaml").read_text())["stages"]["group"]["matrix"]
    for cell in cell_names(matrix, load_params().presets):
        shutil.copytree("models/ablation/grid/tiny-none-plain", Path("models/ablation/group", cell))
    WRITERS["table"]()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the outs of all stages."""
    folder = tmp_path_factory.mktemp("links") / "project"
    folder.mkdir()
    shutil.copyfile(PROJECT / "params.yaml", folder / "params.yaml")
    shrink(folder / "params.yaml")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"] |= {"datasets": ["own"], "batch": 2}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "ablation").mkdir()
    shutil.copyfile(PROJECT / "ablation/dvc.yaml", folder / "ablation/dvc.yaml")
    labelled(folder / "data/own", 7)
    assert forked(make_all, folder) == 0
    return folder


def linked(made, link):
    """A copy of the folder whose outs are links to a cache; that cache, with what it holds."""
    folder, cache = made.with_name(f"linked-{len(list(made.parent.iterdir()))}"), {}
    shutil.copytree(made, folder)
    (folder / "cache").mkdir()
    outs = [path for out in OUTS for path in [folder / out, *(folder / out).rglob("*")] if path.is_file()]
    for number, path in enumerate(outs):
        thing = folder / "cache" / f"{number}"
        path.rename(thing)
        thing.chmod(0o444)
        link(thing, path)
        cache[thing] = thing.read_bytes()
    return folder, cache


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("user", ["root", "ordinary"])
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_no_stage_writes_through_a_link(made, link, user):
    if user == "root" and os.getuid() or user == "ordinary" and not sys.platform.startswith("linux"):
        pytest.skip("needs root for one, Linux for the other")
    folder, cache = linked(made, link)
    metrics = {path: path.read_bytes() for path in (folder / "metrics").rglob("*.json")}

    def write_all():
        if user == "ordinary" and os.getuid() == 0:
            become_ordinary()
        for write in WRITERS.values():
            write()

    assert forked(write_all, folder) == 0
    assert not [thing for thing, content in cache.items() if thing.read_bytes() != content]
    for out in WRITTEN:
        files = [path for path in [folder / out, *(folder / out).rglob("*")] if path.is_file()]
        assert files and not [path for path in files if path.is_symlink() or path.stat().st_nlink > 1], out
    assert metrics == {path: path.read_bytes() for path in (folder / "metrics").rglob("*.json")}
    assert not [path for path in folder.rglob(".*") if path.suffix in (".lock", ".part", ".old")]


WRITING = {
    "write_text",
    "write_bytes",
    "save",
    "savefig",
    "to_csv",
    "copyfile",
    "copy",
    "copytree",
    "save_curves",
    "mkdir",
}


@pytest.mark.parametrize("path", sorted((PROJECT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_stages_write_by_the_helpers_alone(path):
    """What is filled in by `atomic_folder` and `atomic_file` is new; anything else may be a link."""

    def look(node, safe):
        if isinstance(node, ast.With):
            safe = safe or any(
                getattr(getattr(item.context_expr, "func", None), "id", "") in ("atomic_folder", "atomic_file")
                for item in node.items
            )
        if isinstance(node, ast.Call) and not safe:
            name = getattr(node.func, "attr", None)
            writes = name in WRITING or name == "open" or getattr(node.func, "id", "") in ("open", "save_curves")
            assert not writes, f"{path.name}, line {node.lineno}: use atomic_folder(), atomic_file() or write_text()"
        for child in ast.iter_child_nodes(node):
            look(child, safe)

    look(ast.parse(path.read_text()), False)
