"""A cell of the ablation and the training of `train`: every key reaches them, their data are the right ones, and the
cell's figures follow by hand from known heat maps."""

import types
from pathlib import Path

import numpy as np
import pytest

from pipeline.model.clipsym import CLIPSym
from pipeline.params import TrainParams, load_params
from pipeline.scoring.f1 import THRESHOLDS as LEVELS
from pipeline.scoring.threshold import detection_threshold
from stages import ablation, train, weights
from tests.stages.scene import (
    AXIS,
    PROJECT,
    SIZE,
    THRESHOLDS,
    UNSEEN,
    f1,
    heat,
    packed,
    read,
    save_checkpoint,
    spread,
    truth,
    write_params,
)  # fmt: skip

# Of each key a value that is not the one of params.yaml.
RECIPE = {
    "initial": "start.safetensors", "epochs": 9, "batch": 3, "accumulate": 2, "image_tower": "frozen",
    "text_tower": "trained", "layer_decay": 0.5, "augmentation": "turned", "schedule": "exp", "decay": 0.125,
    "warmup": 2, "alpha": 0.75, "gamma": 3.5, "ema": 0.875, "validate_every": 5, "overfit": 2,
    "precision": "bf16", "datasets": ["sdrw", "nyu"], "start": "pretrained",
}  # fmt: skip
KEYS = [f"train.{key}={str(value).lower() if value is True else value}" for key, value in RECIPE.items()]
DATA = {"dendi": {"train": 4, "val": 2, "test": 5}, "sdrw": {"train": 3, "val": 1, "test": 2}, "nyu": {"train": 2}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data of several sets, for the model and smaller ones for the ablation."""
    folder = tmp_path_factory.mktemp("ablation")
    for name, size in (("packed/model", SIZE + 16), ("packed/ablation", SIZE), ("synthetic/small/packed", SIZE)):
        for dataset, splits in DATA.items():
            for split, count in splits.items():
                unseen = (0,) if split == "test" else range(count)
                packed(folder, dataset, split, count, unseen=unseen, size=size, name=name)
    return folder


@pytest.fixture
def folder(data, monkeypatch):
    monkeypatch.chdir(data)
    return data


@pytest.fixture
def calls(monkeypatch):
    """How `train` was called; it leaves a checkpoint with other figures than the defaults."""
    seen = []

    def noted(params, training, validation, folder, threshold=None):
        seen.append(types.SimpleNamespace(**locals()))
        plain = params.model_copy(update={"train": params.train.model_copy(update={"initial": None})})
        return save_checkpoint(folder / "model.safetensors", plain, epoch=6, validation_f1=0.375)[1]

    for stage in (ablation, train, weights):
        monkeypatch.setattr(stage, "train", noted)
    return seen


def places(splits):
    return [(str(split.path), split.task, len(split)) for split in splits]


def recipe(params):
    return {key: getattr(params.train, key) for key in RECIPE}


def test_there_is_a_value_for_each_key():
    committed = load_params(PROJECT / "params.yaml")
    assert set(RECIPE) == set(TrainParams.model_fields)
    assert not [key for key, value in RECIPE.items() if getattr(committed.train, key) == value]


def dimmed(self, images):
    """Grey values, in the right half those of a picture three times as dark."""
    weight = np.where(np.arange(images.shape[-1]) < SIZE // 2, 1, 1 / 3).astype(np.float32)
    return (images.mean(1, keepdim=True) * images.new_tensor(weight)).logit(eps=1e-6)


def test_a_cell(folder, calls, monkeypatch):
    params = write_params(folder, *KEYS, "seed=5", "backbone=lite", "backbones.lite.tower_lr=0.25", "ablation.epochs=2")
    monkeypatch.setattr(CLIPSym, "forward", dimmed)
    ablation.main("grid/one", "backbone=tiny", "prompts.kind=sapg", "decoder.upsampler=plain", "decoder.group=D4")
    (call,) = calls
    assert recipe(call.params) == recipe(params) | {"epochs": 2, "datasets": ("dendi",)}
    assert (call.params.backbone, call.params.seed, call.params.chosen.input_size) == ("tiny", 5, SIZE)
    assert call.params.chosen == params.backbones["tiny"].model_copy(update={"input_size": SIZE})
    assert call.params.prompts == params.prompts.model_copy(update={"kind": "sapg"})
    assert call.params.decoder == params.decoder.model_copy(update={"upsampler": "plain", "group": "D4"})
    for splits, name in ((call.training, "train"), (call.validation, "val")):
        assert places(splits) == [(f"data/packed/ablation/dendi/{name}.safetensors", "reflection", DATA["dendi"][name])]
    assert call.folder == Path("models/ablation/grid/one")

    scores = read("models/ablation/grid/one/scores.json")
    assert (scores["validation_f1"], scores["epoch"], scores["task"]) == (0.375, 6, "reflection")
    assert scores["changes"] == {
        "backbone": "tiny", "prompts.kind": "sapg", "decoder.upsampler": "plain", "decoder.group": "D4",
    }  # fmt: skip
    weight = np.where(np.arange(SIZE) < SIZE // 2, 1, 1 / 3).astype(np.float32)
    marks = [(AXIS[0], UNSEEN), *[AXIS[:1]] * 4]  # of the five test images
    pairs = [(heat() * weight, truth(*columns)) for columns in marks]
    assert scores["max_f1"] == pytest.approx(f1(pairs, LEVELS)[2].max())
    quarter = [(np.rot90(heat()) * weight, np.rot90(truth(*columns))) for columns in marks]
    assert scores["quarter_f1"] == pytest.approx(f1(quarter, LEVELS)[2].max())
    place = np.arange(SIZE) + 0.5 - SIZE / 2
    distance = np.hypot(place[:, None], place)
    inside, region = heat() * (distance <= SIZE / 2), distance <= SIZE / 2 - 2
    first, second = np.rot90(inside) * weight, np.rot90(inside * weight)
    a, b = (spread(((one > THRESHOLDS["dendi"]) & region).astype(np.uint8)) for one in (first, second))
    apart = 1 - 2 * (a & b).sum() / (a.sum() + b.sum())
    assert 0.1 < scores["quarter_model_disagreement"] == pytest.approx(apart)


def test_a_cell_of_the_other_task(folder, calls, monkeypatch):
    write_params(folder, "ablation.epochs=1", "task=rotation")
    monkeypatch.setattr(CLIPSym, "forward", dimmed)
    ablation.main("grid/rotation")
    assert {split.task for split in (*calls[0].training, *calls[0].validation)} == {"rotation"}
    assert read("models/ablation/grid/rotation/scores.json")["task"] == "rotation"


def test_what_is_trained_on(folder, calls):
    params = write_params(folder, *KEYS)
    train.main()
    (call,) = calls
    assert call.params == params and recipe(call.params)["datasets"] == ("sdrw", "nyu")
    assert places(call.training) == [
        ("data/packed/model/sdrw/train.safetensors", "reflection", 3),
        ("data/packed/model/nyu/train.safetensors", "reflection", 2),
    ]
    assert places(call.validation) == [("data/packed/model/sdrw/val.safetensors", "reflection", 1)]
    assert call.folder == Path("models/main") and call.threshold is detection_threshold


def test_what_the_weights_are_trained_on(folder, calls):
    params = write_params(folder, *KEYS)
    weights.main("small", "task=rotation", "train.datasets=[dendi]", "train.gamma=1.5")
    (call,) = calls
    assert recipe(call.params) == recipe(params) | {"datasets": ("dendi",), "gamma": 1.5}
    assert call.params.task == "rotation" and call.folder == Path("models/weights/small")
    assert places(call.training) == [("data/synthetic/small/packed/dendi/train.safetensors", "rotation", 4)]
    assert places(call.validation) == [("data/synthetic/small/packed/dendi/val.safetensors", "rotation", 2)]
