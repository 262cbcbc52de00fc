"""What a detector makes of a model whose heat maps are known, and what the command asks of it."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.cli import main
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import find_centres
from pipeline.detection.confidence import Calibration, calibrated
from pipeline.inference import detector as predictor
from pipeline.inference.detection import Detection
from pipeline.inference.detector import Detector
from tests.model.test_checkpoint import saved, tiny

SIZE = 64


class Grey(nn.Module):
    """Its probabilities are the grey values."""

    device, precision = torch.device("cpu"), "fp32"

    def forward(self, images):
        return images.mean(1, keepdim=True).logit(eps=1e-6)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model") / "model.safetensors", tiny("none"))[1]


def grey(values):
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def test_a_large_photograph_is_averaged(record):
    """Stripes of one pixel become grey; by single pixels they would be black or white."""
    stripes = np.zeros((8 * SIZE, 8 * SIZE))
    stripes[:, ::2] = 255
    heat_map = Detector(Grey(), replace(record, views=((SIZE, False),))).heat_maps([grey(stripes)])[0]
    assert np.abs(heat_map - 0.5).max() < 0.1


@pytest.mark.parametrize("views", [((SIZE, False),), ((SIZE, True),), ((SIZE, False), (SIZE, True)), ()])
def test_each_view_shows_what_is_there(record, views):
    values = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE))
    heat_map = Detector(Grey(), replace(record, views=views)).heat_maps([grey(values)])[0]
    np.testing.assert_allclose(heat_map, values / 255, atol=1e-4)


def two_lines():
    """A long line in the middle, and a short one aside that is brighter."""
    values = np.zeros((SIZE, SIZE))
    values[4:60, 30:34], values[10:30, 6:9] = 150, 220
    return grey(values)


def test_a_calibrated_record_makes_probabilities_of_scores(record):
    plain = Detector(Grey(), record).detect(two_lines(), threshold=0.0)
    weights = 1.0, 1.0, 4.0, -2.0, 0.4
    detector = Detector(Grey(), replace(record, calibration=weights))
    found = detector.detect(two_lines(), threshold=0.0)
    assert found.axes == tuple(calibrated(plain.axes, plain.heatmap.shape, Calibration(*weights)))
    assert plain.axes[0].x1 < 10 < found.axes[0].x1 and found.score == found.axes[0].score
    assert detector.threshold == 0.4 and detector.info()["calibrated"] and detector.info()["threshold_known"]
    assert not Detector(Grey(), record).info()["calibrated"]


def test_an_axis_at_the_threshold_counts():
    marks = tuple(DetectedAxis(0, 0, 9, 9, score) for score in (0.75, 0.5, 0.25))
    found = Detection("reflection", np.zeros((9, 9), np.float32), marks, (), 0.75, 0.0, grey(np.zeros((9, 9))))
    assert [axis.score for axis in found.above(0.5).axes] == [0.75, 0.5]


@pytest.mark.parametrize("x, y", [(401.0, 900.0), (1000.5, 300.5)])
def test_a_centre_in_a_large_map(x, y):
    rows, columns = np.mgrid[:1300, :1300]
    heat_map = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 12**2)).astype(np.float32)
    found = find_centres(heat_map)[0]
    assert (found.x, found.y, found.score) == pytest.approx((x, y, 1.0), abs=0.75)


@pytest.mark.parametrize("task", ["reflection", "rotation"])
def test_the_command_asks_for_what_it_was_told(record, tmp_path, monkeypatch, task):
    """Two lines, one above the threshold that is given, both above that of the model."""
    asked, signature = [], inspect.signature(predictor.load)

    def load(*args, **named):
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        asked.append({key: bound.arguments[key] for key in ("task", "weights", "device", "precision")})
        return Detector(Grey(), replace(record, task=bound.arguments["task"], detection_threshold=0.1))

    monkeypatch.setattr(predictor, "load", load)
    values = np.zeros((SIZE, SIZE))
    values[8:56, 20:23], values[8:56, 44:47] = 200, 80
    Image.fromarray(grey(values)).save(tmp_path / "a.png")
    words = ["--task", task, "--precision", "bf16", "--device", "cpu", "--threshold", "0.5", "--no-pictures"]
    with pytest.raises(SystemExit) as end:
        main(["detect", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *words])
    assert end.value.code == 0
    assert asked == [{"task": task, "weights": None, "device": "cpu", "precision": "bf16"}]
    (line,) = map(json.loads, (tmp_path / "out/detections.jsonl").read_text().splitlines())
    assert set(line) == {"image", task} and line[task]["threshold"] == 0.5 and line[task]["task"] == task
    if task == "reflection":
        (axis,) = line[task]["axes"]  # the other one has a score of 0.3
        assert [axis["x1"], axis["x2"]] == pytest.approx([21, 21], abs=1)
        assert sorted([axis["y1"], axis["y2"]]) == pytest.approx([8, 55], abs=2)
