"""The stages of the shipped weights: what is found in photographs, and a model with its threshold."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.conversion.portable import portable
from pipeline.detection.axes import find_axes
from pipeline.inference.detector import Detector
from pipeline.inference.network import Graph
from pipeline.model.checkpoint import load_model, load_record
from pipeline.model.clipsym import CLIPSym
from pipeline.model.header import read_header
from stages import label, ship
from tests.stages.scene import AXIS, heat, packed, read, save_checkpoint, sees_grey, write_params

LITE = ["backbone=lite", "backbones.lite.input_size=96", "decoder.width=16", "prompts.kind=none"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_models(folder, *names):
    """Models of other weights and prompts' figures each."""
    params = write_params(folder, *LITE)
    for number, name in enumerate(names, start=1):
        torch.manual_seed(number)
        path = folder / "models/weights" / name / "model.safetensors"
        save_checkpoint(path, params, {"own": number / 10}, epoch=number)


@pytest.fixture
def columns(folder, monkeypatch):
    """Photographs of an upright line each: where it is, by their names."""
    write_params(folder, *LITE, "synthetic.photographs=shots")
    (folder / "shots").mkdir()
    monkeypatch.setattr("pipeline.data.synthesis.synthetic.FEWEST", 5)
    columns = {f"{number}.png": 20 + 13 * number for number in range(12)}
    for name, column in columns.items():
        pixels = np.zeros((192, 192, 3), np.uint8)
        pixels[30:170, column - 2 : column + 3] = 200
        Image.fromarray(pixels).save(folder / "shots" / name)
    return columns


def write_marks(folder, marks):
    """The axes and centres that are marked, as `ship` reads them."""
    (folder / "weights").mkdir()
    (folder / "weights/marked.json").write_text(json.dumps(marks))


def test_axes_of_photographs(folder, columns, monkeypatch):
    """In their own pixels, which are twice as many as the model sees; by the model's sizes that are named."""
    save_models(folder, "trained")
    write_params(folder, *LITE, "synthetic.photographs=shots")
    sizes = []

    def seen(self, images):
        sizes.append(images.shape[-1])
        return sees_grey(self, images)

    monkeypatch.setattr(CLIPSym, "forward", seen)
    label.main("trained", "axes.json", "96", "64:mirrored")
    found = read("axes.json")
    assert set(sizes) == {96, 64} and len(sizes) == 2 * len(found)
    assert len(found) == 11 and found.keys() <= columns.keys()  # one is kept for validation
    for name, marks in found.items():
        x1, y1, x2, y2, score = marks["axes"][0]
        assert [x1, x2] == pytest.approx([columns[name]] * 2, abs=2)
        assert sorted((y1, y2)) == pytest.approx([30, 169], abs=4) and 0.3 < score < 0.8


def test_what_is_shipped(folder, columns, monkeypatch):
    save_models(folder, "one", "two")
    write_params(folder, *LITE, "synthetic.photographs=shots")
    near = {name for name, column in columns.items() if 60 < column < 130}
    axes = {name: [[column, 30, column, 169]] if name in near else [] for name, column in columns.items()}
    write_marks(folder, {name: {"axes": marks, "centres": []} for name, marks in axes.items()})
    packed(folder, "own", "val", 3, name="../data/synthetic/two/packed")
    packed(folder, "own", "val", 2, (60,), name="../data/synthetic/one/packed")  # where nothing that is seen is right
    monkeypatch.setattr(ship, "SHIPPED", folder / "shipped")
    real = CLIPSym.forward
    monkeypatch.setattr(CLIPSym, "forward", sees_grey)
    ship.main("two", "reflection", "96", "96:mirrored")
    monkeypatch.setattr(CLIPSym, "forward", real)

    path = folder / "shipped/lite_reflection.safetensors"
    model, record = load_model(folder / "models/weights/two/model.safetensors")
    expected, found = portable(model, record)[0].half().state_dict(), load_file(path)
    assert {tensor.dtype for tensor in found.values()} == {torch.float16} and found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=2e-3, atol=1e-5)
    shipped = load_record(path)
    assert (shipped.epoch, shipped.thresholds, shipped.portable) == (2, {"own": 0.2}, True)
    assert shipped.views == ((96, False), (96, True))
    assert shipped.detection_threshold == pytest.approx(find_axes(heat([AXIS]))[0].score, abs=0.02)
    detector = Detector(Graph(path), read_header(path))
    monkeypatch.setattr(Graph, "__call__", lambda _, squares: squares[..., 0] / np.float32(255))
    found = [detector.detect(Image.open(folder / "shots" / name), threshold=0.0).axes[0].score for name in columns]
    told = {name for name, score in zip(columns, found) if score >= detector.threshold}
    assert near <= told and len(told) <= 4 / 3 * len(near)  # three in four are right


def test_marks_of_other_photographs(folder, columns, monkeypatch, caplog):
    save_models(folder, "one")
    write_params(folder, *LITE, "synthetic.photographs=shots")
    packed(folder, "own", "val", 3, name="../data/synthetic/one/packed")
    write_marks(folder, {name: {"axes": [], "centres": []} for name in ("1.png", "tench.jpg")})
    monkeypatch.setattr(ship, "SHIPPED", folder / "shipped")
    with caplog.at_level("INFO"):
        ship.main("one", "reflection", "96")
    assert load_record(folder / "shipped/lite_reflection.safetensors").calibration is None
    assert "no probabilities: the photographs lack 1 of the 2 in weights/marked.json" in caplog.text
