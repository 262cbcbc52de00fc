"""Two processes (gloo, on the CPU) do what one does: the same losses, the same counts, the same files; and none of them
is left behind when another ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from pipeline.training import train
from tests.small import shrink
from tests.test_training import history, params, split

PROJECT = Path(__file__).parents[1]
RECIPE = {"epochs": 3, "batch": 4, "validate_every": 1}
TRAINING = """
import os, sys
from pathlib import Path
import torch
from pipeline import engine, trainer, training
from pipeline.packing import PackedSplit
from pipeline.params import Params
from stages.command import run_stage
torch.set_num_threads(1)
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


@pytest.fixture
def started(data):
    """Starts a training in processes of its own, and ends what is left of it."""
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
        process.communicate()


def finished(process, folder):
    """The step losses of a training that ended well."""
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    return [float(line) for line in (folder / "losses").read_text().splitlines()]


def trainers(folder, count):
    """The processes of a training, once it has saved a checkpoint."""
    while not list(folder.glob(".checkpoints/*/state.pt")):
        time.sleep(0.05)
    found = [psutil.Process(int(path.stem)) for path in folder.glob("*.pid")]
    assert len(found) == count
    return found


@pytest.fixture(scope="module")
def alone(data):
    """The folder of the same training in this process."""
    pass


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two(started, accumulate):
    one = finished(*started(f"one-{accumulate}", "itself", RECIPE))
    two = finished(*started(f"two-{accumulate}", "torchrun", {**RECIPE, "accumulate": accumulate}))
    print(one, two)
    for a, b in zip(one, two):
        print(a, b, a - b)
    for name in ("loss", "validation_f1"):
        print([history(started.__closure__[0].cell_contents / f"{n}-{accumulate}" / "out", name) for n in ("one", "two")])
    assert 0
