"""Two processes (gloo, on the CPU) do what one does: the same losses, the same counts, the same files; and none of them
is left behind when another ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.small import shrink
from tests.test_training import history, params, split

PROJECT = Path(__file__).parents[1]
RECIPE = {"epochs": 3, "batch": 4, "validate_every": 1}
TRAINING = """
import os, sys, time
from pathlib import Path
import torch
from pipeline import engine, trainer, training
from pipeline.packing import PackedSplit
from pipeline.params import Params
from stages.command import run_stage
torch.set_num_threads(1)
if sys.argv[3] == "saves":
    trainer.SAVE_EVERY = 0
if sys.argv[2] == "fabric":  # as on a machine with two GPUs
    engine.own_devices = lambda: 2
folder, step = Path(sys.argv[1]), trainer.Trainer._step
(folder / f"{os.getpid()}.pid").touch()
def noted(self, *args):
    if sys.argv[3] == "fails" and self.share.rank == 1 and self.run.step == 2:
        raise ValueError("one process fails")
    loss, stopped = step(self, *args)
    if self.share.rank == 0:
        with open(folder / "losses", "a") as file:
            print(loss, file=file)
        if sys.argv[3] == "saves":  # time for a signal to come
            time.sleep(0.3)
    return loss, stopped
trainer.Trainer._step = noted
params = Params.model_validate_json((folder / "params.json").read_text())
splits = [[PackedSplit(folder.parent / f"dendi-{s}/packed.safetensors", "reflection")] for s in ("train", "val")]
run_stage(lambda *words: training.train(params, *splits, folder / "out"))
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Nine training images: in batches of four one is left over, fewer than there are processes."""
    folder = tmp_path_factory.mktemp("data")
    split(folder / "dendi-train", 9)
    split(folder / "dendi-val", 5)
    (folder / "training.py").write_text(TRAINING)
    return folder


@pytest.fixture(scope="module")
def started(data):
    """Starts a training in processes of its own; ends what is left of it after the test."""
    processes = []

    def start(name, by, recipe, mode="trains"):
        folder = data / name
        folder.mkdir(exist_ok=True)
        (folder / "params.json").write_text(params(**recipe).model_dump_json())
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "DVC_ROOT": str(folder), "OMP_NUM_THREADS": "1"}
        words = [*(TORCHRUN if by == "torchrun" else []), str(data / "training.py"), str(folder), by, mode]
        process = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        return process, folder

    yield start
    for process in processes:
        for child in [*psutil.Process(process.pid).children(), process] if process.poll() is None else []:
            child.kill()
        process.wait()


def finished(process, folder):
    """The step losses of a training that ended well."""
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    return [float(line) for line in (folder / "losses").read_text().splitlines()]


def trainers(process, folder):
    """The two processes of a training, the first one first, once it has saved a checkpoint."""
    while process.poll() is None and not list(folder.glob(".checkpoints/*/state.pt")):
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0]
    found = [psutil.Process(int(path.stem)) for path in folder.glob("*.pid")]
    first = int(next(folder.glob(".checkpoints/*.pid")).read_text())
    assert len(found) == 2
    return sorted(found, key=lambda one: one.pid != first)


@pytest.fixture(scope="module")
def alone(started):
    """What one process finds: the losses of all steps, and the folder."""
    process, folder = started("alone", "itself", RECIPE)
    return finished(process, folder), folder


@pytest.mark.parametrize(("by", "accumulate"), [("torchrun", 1), ("fabric", 2)])
def test_two_processes_give_the_losses_of_one(started, alone, by, accumulate):
    process, folder = started(f"{by}-{accumulate}", by, RECIPE | {"accumulate": accumulate})
    two, (one, before) = finished(process, folder), alone
    for step, losses in enumerate(zip(one, two, strict=True), start=1):
        print(f"| {step} | {losses[0]:.8f} | {losses[1]:.8f} | {abs(losses[0] - losses[1]):.1e} |")
    assert len(two) == 9 and two == pytest.approx(one, abs=1e-5)
    assert max(one) > 1e-3  # so that 1e-5 says something
    assert history(folder / "out", "loss") == pytest.approx(history(before / "out", "loss"), abs=1e-5)
    assert history(folder / "out", "validation_f1") == pytest.approx(history(before / "out", "validation_f1"), abs=1e-2)
    weights, expected = (load_file(place / "out/model.safetensors") for place in (folder, before))
    for name, value in expected.items():
        if "k_proj.bias" not in name:  # softmax does not see it: rounding alone moves it, and Adam makes that large
            torch.testing.assert_close(weights[name], value, atol=2e-3, rtol=0)


def test_a_signal_to_one_process_stops_all_and_one_process_goes_on(started, alone):
    process, folder = started("stopped", "torchrun", RECIPE, "saves")
    both = trainers(process, folder)
    both[1].send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode != 0 and "all is saved, and the same command goes on from there" in printed
    assert not any(one.is_running() for one in both)
    process, folder = started("stopped", "itself", RECIPE)
    losses = finished(process, folder)
    assert losses == pytest.approx(alone[0], abs=1e-5)


def test_the_failure_of_one_process_ends_the_other(started):
    process, folder = started("failing", "fabric", RECIPE, "fails")
    process.communicate(timeout=120)
    assert process.returncode != 0
    others = [int(path.stem) for path in folder.glob("*.pid")]
    deadline = time.monotonic() + 60
    while any(map(psutil.pid_exists, others)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(others) == 2 and not any(map(psutil.pid_exists, others))


def test_evaluation_leaves_the_same_bytes_for_any_number_of_processes(data, alone, tmp_path):
    shutil.copyfile(PROJECT / "params.yaml", tmp_path / "params.yaml")
    shrink(tmp_path / "params.yaml")
    content = yaml.safe_load((tmp_path / "params.yaml").read_text())
    content["train"]["batch"], content["evaluate"]["gallery"] = 2, 4
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    shutil.copytree(data / "dendi-val", tmp_path / "data/packed/model/dendi")
    (tmp_path / "data/packed/model/dendi/packed.safetensors").rename(
        tmp_path / "data/packed/model/dendi/test.safetensors"
    )
    (tmp_path / "models").mkdir()
    shutil.copytree(alone[1] / "out", tmp_path / "models/main")
    found = []
    for launcher in ([], TORCHRUN):
        words = [sys.executable, *launcher, "-m", "stages.evaluate", "dendi"]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        files = [*(tmp_path / "evaluation").rglob("*.*"), *(tmp_path / "metrics").rglob("*.*")]
        found.append({file.relative_to(tmp_path): file.read_bytes() for file in files})
        shutil.rmtree(tmp_path / "evaluation")
    assert len(found[0]) == 8 and found[0] == found[1]
