"""A training that was stopped, in whatever way, and run again ends with the same bytes as one that was not."""

import json
import os
import shutil
import signal
import sys
import time
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.data.packed.split import PackedSplit
from pipeline.errors import CheckpointError, Interrupted, TrainingError
from pipeline.model.clipsym import CLIPSym
from pipeline.params import Params
from pipeline.runtime.process import stop_request
from pipeline.training import loop as training
from pipeline.training import resume
from pipeline.training.resume import Checkpoint, fingerprint
from pipeline.training.state import TrainingState
from stages.command import run_stage
from tests.training.test_loop import params, split


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [split(folder / "dendi-train", 9)], [split(folder / "dendi-val", 3)]


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    """One for each test: they look at what lies there."""
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def content(folder):
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Three steps an epoch, the last of one image.
RECIPE = {"epochs": 3, "batch": 4, "validate_every": 2, "schedule": "cooldown", "ema": 0.5, "text_tower": "trained"}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What an uninterrupted training leaves."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "repository").mkdir()
        patch.chdir(folder / "repository")
        training.train(params(**RECIPE), *data, folder / "run")
    assert not list((folder / "repository" / ".checkpoints").iterdir())
    return content(folder / "run")


def forked(step):
    """The number of a process that runs a step."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        step()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        print(end, file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)


def exit_status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("moment", range(1, 10, 2))
def test_killed_after_any_step_it_goes_on_and_ends_bit_equal(data, whole, tmp_path, monkeypatch, moment):
    count, save = 0, Checkpoint.save

    def save_and_die(self, state):
        nonlocal count
        count += 1
        if count == moment:
            save(self, state)
            os.kill(os.getpid(), signal.SIGKILL)

    def killed():
        monkeypatch.setattr(resume, "SAVE_EVERY", 0)
        monkeypatch.setattr(Checkpoint, "save", save_and_die)
        training.train(params(**RECIPE), *data, tmp_path / "run")

    assert exit_status(forked(killed)) == -signal.SIGKILL
    assert list((tmp_path / "repository" / ".checkpoints").glob("*/state.pt"))
    training.train(params(**RECIPE), *data, tmp_path / "run")
    assert content(tmp_path / "run") == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_after_the_step_and_say_so(data, tmp_path, repository, monkeypatch, capfd, number):
    """As a stage, in a process of its own."""
    monkeypatch.setattr(resume, "SAVE_EVERY", 0)
    monkeypatch.setattr(sys, "argv", ["train"])
    recipe, state = params(**RECIPE | {"epochs": 50}), repository / ".checkpoints"
    pid = forked(lambda: run_stage(lambda: training.train(recipe, *data, tmp_path / "run")))
    for _ in range(1200):  # a minute: the child may have died
        if list(state.glob("*/state.pt")):
            break
        time.sleep(0.05)
    os.kill(pid, number)
    assert exit_status(pid) == 128 + number
    message = capfd.readouterr().err
    assert f"{number.name}: stopped in epoch" in message and "Traceback" not in message
    assert list(state.glob("*/state.pt")) and not list(state.glob("*.lock"))


def with_signal(epoch, step, backward=training.backward):
    """A `backward` that gets a signal in the step after so many of an epoch."""

    def stopping(state, *rest):
        if (state.epoch, state.step) == (epoch, step):
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(state, *rest)

    return stopping


def test_interrupted_and_taken_up_again(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "backward", with_signal(2, 1))
    with pytest.raises(Interrupted, match="SIGTERM: stopped in epoch 2 after step 2 of 3") as stop:
        training.train(params(**RECIPE), *data, tmp_path / "run")
    assert stop.value.signal == signal.SIGTERM
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path / "repository")
    training.train(params(**RECIPE), *data, tmp_path / "again")
    assert content(tmp_path / "again") == whole


def test_a_second_signal_has_its_usual_effect():
    usual = signal.default_int_handler
    before = signal.signal(signal.SIGINT, usual)  # below nohup it is ignored
    try:
        with stop_request() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert request.signal == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == usual
    finally:
        signal.signal(signal.SIGINT, before)


def test_full_disk_leaves_the_last_checkpoint(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "SAVE_EVERY", 0)
    saves, save = 0, torch.save

    def filling(state, file):
        nonlocal saves
        saves += 1
        save(state, file)
        if saves == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", filling)
    with pytest.raises(CheckpointError, match=r"(?s)cannot be saved.*No space left.*the last one saved is whole"):
        training.train(params(**RECIPE), *data, tmp_path / "run")
    (folder,) = (tmp_path / "repository" / ".checkpoints").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["state-former.pt", "state.pt"]
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 3
    monkeypatch.setattr(torch, "save", save)
    training.train(params(**RECIPE), *data, tmp_path / "run")
    assert content(tmp_path / "run") == whole


def test_full_disk_at_the_best_model(data, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.model.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match="none was saved before"):
        training.train(params(**RECIPE), *data, tmp_path / "run")


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_with_the_batch(data, tmp_path, monkeypatch, where):
    forward = CLIPSym.forward

    def spoiling(self, images):
        logits = forward(self, images)
        if self.training and trained and trained[0].step == 2:
            if where == "loss":
                return logits * float("nan")
            logits.register_hook(lambda gradient: gradient * float("inf"))
        return logits

    trained, start = [], TrainingState.__init__

    def noted(self, *args):
        trained.append(self)
        start(self, *args)

    monkeypatch.setattr(TrainingState, "__init__", noted)
    monkeypatch.setattr(CLIPSym, "forward", spoiling)
    with pytest.raises(TrainingError, match="not finite in epoch 1, step 3; the batch: dendi-train/") as error:
        training.train(params(epochs=2, batch=3), *data, tmp_path / "run")
    (repro,) = (tmp_path / "repository" / ".checkpoints").glob("*/diverged.pt")
    assert str(repro) in str(error.value)
    found = torch.load(repro, weights_only=True)
    assert (found["epoch"], found["step"], len(found["samples"])) == (1, 3, 3)
    assert all(f"{sample}" in str(error.value) for sample in found["samples"])
    assert found["images"].shape == (3, 3, 64, 64) and Params.model_validate_json(found["params"])
    assert all(value.isfinite().all() for value in found["model"].values() if value.is_floating_point())


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory):
    """What a training leaves that is stopped in its last epoch: two states, and the best model of both."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(resume, "SAVE_EVERY", 0)
        patch.setattr(training, "backward", with_signal(3, 1))
        with pytest.raises(Interrupted):
            training.train(params(**RECIPE), *data, folder / "run")
    (found,) = (folder / ".checkpoints").iterdir()
    assert sorted(content(found)) == ["best-2.safetensors", "state-former.pt", "state.pt"]
    return found


@pytest.fixture
def resumable(stopped, repository):
    """A copy of it where the next training finds it."""
    return Path(shutil.copytree(stopped, repository / ".checkpoints" / stopped.name))


def emptied(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def altered(path, place=0.6):
    """One byte is another."""
    found = bytearray(path.read_bytes())
    found[int(place * len(found))] ^= 16
    path.write_bytes(found)


DAMAGES = [emptied, cut, altered]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_the_one_before_taken(data, whole, resumable, tmp_path, caplog, damage):
    damage(resumable / "state.pt")
    training.train(params(**RECIPE), *data, tmp_path / "run")
    said = caplog.text
    assert f"{resumable / 'state.pt'}: damaged (" in said and "going on in epoch 3 after step 1" in said
    assert content(tmp_path / "run") == whole and not resumable.exists()


def test_a_damaged_state_does_not_take_the_place_of_the_one_before(resumable):
    expected = (resumable / "state-former.pt").read_bytes()
    cut(resumable / "state.pt")
    checkpoint = Checkpoint(resumable.name)
    checkpoint.save(checkpoint.load())
    assert (resumable / "state-former.pt").read_bytes() == expected
    assert checkpoint.load()["step"] == 1 and (resumable / "best-2.safetensors").exists()


def as_a_stage(data, folder):
    """The exit status of a training as a stage, in a process of its own."""
    return exit_status(forked(lambda: run_stage(lambda: training.train(params(**RECIPE), *data, folder))))


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_any_whole_state_nothing_is_deleted(resumable, damage):
    for name in ("state.pt", "state-former.pt"):
        damage(resumable / name)
    before = content(resumable)
    with pytest.raises(CheckpointError, match=r"state\.pt: damaged .*state-former\.pt: damaged .*nothing was deleted"):
        Checkpoint(resumable.name).load()
    assert content(resumable) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_best_model_is_found_when_the_training_is_taken_up_again(resumable, damage):
    damage(resumable / "best-2.safetensors")
    before = content(resumable)
    with pytest.raises(CheckpointError, match=r"best-2\.safetensors.*nothing was deleted"):
        Checkpoint(resumable.name).load()
    assert content(resumable) == before


def test_a_damaged_best_model_ends_the_stage_until_it_is_deleted(data, resumable, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.setattr(sys, "argv", ["train"])
    altered(resumable / "best-2.safetensors")
    before = content(resumable)
    assert as_a_stage(data, tmp_path / "run") == 1
    message = capfd.readouterr().err
    assert f"{resumable / 'best-2.safetensors'}: damaged" in message and "Traceback" not in message
    assert content(resumable) == before and not (tmp_path / "run" / "model.safetensors").exists()
    (resumable / "best-2.safetensors").unlink()
    record = training.train(params(**RECIPE), *data, tmp_path / "run")
    assert "going on without it" in caplog.text and record.epoch == 3


@pytest.mark.parametrize("name", ["state.pt", "best-2.safetensors"])
def test_no_byte_changes_unnoticed(resumable, name):
    """Each of forty places: what is taken for whole holds what was written."""
    checkpoint = Checkpoint(resumable.name)
    expected, weights = repr(checkpoint.load()), load_file(resumable / "best-2.safetensors")
    (resumable / "state-former.pt").unlink()
    sound, refused = (resumable / name).read_bytes(), 0
    for place in np.linspace(0, 1, 41)[:-1]:
        altered(resumable / name, place)
        try:
            assert repr(checkpoint.load()) == expected
            found = load_file(resumable / "best-2.safetensors")
            assert found.keys() == weights.keys() and all(torch.equal(found[key], weights[key]) for key in found)
        except CheckpointError as error:
            assert name in str(error)
            refused += 1
        (resumable / name).write_bytes(sound)
    assert refused > 36


@pytest.mark.parametrize("where", ["best", "out"])
def test_the_checkpoint_stays_until_the_model_was_read_back(resumable, tmp_path, monkeypatch, where):
    copy = shutil.copyfile

    def badly(source, target):
        copy(source, target)
        cut(Path(target))

    if where == "best":
        altered(resumable / "best-2.safetensors")
    else:
        monkeypatch.setattr(shutil, "copyfile", badly)
    before = content(resumable)
    with pytest.raises(CheckpointError):
        Checkpoint(resumable.name).deliver(2, tmp_path / "model.safetensors")
    assert content(resumable) == before


def test_what_a_checkpoint_belongs_to(data, tmp_path):
    recipe, splits = params(), [*data[0], *data[1]]
    key = fingerprint(recipe, splits)
    assert key == fingerprint(recipe.model_copy(update={"evaluate": None}), splits)
    assert key != fingerprint(recipe.model_copy(update={"seed": 1}), splits)
    assert key != fingerprint(params(gamma=3.0), splits)
    assert key != fingerprint(recipe.model_copy(update={"reproducible": "machine"}), splits)
    (tmp_path / "lite_reflection.safetensors").write_bytes(b"other weights to start from")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training.resume.SHIPPED", tmp_path)
        assert key != fingerprint(recipe, splits)
    other = tmp_path / "packed.safetensors"
    other.write_bytes(data[0][0].path.read_bytes()[:-1] + b"x")
    assert key != fingerprint(recipe, [PackedSplit(other, "reflection"), *data[1]])


@pytest.mark.parametrize("key", ["prompts.vocabulary", "train.initial", "backbones.tiny.weights"])
def test_a_checkpoint_belongs_to_the_content_of_the_files_that_parameters_name(data, repository, key):
    """Else a run would go on with embeddings of other words than its record lists. A folder of weights counts whole."""

    def other(name):
        section, last = key.rsplit(".", 1)
        content = params().model_dump(mode="json")
        place = reduce(getitem, section.split("."), content)
        place[last] = name
        return Params.model_validate(content)

    splits = [*data[0], *data[1]]
    (repository / "file").write_text("apple box cat dog")
    first = fingerprint(other("file"), splits)
    assert first != fingerprint(params(), splits) and first == fingerprint(other("file"), splits)
    (repository / "file").write_text("tulip boat car duck")
    assert first != fingerprint(other("file"), splits)
    (repository / "folder").mkdir()
    (repository / "folder/part").write_text("1")
    first = fingerprint(other("folder"), splits)
    (repository / "folder/part").write_text("2")
    assert first != fingerprint(other("folder"), splits)
    with pytest.raises(CheckpointError, match=f"nowhere: no such file or folder .params.yaml: {key}"):
        fingerprint(other("nowhere"), splits)


def test_a_checkpoint_serves_whatever_the_machine(data):
    splits, recipe = [*data[0], *data[1]], params()
    several = recipe.machine.model_copy(update={"workers": recipe.machine.workers + 4, "compile": True})
    assert fingerprint(recipe, splits) == fingerprint(recipe.model_copy(update={"machine": several}), splits)


def test_a_second_trainer_waits_or_is_refused(caplog, tmp_path):
    checkpoint = Checkpoint("key")
    reading, writing = os.pipe()

    def holding():
        with checkpoint.locked(wait=False):
            os.write(writing, b".")
            time.sleep(1)

    if not (pid := os.fork()):
        try:
            holding()
        finally:
            os._exit(0)
    os.read(reading, 1)
    with pytest.raises(CheckpointError, match=f"process {pid} trains the same just now"):
        with checkpoint.locked(wait=False):
            pass
    with checkpoint.locked(wait=True):
        pass
    os.waitpid(pid, 0)
    assert "waiting for its end" in caplog.text


@pytest.mark.parametrize("fault", ["no folder", "full"])
def test_a_training_goes_on_without_logs(data, whole, tmp_path, repository, monkeypatch, caplog, fault):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if fault == "no folder":
        (repository / "logs").write_text("a file")
    else:
        monkeypatch.setattr("pipeline.monitoring.monitor.SummaryWriter.add_scalar", full)
    training.train(params(**RECIPE), *data, tmp_path / "run")
    assert caplog.text.count("cannot be written") == 1 and "the training goes on" in caplog.text
    assert content(tmp_path / "run") == whole


def test_curves_and_pictures_for_the_eye(data, tmp_path, repository):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training.train(params(epochs=2), *data, tmp_path / "run")
    (logs,) = (repository / "logs").iterdir()
    assert sorted(path.name for path in logs.glob("*.jpg")) == ["dendi-val-epoch-0001.jpg", "dendi-val-epoch-0002.jpg"]
    board = EventAccumulator(str(logs))
    board.Reload()
    losses = [event.value for event in board.Scalars("loss")]
    written = json.loads((tmp_path / "run" / "live" / "metrics.json").read_text())
    assert len(losses) == 2 and losses[1] == pytest.approx(written["loss"])
    assert board.Tags()["images"] == ["validation/dendi-val"]


def test_a_checkpoint_is_due_a_minute_after_the_last(monkeypatch):
    clock = iter((100.0, 159.0, 160.0, 161.0, 220.0, 221.0))
    monkeypatch.setattr(resume.time, "monotonic", lambda: next(clock))
    checkpoint = Checkpoint("key")
    assert [checkpoint.due, checkpoint.due] == [False, True]
    checkpoint.save({"best": 0})
    assert [checkpoint.due, checkpoint.due] == [False, True]
