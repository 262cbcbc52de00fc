"""Released checkpoints of EquiSym: the recorded network, random ones of both versions, and what is refused."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.models import resnet50

from pipeline.application.export import export
from pipeline.conversion.graph import graph
from pipeline.data.packed.split import PackedSplit
from pipeline.errors import CheckpointError
from pipeline.inference.detector import load
from pipeline.model.checkpoint import load_model
from pipeline.model.equisym.model import learning_model
from pipeline.params import EquiSymParams
from pipeline.scoring.f1 import F1Counts
from pipeline.scoring.heat_maps import score
from tests.conversion.released_equisym import (
    assert_agrees,
    random_state,
    read,
    recording,
    shaken,
    state_of,
    state_of_learning,
    task_of,
    written,
)
from tests.project import called
from tests.stages.scene import packed, write_params


@pytest.fixture(scope="module")
def recorded(golden):
    return recording(golden)


@pytest.fixture(scope="module")
def recorded_state(recorded):
    return state_of(recorded)


def test_the_record_of_a_released_file(tmp_path, steerable_state):
    model, record = read(written(tmp_path / "released.pt", steerable_state))
    assert not model.training and record.epoch == 95 and record.task == "reflection"
    assert record.thresholds == {"released": 0.5}
    shape = {"family": "equisym", "version": "steerable", "depth": 18, "orientations": 8, "input_size": 417}
    assert record.towers.model_dump() == shape and record.decoder is None


def test_filters_serve_where_the_bases_are_missing(tmp_path, recorded, recorded_state):
    state, task = {}, task_of(recorded)
    heads = {"decoder_theta.conv3": recorded["theta"].shape[1]}
    for name, value in recorded_state.items():
        if name.endswith(".weights"):
            conv = name.removesuffix(".weights")
            (basis,) = (v for n, v in recorded_state.items() if n.startswith(f"{conv}._basis"))
            _, o, i, pixels = basis.shape
            fields = len(recorded_state.get(f"{norm_of(conv)}.weight", ())) or heads.get(conv, 1)
            pairs = torch.tensordot(value.view(fields, -1, len(basis)), basis, 1)  # [fields', fields, o, i, k k]
            side = int(pixels**0.5)
            state[f"{conv}.filter"] = pairs.transpose(1, 2).reshape(fields * o, -1, side, side)
        elif "_basisexpansion" in name:
            continue
        state[name] = value
    model, _ = read(written(tmp_path / "released.pt", state, prefix="", rot_data=int(task == "rotation")), task)
    assert_agrees(model, recorded)


def norm_of(conv):
    """The released name of the batch normalisation of the released convolution."""
    part, _, last = conv.rpartition(".")
    norm = {"atrous_conv": "bn", "conv": "bn", "0": "1"}.get(last, f"bn{last[-1]}")
    return f"{part}.{norm}.batch_norm_[16]"


def test_the_exported_checkpoint_is_the_same(tmp_path, recorded, recorded_state):
    task = task_of(recorded)
    path = written(tmp_path / "released.pt", recorded_state, rot_data=int(task == "rotation"))
    export(load(task, path, "cpu"), "portable", tmp_path / "model.safetensors")
    model, record = load_model(tmp_path / "model.safetensors")
    assert_agrees(model, recorded)
    assert record == read(path, task)[1]


@pytest.fixture(scope="module")
def plain_state():
    return random_state("plain")


@pytest.fixture(scope="module")
def steerable_state():
    return random_state("steerable", 8)


def plainly(state, images):
    """The plain version as its files tell it, by torchvision's ResNet: logits of images, normalised."""
    resnet = resnet50()
    for number, dilations in ((3, [2] * 6), (4, [4, 8, 16])):
        stage = getattr(resnet, f"layer{number}")
        stage[0].downsample[0].stride = (1, 1)
        for block, dilation in zip(stage, dilations, strict=True):
            block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1, 1), (dilation,) * 2, (dilation,) * 2
    mine = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    assert set(resnet.state_dict()) - set(mine) == {"fc.weight", "fc.bias"}
    resnet.load_state_dict(mine, strict=False)
    resnet.eval()
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
    x = resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(x))))

    def step(x, conv, norm, dilation=1):
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, padding=dilation * (weight.shape[-1] // 2), dilation=dilation)
        parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts).relu()

    branches = [
        step(x, f"aspp.aspp{n}.atrous_conv", f"aspp.aspp{n}.bn", d) for n, d in ((1, 1), (2, 12), (3, 24), (4, 36))
    ]
    mean = step(x.mean((2, 3), keepdim=True), "aspp.global_avg_pool.1", "aspp.global_avg_pool.2")
    x = torch.cat([*branches, F.interpolate(mean, x.shape[2:], mode="bilinear", align_corners=True)], 1)
    x = step(x, "aspp.conv1", "aspp.bn1")
    for conv, norm in ((0, 1), (4, 5)):
        x = step(x, f"decoder_axis.last_conv.{conv}", f"decoder_axis.last_conv.{norm}")
    x = F.conv2d(x, state["decoder_axis.last_conv.8.weight"], state["decoder_axis.last_conv.8.bias"])
    return F.interpolate(x, images.shape[2:], mode="bilinear", align_corners=True)


def test_the_plain_version(tmp_path, plain_state):
    model, record = read(written(tmp_path / "cnn.pt", plain_state))
    assert (record.towers.version, record.towers.depth, record.towers.orientations) == ("plain", 50, 0)
    images = torch.rand(1, 3, 97, 97)
    with torch.no_grad():
        expected = plainly(plain_state, (images - model.mean) / model.std)
        assert expected.std() > 0.01
        torch.testing.assert_close(model(images), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_by_the_command(tmp_path, steerable_state):
    """detect with the released file, then export, then detect with what was exported: the same."""
    released, exported = (
        written(tmp_path / "r.pt", steerable_state, max_f1=torch.tensor(0.5)),
        tmp_path / "m.safetensors",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    symmetry = partial(called, tmp_path, "pipeline.cli")
    words = ("detect", "a.png", "--task", "reflection", "--json", "--threshold", 0)
    first = symmetry(*words, "--weights", released, "--out", "first")
    assert first.returncode == 0, first.stderr
    done = symmetry("export", "--format", "portable", "--weights", released, "--out", exported)
    assert done.returncode == 0 and exported.stat().st_size > 1e6, done.stderr
    seen = np.asarray(Image.open(tmp_path / "first/reflection/heatmaps/a.png"))
    for path in (released, exported):
        np.testing.assert_allclose(seen / 255, load("reflection", path, "cpu").detect(pixels).heatmap, atol=1 / 255)
    wrong = symmetry("detect", "a.png", "--task", "rotation", "--weights", released)
    assert wrong.returncode == 1 and "its task is reflection, not rotation" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_the_stage_evaluates_what_was_exported(tmp_path, steerable_state):
    released = written(tmp_path / "r.pt", steerable_state)
    write_params(tmp_path, "train.batch=2", "evaluate.gallery=1")
    packed(tmp_path, "dendi", "test", 3)
    export(load("reflection", released, "cpu"), "portable", tmp_path / "models/main/model.safetensors")
    done = called(tmp_path, "stages.evaluate", "dendi")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "metrics/dendi.json").read_text())["dendi"]
    split = PackedSplit(tmp_path / "data/packed/model/dendi/test.safetensors", "reflection")
    counts = sum(score(read(released)[0], [split], 2, "test"), F1Counts.zero())
    assert figures["max_f1"] == pytest.approx(counts.f1.max(), abs=1e-3)


def test_the_graph_is_the_same(tmp_path):
    """ONNX Runtime and PyTorch agree to 1e-4, or nothing is written; of a network whose heat map is not level."""
    torch.manual_seed(0)
    shape = EquiSymParams(family="equisym", version="steerable", depth=18, orientations=8, input_size=417)
    path = written(tmp_path / "r.pt", state_of_learning(shaken(learning_model(shape, "fp32"))))
    with torch.no_grad():
        assert read(path)[0](torch.rand(1, 3, 97, 97)).sigmoid().std() > 1e-3
    said = export(load("reflection", path, "cpu"), "onnx", tmp_path / "model.onnx")
    assert "sides of 417 pixels" in said and (tmp_path / "model.onnx").is_file()


def test_the_exporter_leaves_the_model_in_its_mode(tmp_path, steerable_state):
    model = read(written(tmp_path / "r.pt", steerable_state))[0]
    assert graph(model, 64) and not model.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("aspp.bn1.batch_norm_[16].running_var"), "lacks aspp.bn1.batch_norm_"),
        (lambda state: state.pop("backbone.layer1.0.conv1.weights"), "lacks backbone.layer1.0.conv1.weights"),
        (lambda state: state.update({"backbone.layer3.2.conv1.weights": torch.ones(9)}), "1 keys .* depth 18 lacks"),
        (
            lambda state: state.update({"aspp.conv1.weights": torch.ones(9)}),
            r"aspp.conv1.weights: expected shape \[1280\]",
        ),
        (lambda state: state["aspp.conv1.weights"].fill_(float("nan")), "aspp.conv1.weights: holds NaN"),
        (lambda state: state.update({"decoder_axis.conv1.weights": torch.ones(7)}), "0, 8 or 21 orientations, got 5"),
    ],
)
def test_what_is_refused(tmp_path, steerable_state, change, message):
    state = {name: value.clone() for name, value in steerable_state.items()}
    change(state)
    with pytest.raises(CheckpointError, match=message):
        read(written(tmp_path / "r.pt", state))


def test_filters_that_are_not_steerable_are_refused(tmp_path, steerable_state):
    basis = "aspp.aspp1.atrous_conv._basisexpansion.block_expansion_('regular', 'regular').sampled_basis"
    state = {**steerable_state, basis: torch.rand(1, 16, 16, 1)}
    with pytest.raises(CheckpointError, match="r.pt: aspp.aspp1: .* not steerable"):
        read(written(tmp_path / "r.pt", state))


def test_its_task_and_prompts(tmp_path, plain_state):
    path = written(tmp_path / "cnn.pt", plain_state, rot_data=1)
    assert read(path, "rotation")[1].task == "rotation"
    with pytest.raises(CheckpointError, match="its task is rotation, not reflection"):
        read(path)
    with pytest.raises(CheckpointError, match="an EquiSym, which knows no prompts"):
        load("rotation", path, "cpu", prompts=["a"])
