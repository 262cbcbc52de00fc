"""A stage that is killed by SIGKILL at any of its file operations, run again, ends as if nothing had happened."""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import tests.warm  # noqa: F401 - else each forked process would import all of it anew
from pipeline.data.packed.split import PackedSplit
from pipeline.training import resume
from stages import data_report, evaluate, fetch, preprocess, train
from tests.small import shrink

PROJECT = Path(__file__).parents[2]
WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def labelled(folder, count):
    """Images with LabelMe JSON, of one axis each."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
        (folder / f"{number}.json").write_text(json.dumps({"shapes": [{"points": [[9, 3], [12, 30 + number]]}]}))


def with_small_params(folder):
    folder.mkdir()
    shutil.copyfile(PROJECT / "params.yaml", folder / "params.yaml")
    shrink(folder / "params.yaml")


@pytest.fixture
def project(tmp_path):
    """A folder with parameters, own images, and an archive of LDRS that is fetched by its URL."""
    folder = tmp_path / "project"
    with_small_params(folder)
    labelled(folder / "data" / "own", 4)
    for split in ("train", "val", "test"):
        labelled(tmp_path / "archive" / "top" / "LDRS" / split, 2)
    with zipfile.ZipFile(tmp_path / "pmc.zip", "w") as archive:
        for path in sorted((tmp_path / "archive").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "archive"))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"], params["published"]["pmc"] = "published", (tmp_path / "pmc.zip").as_uri()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def in_a_process_of_its_own(folder, step, kill_at=None):
    """Run a step in `folder`; with `kill_at` the process kills itself at that file operation. Its exit status, and
    the number of operations."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            operations = len(pipe.read())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), operations
    try:
        os.chdir(folder)
        count = 0

        def watch(event, arguments):
            nonlocal count
            path = str(arguments[0]) if event in WATCHED else ""
            if path.startswith(("data/", "metrics", str(folder / "data"))):
                count += 1
                os.write(writing, b".")
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        step()
        os._exit(0)
    finally:
        os._exit(1)


def content(folder):
    """Every file below a folder, but for locks."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fetch_published():
    fetch.fetch("ldrs")


def fetch_own():
    fetch.fetch("own")


def pack():
    preprocess.preprocess("ldrs", "model")


def report():
    data_report.main()


def prepare(folder, step):
    """What runs before the step."""
    before = {pack: [fetch_published], report: [fetch_published, pack]}.get(step, [])
    for earlier in before:
        assert in_a_process_of_its_own(folder, earlier)[0] == 0
    if step is report:
        for dataset in ("dendi", "sdrw", "nyu", "photos", "own"):
            shutil.copytree(folder / "data/packed/model/ldrs", folder / "data/packed/model" / dataset)


STRIDE = {fetch_published: 3, fetch_own: 3, pack: 3, report: 94}  # one of so many operations
OUTS = {fetch_published: "data/raw/ldrs", fetch_own: "data/raw/own", pack: "data/packed/model/ldrs", report: None}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", OUTS, ids=lambda step: step.__name__)
def test_killed_at_any_file_operation(project, step, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    prepare(project, step)
    whole = project.parent / "whole"
    shutil.copytree(project, whole)
    status, operations = in_a_process_of_its_own(whole, step)
    expected = content(whole)
    assert status == 0 and operations > 10
    print(f"{step.__name__}: {operations} operations, killed at {len(range(1, operations + 1, STRIDE[step]))}")
    for kill_at in range(1, operations + 1, STRIDE[step]):
        killed = project.parent / "killed"
        shutil.copytree(project, killed)
        assert in_a_process_of_its_own(killed, step, kill_at)[0] == -signal.SIGKILL
        if OUTS[step] and (killed / OUTS[step]).exists():  # all of it, or nothing
            assert content(killed / OUTS[step]) == content(whole / OUTS[step])
        assert in_a_process_of_its_own(killed, step)[0] == 0
        assert content(killed) == expected, f"differs after a kill at operation {kill_at} of {operations}"
        shutil.rmtree(killed)
    if step is pack:
        assert len(PackedSplit(whole / "data/packed/model/ldrs/train.safetensors", "reflection")) == 2


def killed_after(folder, step, seconds):
    """Run a step in `folder` in a process of its own, and kill that after so many seconds; True if it was too late."""
    if pid := os.fork():
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    try:
        os.chdir(folder)
        step()
        os._exit(0)
    finally:
        os._exit(1)


def digest(folder):
    """Of all files of a folder, with their names."""
    return hashlib.sha256(repr(content(folder)).encode()).hexdigest()[:16]


def pack_own():
    preprocess.preprocess("own", "model")


def train_saving_each_step():
    resume.SAVE_EVERY = 0
    train.main()


def evaluate_own():
    evaluate.main("own")


@pytest.fixture
def own(tmp_path):
    """A folder with parameters and own images, to train on these alone."""
    folder = tmp_path / "own"
    with_small_params(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"] |= {"datasets": ["own"], "epochs": 4, "batch": 2, "ema": 0.5}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    labelled(folder / "data" / "own", 14)
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments(own, kills, monkeypatch):
    """As by lack of memory or of power: wherever it is; what it leaves then is hashed."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    generator = random.Random(kills)
    assert in_a_process_of_its_own(own, fetch_own)[0] == 0
    for step, outs in (
        (pack_own, ["data/packed/model/own"]),
        (train_saving_each_step, ["models/main"]),
        (evaluate_own, ["evaluation/own", "metrics"]),
    ):
        start = time.perf_counter()
        assert in_a_process_of_its_own(own, step)[0] == 0
        duration = time.perf_counter() - start
        expected = [digest(own / out) for out in outs]
        for _ in range(kills):
            moment = generator.uniform(0, duration)
            for out in outs:
                shutil.rmtree(own / out)  # as DVC does before it runs a stage
            late = killed_after(own, step, moment)
            resumed = len(list((own / ".checkpoints").glob("*/state.pt")))
            for out in outs:
                shutil.rmtree(own / out, ignore_errors=True)
            assert in_a_process_of_its_own(own, step)[0] == 0
            found = [digest(own / out) for out in outs]
            fate = "done before" if late else f"killed, {resumed} checkpoint left"
            print(f"{step.__name__}, {moment:.2f} s of {duration:.2f}, {fate}: {found}")
            assert found == expected
            assert not list((own / ".checkpoints").glob("*/*"))
