"""Training with the tiny towers on a handful of made images: it learns, keeps the best epoch, and repeats itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.prepare import pack
from pipeline.errors import CheckpointError, DataError
from pipeline.evaluation.cells import short
from pipeline.model.checkpoint import load_model
from pipeline.params import load_params
from pipeline.processes import Shard
from pipeline.scoring.f1 import F1Counts
from pipeline.scoring.heat_maps import score
from pipeline.training.loader import TrainingSet, epoch_batches, training_batches
from pipeline.training.loop import alpha_focal, train
from pipeline.training.resume import fingerprint
from pipeline.training.state import new_model

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
SIZE = 64


def params(**recipe):
    ablation = PARAMS.ablation.model_copy(update={"input_size": SIZE})
    decoder = PARAMS.decoder.model_copy(update={"width": 8, "group": "C4", "layers": 2})
    prompts = PARAMS.prompts.model_copy(update={"count": 2})
    small = {"backbone": "tiny", "ablation": ablation, "decoder": decoder, "prompts": prompts}
    cell = short(PARAMS.model_copy(update=small))
    quick = {"epochs": 3, "batch": 4, "schedule": "constant", "validate_every": 1, "ema": 0.0, **recipe}
    return cell.model_copy(update={"train": cell.train.model_copy(update=quick)})


def compiling(wanted, **recipe):
    machine = PARAMS.machine.model_copy(update={"compile": wanted})
    return params(**recipe).model_copy(update={"machine": machine})


def split(folder, count, marked=True):
    """A packed split of bright vertical bars on dark noise, each with its axis."""
    generator, samples = np.random.default_rng(count), []
    folder.mkdir(parents=True)
    for number in range(count):
        image = generator.integers(0, 60, (SIZE, SIZE, 3), np.uint8)
        x = int(generator.integers(12, SIZE - 12))
        image[8:-8, x - 6 : x + 7] = 220
        Image.fromarray(image).save(folder / f"{number}.png")
        axes = (ReflectionAxis(x, 8, x, SIZE - 8),) if marked else ()
        samples.append(Sample(str(number), folder / f"{number}.png", Annotation(axes=axes)))
    pack(samples, "reflection", SIZE, folder / "packed.safetensors", "test")
    return PackedSplit(folder / "packed.safetensors", "reflection")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [split(folder / "dendi-train", 8)], [split(folder / "dendi-val", 3)]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The record of one short training and its folder."""
    folder = tmp_path_factory.mktemp("run")
    return train(params(epochs=36, batch=2, validate_every=16), *data, folder), folder


def history(folder, name):
    """The values of a metric, by step."""
    (file,) = (folder / "live").rglob(f"{name}.tsv")
    steps, values = zip(*(line.split("\t")[-2:] for line in file.read_text().splitlines()[1:]))
    return dict(zip(map(int, steps), map(float, values)))


def test_loss_falls(run):
    losses = list(history(run[1], "loss").values())
    assert len(losses) == 36 and losses[-1] < 0.6 * losses[0]


def test_history(run):
    record, folder = run
    assert set(history(folder, "lr_scale").values()) == {1.0}
    validated = history(folder, "validation_f1")  # by step, counted from 0
    assert list(validated) == [15, 31, 35]
    assert record.epoch == max(validated, key=validated.get) + 1
    assert record.validation_f1 == pytest.approx(max(validated.values()))
    assert json.loads((folder / "live" / "metrics.json").read_text())["loss"] > 0


def test_checkpoint_is_what_the_record_says(run, data):
    record, folder = run
    model, found = load_model(folder / "model.safetensors")
    assert found == record and len(found.prompts) == 2
    counts = sum(score(model, data[1], 4, "again"), F1Counts.zero())
    assert counts.f1.max() == pytest.approx(record.validation_f1)
    assert all(0 < threshold < 1 for threshold in record.thresholds.values())
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "live"}


def test_two_runs_are_equal(data, tmp_path):
    for name, seed in (("first", 1), ("second", 2)):
        torch.manual_seed(seed)  # what was drawn before does not matter
        np.random.seed(seed)
        train(params(epochs=2), *data, tmp_path / name)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    train(params(epochs=2).model_copy(update={"seed": 1}), *data, tmp_path / "other")
    other = load_file(tmp_path / "other" / "model.safetensors")
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_equals_a_loop_by_hand(data, tmp_path):
    recipe = params(epochs=2, schedule="exp", decay=0.25, validate_every=9)
    entry = recipe.chosen.model_copy(update={"tower_lr": 1e-3, "decoder_lr": 4e-3})
    recipe = recipe.model_copy(update={"backbones": {"tiny": entry}})
    train(recipe, *data, tmp_path)
    torch.manual_seed(recipe.seed)
    model, _ = new_model(recipe)
    parts = ((model.image_tower, 1e-3), (model.decoder, 4e-3))
    adams = [torch.optim.Adam(part.parameters(), lr, fused=True) for part, lr in parts]  # it rounds its own way
    for epoch, factor in ((1, 0.5), (2, 0.25)):
        for adam, (_, lr) in zip(adams, parts):
            adam.param_groups[0]["lr"] = lr * factor
        batches = epoch_batches(8, recipe.seed, epoch, 4)
        for images, targets in training_batches(
            TrainingSet(data[0], recipe.seed, recipe.train.augmentation), epoch, batches, Shard(), 0
        ):
            model.zero_grad()
            alpha_focal(model(images), targets, recipe.train.alpha, recipe.train.gamma).mean().backward()
            for adam in adams:
                adam.step()
    for name, value in load_file(tmp_path / "model.safetensors").items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-6)


def scripted(monkeypatch, *f1s):
    """Let the validations find these F1s, one after another."""
    scores = iter(f1s)

    def found(*args):
        right = np.full(100, round(100 * next(scores)))
        return [F1Counts(right, np.full(100, 100), 100)]

    monkeypatch.setattr("pipeline.training.loop.score", found)


def test_best_epoch_is_kept(data, tmp_path, monkeypatch):
    scripted(monkeypatch, 0.2, 0.6, 0.6, 0.3)
    record = train(params(epochs=4), *data, tmp_path / "long")
    assert (record.epoch, record.validation_f1) == (2, pytest.approx(0.6))
    scripted(monkeypatch, 0.2, 0.6)
    train(params(epochs=2), *data, tmp_path / "short")
    long, short = (load_file(tmp_path / name / "model.safetensors") for name in ("long", "short"))
    assert all(torch.equal(long[name], short[name]) for name in short)


def test_text_stays_and_the_rest_learns(run):
    torch.manual_seed(PARAMS.seed)
    before, prompts = new_model(params())
    before, after = before.state_dict(), load_file(run[1] / "model.safetensors")
    assert prompts == run[0].prompts and torch.equal(before["text_embeddings"], after["text_embeddings"])
    still = {name for name in before if torch.equal(before[name], after[name])} - {"text_embeddings"}
    assert not [name for name in still if not name.endswith("k_proj.bias")]  # softmax does not see a shift of keys


@pytest.mark.parametrize("missing", ["training", "validation", "marks"])
def test_nothing_to_train_on_or_to_validate_with(data, tmp_path, missing):
    training, validation = ([] if name == missing else part for name, part in zip(("training", "validation"), data))
    if missing == "marks":
        validation = [split(tmp_path / "unmarked", 2, marked=False)]
    with pytest.raises(DataError, match="(?i)validation" if missing != "training" else "training.*reflection"):
        train(params(epochs=1), training, validation, tmp_path / "run")
    if missing != "marks":
        assert not (tmp_path / "run").exists()  # before any work


def test_trains_in_bf16(data, tmp_path, caplog):
    record = train(params(precision="bf16"), *data, tmp_path)
    warned = "train.precision: bf16" in caplog.text and "reproducible: machine" in caplog.text
    assert warned == (PARAMS.reproducible == "anywhere" and not torch.cuda.is_available())
    model, loaded = load_model(tmp_path / "model.safetensors")
    assert loaded == record and model.precision == "bf16"
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("wanted", [True, False])
def test_nothing_is_compiled_on_the_cpu(data, tmp_path, monkeypatch, wanted):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", compiled.append)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    train(compiling(wanted, epochs=1), *data, tmp_path)
    assert not compiled


def test_starts_from_a_checkpoint(run, data, tmp_path):
    _, folder = run
    weights = folder / "model.safetensors"
    model, _ = new_model(params(initial=weights))
    expected = load_file(weights)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    shutil.copyfile(weights, tmp_path / "copy.safetensors")
    same, other = params(initial=weights), params(initial=tmp_path / "copy.safetensors")
    (tmp_path / "copy.safetensors").write_bytes(b"")
    assert fingerprint(same, data[0]) != fingerprint(other, data[0])
    with pytest.raises(CheckpointError, match="copy.safetensors: not a checkpoint"):
        new_model(other)
    with pytest.raises(CheckpointError, match="nowhere: no such file or folder"):
        fingerprint(params(initial=tmp_path / "nowhere"), data[0])
    more = params(initial=weights)
    more = more.model_copy(update={"prompts": more.prompts.model_copy(update={"count": 9})})
    with pytest.raises(CheckpointError, match="its weights are of another model"):
        new_model(more)
