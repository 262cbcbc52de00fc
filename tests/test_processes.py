"""Two processes (gloo, on the CPU) do what one does: the same losses, the same counts, the same files. When one of them
stops or fails, so does the other."""

import json
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

from pipeline.data.packed.split import PackedSplit
from pipeline.processes import Shard
from pipeline.runtime.process import end_with_parent
from pipeline.training import loop
from pipeline.training.loader import TrainingSet, epoch_batches, training_batches
from pipeline.training.loop import train
from stages import evaluate
from tests.training.test_loop import history, params, split

PROJECT = Path(__file__).parents[1]
RECIPE = {"epochs": 4, "batch": 4, "validate_every": 1}
PARTS = {"accumulate": 2}  # two parts of a batch, added up, are to the last bit what two processes make of it
JOBS = {
    "plain": RECIPE,
    "accumulated": RECIPE | {"accumulate": 2, "ema": 0.5, "text_tower": "trained"},
    "interrupted": RECIPE,
    "failing": RECIPE,
}
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from pipeline import processes
from pipeline.training import loop, state
from pipeline.data.packed.split import PackedSplit
from pipeline.params import Params
from stages import evaluate
from stages.command import run_stage

def main(root, launcher, *jobs):
    torch.set_num_threads(1)
    if launcher == "fabric":  # as on a machine with two GPUs
        processes.own_devices = lambda: 2
    for job in jobs:
        folder = Path(root) / job
        os.chdir(folder)
        (folder / f"{os.getpid()}.pid").touch()
        if job == "evaluated":
            evaluate.main("mixed")
            continue
        if job in ("interrupted", "failing"):
            state.TrainingState.update = stopping(job, state.TrainingState.update)
        params = Params.model_validate_json((folder / "params.json").read_text())
        splits = [[PackedSplit(Path(root) / f"dendi-{s}/packed.safetensors", "reflection")] for s in ("train", "val")]
        loop.train(params, *splits, folder / "out")

def stopping(job, update):
    def stop(self):
        if torch.distributed.get_rank() == 1 and self.epoch == 2 and self.step == 1:
            if job == "failing":
                raise ValueError("this process fails")
            os.kill(os.getpid(), signal.SIGTERM)  # just after the processes asked each other for signals
        return update(self)
    return stop

run_stage(main)
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes of `job`: with more, sums are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Nine images for training: in batches of four one is left over, fewer than there are processes."""
    root = tmp_path_factory.mktemp("root")
    split(root / "dendi-train", 9)
    split(root / "dendi-val", 5)
    for job, recipe in JOBS.items():
        (root / job).mkdir()
        (root / job / "params.json").write_text(params(**recipe).model_dump_json())
    for number, dataset in enumerate(("sdrw", "ldrs")):
        packed = root / "evaluated" / "data/packed/model" / dataset
        split(packed, 4 + number)
        (packed / "packed.safetensors").rename(packed / "test.safetensors")
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["train"]["batch"], content["evaluate"]["gallery"] = 2, 4
    (root / "evaluated" / "params.yaml").write_text(yaml.safe_dump(content))
    (root / "script.py").write_text(SCRIPT)
    return root


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory):
    """The same trainings in this process; the folder of that of `plain` serves evaluation, too."""
    folder = tmp_path_factory.mktemp("alone")
    data = [[PackedSplit(root / f"dendi-{part}" / "packed.safetensors", "reflection")] for part in ("train", "val")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for job, recipe in {"plain": RECIPE, "accumulated": JOBS["accumulated"], "parts": RECIPE | PARTS}.items():
            train(params(**recipe), *data, folder / job)
    (root / "evaluated/models/main").mkdir(parents=True)
    shutil.copyfile(folder / "plain/model.safetensors", root / "evaluated/models/main/model.safetensors")
    return folder


def job(root, launcher, *jobs):
    """Run jobs with two processes: status, output, and the processes that are left when the first has ended."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if launcher == "torchrun" else []
    process = subprocess.Popen(
        [sys.executable, *words, str(root / "script.py"), str(root), launcher, *jobs],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    printed = process.communicate()[0]
    pids = {int(path.stem) for path in (root / jobs[0]).glob("*.pid")}
    assert len(pids) == 2, printed
    _, left = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=30)
    for straggler in left:
        straggler.kill()
    return process.returncode, printed, left


@pytest.fixture(scope="module")
def torchrun(root):
    return job(root, "torchrun", "plain", "accumulated", "interrupted")


@pytest.fixture(scope="module")
def fabric(root, alone):
    return job(root, "fabric", "evaluated", "failing")


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_two_processes_learn_as_one_does(root, alone, torchrun, name):
    one, two = alone / name, root / name / "out"
    losses = [list(history(folder, "loss").values()) for folder in (one, two)]
    print(*(f"{a:.12f}  {b:.12f}  {b - a:+.1e}" for a, b in zip(*losses)), sep="\n")
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=0, abs=1e-5)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    exact = alone / {"plain": "parts"}.get(name, name)
    assert history(two, "validation_f1") == history(exact, "validation_f1")
    assert name != "plain" or history(two, "loss") == history(exact, "loss")
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    for key, value in weights[0].items():
        if not key.endswith("k_proj.bias"):  # without effect, and its gradient is nothing but rounding
            torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-4)


def test_a_signal_to_one_stops_both_and_the_run_goes_on_with_one(root, alone, torchrun, tmp_path, monkeypatch, caplog):
    status, printed, left = torchrun
    assert [printed.count(said) for said in ("images/s; ", "best epoch ")] == [2, 2]  # by the first process alone
    assert status == 1 and not left  # torchrun's own status; it names that of the process
    assert printed.count("SIGTERM: stopped in epoch 2 after step 3 of 3; all is saved") == 1, printed
    assert "exitcode  : 143" in printed and "Connection" not in printed
    monkeypatch.chdir(root / "interrupted")
    data = [[PackedSplit(root / f"dendi-{part}" / "packed.safetensors", "reflection")] for part in ("train", "val")]
    train(params(**RECIPE), *data, tmp_path / "resumed")
    assert "going on in epoch 2 after step 3" in caplog.text
    losses = [list(history(folder, "loss").values()) for folder in (alone / "plain", tmp_path / "resumed")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)

    def in_parts(epoch):  # see PARTS
        return Shard(parts=2 if epoch <= 2 else 1)

    batches, backward = loop.training_batches, loop.backward
    monkeypatch.setattr(loop, "training_batches", lambda d, epoch, b, _, w: batches(d, epoch, b, in_parts(epoch), w))
    monkeypatch.setattr(loop, "backward", lambda s, b, _, *rest: backward(s, b, in_parts(s.epoch), *rest))
    monkeypatch.chdir(tmp_path)
    train(params(**RECIPE), *data, tmp_path / "unbroken")
    for name in ("loss", "validation_f1"):
        assert history(tmp_path / "resumed", name) == history(tmp_path / "unbroken", name)


def test_evaluation_by_two_leaves_the_same_bytes(root, fabric, tmp_path, monkeypatch):
    shutil.copytree(root / "evaluated", tmp_path / "one", ignore=shutil.ignore_patterns("evaluation", "metrics"))
    monkeypatch.chdir(tmp_path / "one")
    evaluate.main("mixed")
    one, two = (
        {
            str(p.relative_to(top)): p.read_bytes()
            for part in ("evaluation", "metrics")
            for p in (top / part).rglob("*.*")
            if p.parent.name != "provenance"  # of other numbers of threads
        }
        for top in (tmp_path / "one", root / "evaluated")
    )
    assert one == two and json.loads(one["evaluation/mixed/summary.json"])["reflection"]["images"] == 9
    assert len([name for name in one if name.startswith("evaluation/mixed/gallery/")]) == 4


def test_a_failure_of_one_ends_the_other(fabric):
    status, printed, left = fabric
    assert status != 0 and not left and "this process fails" in printed


def test_a_process_ends_with_the_one_that_started_it():
    reading, writing = os.pipe()
    if not (parent := os.fork()):
        if not os.fork():
            end_with_parent()
            os.write(writing, f"{os.getpid()}".encode())
            time.sleep(60)
        os.waitpid(-1, 0)
        os._exit(0)
    child = psutil.Process(int(os.read(reading, 20)))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert not psutil.wait_procs([child], timeout=30)[1]


def test_signals_to_the_group_do_not_reach_processes_that_load_images(root):
    dataset = TrainingSet([PackedSplit(root / "dendi-train" / "packed.safetensors", "reflection")], 0)
    others = set(psutil.Process().children())  # of the tests before
    loader = iter(training_batches(dataset, 1, epoch_batches(9, 0, 1, 4), Shard(), workers=1))
    next(loader)
    (worker,) = set(psutil.Process().children()) - others
    assert os.getpgid(worker.pid) == worker.pid
