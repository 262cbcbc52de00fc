"""EquiSym as it learns: equivariant, the same when folded, begun from released files, trained by the command."""

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.application.export import export
from pipeline.errors import CheckpointError, ParamsError
from pipeline.inference.detector import load
from pipeline.model.checkpoint import ModelRecord, load_model, save_model
from pipeline.model.equisym.model import equisym_shape, learning_model
from pipeline.model.equisym.released import start_from
from pipeline.params import EquiSymParams, load_params
from pipeline.training.state import new_model
from tests.conversion import released_equisym as released
from tests.project import PROJECT, called
from tests.stages.scene import packed, save_checkpoint, write_params

SMALL = ["backbone=equisym", "backbones.equisym.model=resnet18", "backbones.equisym.input_size=96"]


def shape(version="steerable", depth=18, orientations=8):
    return EquiSymParams(family="equisym", version=version, depth=depth, orientations=orientations, input_size=417)


def learnt(seed=0, **kind):
    torch.manual_seed(seed)
    return released.shaken(learning_model(shape(**kind), "fp32"), seed)


@pytest.fixture(scope="module")
def model():
    return learnt()


@pytest.mark.parametrize("turn", [lambda x: x.rot90(1, (2, 3)), lambda x: x.flip(3)])
def test_is_equivariant(model, turn):
    """97 pixels: each stride takes the same pixels of the turned image."""
    images = torch.rand(1, 3, 97, 97)
    with torch.no_grad():
        expected = turn(model(images))
        torch.testing.assert_close(model(turn(images)), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", [{}, {"version": "plain", "depth": 50, "orientations": 0}, {"orientations": 0}])
def test_is_the_same_when_folded(kind):
    one, images = learnt(**kind), torch.rand(1, 3, 97, 97)
    with torch.no_grad():
        expected, found = one(images), one.folded(shape(**kind))(images)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", [{}, {"orientations": 21}, {"version": "plain", "depth": 50, "orientations": 0}])
def test_first_weights_keep_the_size_of_features(kind):
    """He's variance: an untrained network neither explodes nor dies out."""
    torch.manual_seed(0)
    one = learning_model(shape(**kind), "fp32").train()
    with torch.no_grad():
        seen = one.network.aspp(one.features(torch.rand(2, 3, 97, 97)))
    assert 0.2 < float(seen.std()) < 5


@pytest.mark.parametrize("kind", [{}, {"version": "plain", "depth": 50, "orientations": 0}])
def test_learns_from_one_image(kind):
    """The mean over one image is one number a channel."""
    one = learnt(**kind).train()
    one(torch.rand(1, 3, 64, 64)).mean().backward()
    assert all(torch.isfinite(value).all() for value in one.state_dict().values())


def test_of_its_outputs_the_orientations_are_there_in_training_only(model):
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        alone, both = model(images), model.train()(images)
    model.eval()
    assert alone.shape == (1, 1, 64, 64) and both.shape == (1, 10, 64, 64)


def test_begins_from_the_recorded_file(tmp_path, golden):
    recorded = released.recording(golden)
    task = released.task_of(recorded)
    path = released.written(tmp_path / "r.pt", released.state_of(recorded), rot_data=int(task == "rotation"))
    kind = shape(orientations=recorded["theta"].shape[1] - 1)
    begun = learning_model(kind, "fp32").eval()
    start_from(begun, path, kind, task)
    images = torch.tensor(recorded["images"])
    with torch.no_grad():
        features = begun.network.aspp(begun.network.backbone(images))
        theta = begun.network(images)[1]
    np.testing.assert_allclose(features[:, :32], recorded["features"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(theta, recorded["theta"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("version", ["steerable", "plain"])
def test_begins_from_a_released_file(tmp_path, model, version):
    """As the same function as the one that `symmetry detect` makes of it."""
    kind = shape() if version == "steerable" else shape("plain", 50, 0)
    path = released.written(
        tmp_path / "r.pt",
        released.state_of_learning(model) if version == "steerable" else released.random_state("plain"),
    )
    begun, images = (
        learnt(seed=1, **kind.model_dump(include={"version", "depth", "orientations"})),
        torch.rand(1, 3, 97, 97),
    )
    start_from(begun, path, kind, "reflection")
    with torch.no_grad():
        expected = released.read(path)[0](images)
        torch.testing.assert_close(begun(images), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_what_it_does_not_begin_from(tmp_path, model):
    file = released.written(tmp_path / "r.pt", released.state_of_learning(model))

    def refusal(path, kind=None, task="reflection"):
        kind = kind or shape()
        with pytest.raises(CheckpointError) as caught:
            start_from(learning_model(kind, "fp32"), path, kind, task)
        assert str(caught.value).startswith(f"{path}: ")
        return str(caught.value)

    assert "its task is reflection, not rotation" in refusal(file, shape(orientations=21), "rotation")
    assert "another model" in refusal(file, shape(depth=50)) and "depth=50" in refusal(file, shape(depth=50))
    export(load("reflection", file, "cpu"), "portable", tmp_path / "p.safetensors")
    assert "got the portable form" in refusal(tmp_path / "p.safetensors")
    params = write_params(tmp_path)
    save_checkpoint(tmp_path / "clipsym.safetensors", params)
    assert "another model" in refusal(tmp_path / "clipsym.safetensors")
    basis = released.random_state("steerable", 8)  # a filter of nine equal pixels, which no basis of rings holds
    assert "conv1: its filter is not made of escnn's basis" in refusal(released.written(tmp_path / "b.pt", basis))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    assert "not of an EquiSym" in refusal(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    refusal(tmp_path / "text.pt")


def test_of_the_parameters(tmp_path):
    def shape_of(params):
        return equisym_shape(params.chosen, params.decoder.upsampler, params.task)

    assert shape_of(load_params(PROJECT / "params.yaml")) is None
    reflection, rotation, plain = (
        shape_of(write_params(tmp_path, *SMALL, *more))
        for more in ([], ["task=rotation"], ["decoder.upsampler=plain", "backbones.equisym.model=resnet50"])
    )
    assert (reflection.version, reflection.depth, reflection.orientations) == ("steerable", 18, 8)
    assert rotation.orientations == 21
    assert (plain.version, plain.depth, plain.orientations) == ("plain", 50, 0)


@pytest.mark.parametrize(
    "change", ["model=resnet34", "pretrained=openai", "frozen=2", "weights=a.pt", "blocks=[1,2,3]", "family=lite"]
)
def test_entries_that_are_no_equisym(tmp_path, change):
    with pytest.raises(ParamsError, match=r"backbones.equisym(.blocks)?: .*equisym"):
        write_params(tmp_path, f"backbones.equisym.{change}")


def test_learns_by_the_command_and_serves(tmp_path):
    """Two epochs; then evaluate, export and detect with what was learnt, and a training that begins with it."""
    write_params(
        tmp_path, *SMALL, "train.epochs=2", "train.batch=2", "train.datasets=[dendi]", "evaluate.gallery=1",
        "reproducible=machine", "backbones.equisym.decoder_lr=0.01", "backbones.equisym.tower_lr=0.01",
    )  # fmt: skip
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        packed(tmp_path, "dendi", split, count)
    (tmp_path / "data/training.json").write_text(json.dumps(["dendi"]))
    done = called(tmp_path, "stages.train")
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "models/main/model.safetensors"
    own, record = load_model(weights)
    assert record.backbone == "equisym" and record.decoder is None and record.prompts == [] and not record.portable
    assert record.towers.depth == 18 and record.towers.orientations == 8
    assert called(tmp_path, "stages.evaluate", "dendi").returncode == 0
    figures = json.loads((tmp_path / "metrics/dendi.json").read_text())["dendi"]
    assert 0 < figures["max_f1"] <= 1
    done = called(
        tmp_path, "pipeline.cli", "export", "--format", "portable", "--weights", weights, "--out", "p.safetensors"
    )
    assert done.returncode == 0, done.stderr
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    first, second = (
        load("reflection", path, "cpu").detect(image).heatmap for path in (weights, tmp_path / "p.safetensors")
    )
    np.testing.assert_allclose(first, second, atol=1e-4)
    content = yaml.safe_load((tmp_path / "params.yaml").read_text())
    content["train"]["initial"] = str(weights)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    again, _ = new_model(load_params(tmp_path / "params.yaml"))
    expected = load_file(weights)
    assert all(torch.equal(value, expected[name]) for name, value in again.state_dict().items())
    with pytest.raises(CheckpointError, match="its weights are of another model"):
        new_model(load_params(tmp_path / "params.yaml", ["decoder.upsampler=plain"]))


def test_a_frozen_backbone_stays_as_it_is(tmp_path):
    params = write_params(tmp_path, *SMALL, "train.image_tower=frozen")
    torch.manual_seed(0)
    model, _ = new_model(params)
    model.train()
    before = {name: value.clone() for name, value in model.network.backbone.state_dict().items()}
    model(torch.rand(2, 3, 64, 64)).mean().backward()
    after = model.network.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in model.network.backbone.parameters())
    assert model.network.aspp.conv1.conv.weights.grad is not None


def test_a_model_is_kept_and_read_again(tmp_path, model):
    params = write_params(tmp_path, *SMALL)
    record = ModelRecord.of(params, [], 3, 0.5, {"dendi": 0.25})
    save_model(tmp_path / "m.safetensors", model, record)
    loaded, same = load_model(tmp_path / "m.safetensors")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    assert same == record
