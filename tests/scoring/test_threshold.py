"""The threshold of detection: the best score of axes and centres on validation images, stored once and used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline import load
from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre, Sample
from pipeline.data.packed.split import PackedSplit, TargetSplit
from pipeline.data.preparation.prepare import pack
from pipeline.errors import CheckpointError
from pipeline.inference.detector import SHIPPED, Detector
from pipeline.model.checkpoint import load_model, load_record, save_model
from pipeline.scoring import threshold as calibration
from pipeline.scoring.matching import best_threshold, ground_truth
from pipeline.scoring.threshold import best_detection_threshold, detection_threshold
from pipeline.training.loop import train
from stages import train as stage
from tests.model.test_checkpoint import saved, tiny
from tests.training.test_loop import params, split

RIGHT, WRONG, HEIGHT, WIDTH = 0.8, 0.45, 90, 120


class Shown(nn.Module):
    """A model whose probabilities are its image's grey values."""

    device = torch.device("cpu")

    def forward(self, images):
        return images.mean(1, keepdim=True).logit(eps=1e-6)


def heat(*lines):
    """A map, [HEIGHT, WIDTH], with vertical lines, each at an x and of a value."""
    heat_map = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, value in lines:
        heat_map[15:75, x - 1 : x + 2] = value
    return heat_map


def packed(folder, *images, size=WIDTH):
    """A validation split of pairs of a heat map and the x of its marked axes."""
    folder.mkdir(parents=True)
    samples = []
    for number, (heat_map, axes) in enumerate(images):
        Image.fromarray((255 * heat_map).round().astype(np.uint8)).convert("RGB").save(folder / f"{number}.png")
        annotation = Annotation(axes=tuple(ReflectionAxis(x, 15, x, 74) for x in axes))
        samples.append(Sample(str(number), folder / f"{number}.png", annotation))
    pack(samples, "reflection", size, folder / "packed.safetensors", "test")
    return PackedSplit(folder / "packed.safetensors", "reflection")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [split(folder / "dendi-train", 8)], [split(folder / "dendi-val", 3)]


@pytest.fixture
def images():
    """Axes are seen brightly where they are marked, and faintly where nothing is."""
    return [(heat((30, RIGHT), (90, WRONG)), [30]), (heat((60, RIGHT)), [60]), (heat((50, WRONG)), [])]


def test_between_the_wrong_and_the_right(tmp_path, images, caplog):
    found = detection_threshold(Shown(), [packed(tmp_path / "dendi", *images)])
    assert WRONG + 0.05 < found < RIGHT + 0.01
    assert "2 axes marked in 3 validation images" in caplog.text


def test_what_overfits_is_looked_at_as_it_is(tmp_path, images):
    part = packed(tmp_path / "dendi", *images)
    as_targets = TargetSplit(part.path, part.task, part.chosen)
    assert detection_threshold(Shown(), [as_targets]) == detection_threshold(Shown(), [part])


def test_centres():
    heat_map = np.zeros((HEIGHT, WIDTH), np.float32)
    heat_map[38:43, 28:33], heat_map[58:63, 88:93] = 0.9, 0.4
    threshold = best_detection_threshold([(Annotation(centres=(RotationCentre(30, 40, 4),)), heat_map)], "rotation")
    assert 0.4 < threshold <= 0.9


def test_nothing_right_is_no_threshold(tmp_path, caplog):
    part = packed(tmp_path / "dendi", (heat((90, RIGHT)), [20]), (heat((50, WRONG)), []))
    assert detection_threshold(Shown(), [part]) is None
    assert "none is found: no threshold" in caplog.text


def test_few_of_many_images_and_all_data_sets_alike(tmp_path, images, monkeypatch):
    splits = [packed(tmp_path / name, *images * repeats) for name, repeats in (("dendi", 4), ("sdrw", 1))]
    seen = []
    monkeypatch.setattr(calibration, "MOST", 8)
    real = calibration.evaluation_images
    monkeypatch.setattr(calibration, "evaluation_images", lambda *asked: seen.append(asked) or real(*asked))
    monkeypatch.setattr(calibration, "BATCH", 3)
    in_batches = detection_threshold(Shown(), splits)
    assert [(part.dataset, *numbers) for part, numbers in seen] == [("dendi", 0, 1, 2), ("dendi", 3), ("sdrw", 0, 1, 2)]
    assert seen[0][0].chosen == (0, 4, 7, 11)
    monkeypatch.setattr(calibration, "BATCH", 1)
    assert detection_threshold(Shown(), splits) == in_batches


def test_it_is_the_best_for_what_a_detector_finds(tmp_path, images):
    """Which looks at the native image twice; by the scores of the heat map."""
    model, record = load_model(SHIPPED / "lite_reflection.safetensors")
    detector = Detector(model, replace(record, views=((WIDTH, False), (WIDTH, True)), calibration=None))
    part = packed(tmp_path / "dendi", *images, size=WIDTH)  # nothing is resized
    found = [detector.detect(part.native_image(n), threshold=0.0).axes for n in range(len(part))]
    pairs = [(axes, ground_truth(part.annotation(n), "reflection"), WIDTH) for n, axes in enumerate(found)]
    expected, f1 = best_threshold(pairs)
    assert f1 > 0 and detection_threshold(model, [part]) == pytest.approx(expected, abs=1e-4)


def test_the_stage_stores_that_of_its_best_model_once(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []

    def found(model, validation):
        assert not model.training and validation == data[1]
        calls.append({name: value.clone() for name, value in model.state_dict().items()})
        return 0.375

    monkeypatch.setattr(stage, "detection_threshold", found)
    monkeypatch.setattr(stage, "load_params", lambda: params(epochs=2))
    monkeypatch.setattr(stage, "packed_splits", lambda folder, names, part, task: data[part == "val"])
    stage.main()
    path = Path("models/main/model.safetensors")
    (state,), (model, record) = calls, load_model(path)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert record.detection_threshold == load("reflection", path, "cpu").threshold == 0.375
    assert 0.375 not in record.thresholds.values()


def test_short_runs_have_none(data, tmp_path):
    record = train(params(epochs=1), *data, tmp_path)
    assert record.detection_threshold is None
    assert load("reflection", tmp_path / "model.safetensors", "cpu").threshold == 0.5


def test_shipped_and_older_checkpoints(tmp_path):
    assert load_record(SHIPPED / "lite_reflection.safetensors").detection_threshold == pytest.approx(0.5937, abs=1e-3)
    assert load_record(SHIPPED / "lite_rotation.safetensors").detection_threshold == pytest.approx(0.6395, abs=1e-4)
    model, record = saved(tmp_path / "older.safetensors", tiny("none"))
    assert Detector(model, record).threshold == 0.5 and not Detector(model, record).info()["threshold_known"]
    for threshold in (0.0, 0.25):
        save_model(tmp_path / "model.safetensors", model, replace(record, detection_threshold=threshold))
        assert Detector(*load_model(tmp_path / "model.safetensors")).threshold == threshold


def test_a_run_whose_threshold_fails_loses_nothing(data, tmp_path, monkeypatch):
    """The training is not done again."""
    monkeypatch.chdir(tmp_path)

    def fails(model, validation):
        raise CheckpointError("no room")

    with pytest.raises(CheckpointError, match="no room"):
        train(params(epochs=2), *data, tmp_path / "run", fails)
    (best,) = (tmp_path / ".checkpoints").glob("*/best-*.safetensors")
    assert load_record(best).epoch in (1, 2)
