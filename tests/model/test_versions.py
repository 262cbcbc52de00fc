"""Checkpoints outlive the program that made them: those of before load for good, and no key of params.yaml matters."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import cli
from pipeline.detection.confidence import Calibration
from pipeline.errors import CheckpointError
from pipeline.model.checkpoint import FORMAT, load_model, load_record, require_whole, save_model
from tests.model.test_checkpoint import COMMITTED, record_of, rewritten, saved, tiny

CHECKPOINTS = Path(__file__).with_name("checkpoints")
OLD, NEW = CHECKPOINTS / "tiny-1.safetensors", CHECKPOINTS / "lite-2.safetensors"
WEIGHTS = COMMITTED.parent / "pipeline" / "weights"
SHIPPED = [WEIGHTS / f"lite_{task}.safetensors" for task in ("reflection", "rotation")]
KEPT = ("prompts", "epoch", "validation_f1", "thresholds", "portable", "views", "detection_threshold")


def seen():
    """The image whose heat maps were recorded when the checkpoints were made, [1, 3, 64, 64]."""
    y, x = np.mgrid[:64, :64] / 63
    image = torch.tensor(np.stack([x, y, (x - 0.4) ** 2 * 4 % 1]), dtype=torch.float32)[None]
    image[:, :, 10:50, 26:41] = 0.9
    return image


def heat_map(path):
    model, _ = load_model(path)
    with torch.no_grad():
        return model(seen()).sigmoid()[0, 0].numpy()


@pytest.mark.parametrize("path", [OLD, NEW, *SHIPPED], ids=lambda path: path.stem)
def test_checkpoints_of_before_give_the_heat_maps_of_before(path):
    require_whole(path)
    expected = np.load((CHECKPOINTS / path.name).with_suffix(".npy"))
    np.testing.assert_allclose(heat_map(path), expected, atol=2e-4)  # other processors round otherwise


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shipped_names_no_place_of_the_machine_that_made_it(path):
    words = re.findall(r'"([^"]*)"', json.dumps(record_of(path)))
    assert "data/photographs" in words and not [word for word in words if word.startswith(("/", "~"))]


def test_the_checkpoint_of_format_1_says_what_it_is():
    record = load_record(OLD)
    assert "format" not in record_of(OLD) and len(record.checksum) == 64
    assert (record.task, record.backbone, record.precision, record.portable) == ("reflection", "tiny", "fp32", False)
    assert record.towers.model_dump(mode="json") == {
        "family": "open_clip", "model": "clipsym-tiny", "pretrained": "random", "input_size": 64, "blocks": [1, 2, 3],
        "normalisation": "own",
    }  # fmt: skip
    assert record.decoder.model_dump() == {"upsampler": "equivariant", "group": "C4", "layers": 2, "width": 8}
    prompts = ["golden retriever bulletproof vest streetcar honeycomb", "horse shopping cart wombat joystick"]
    assert record.prompts == prompts and record.prompt_kind == "sapg"
    assert record.epoch == 25 and record.validation_f1 == pytest.approx(0.889125, abs=1e-6)
    assert record.thresholds["mixed"] == pytest.approx(0.861386, abs=1e-6) and record.views == ()
    assert record.detection_threshold == pytest.approx(0.889426, abs=1e-6)
    assert record.params["train"]["epochs"] == 40 and record.params["backbones"]["tiny"]["frozen"] == 0


@pytest.mark.parametrize(
    "task, views, augmentation",
    [("reflection", ((320, False), (416, True)), "any"), ("rotation", ((256, False), (416, True)), "any")],
)
def test_the_shipped_weights_say_how_they_were_made(task, views, augmentation):
    found = load_record(WEIGHTS / f"lite_{task}.safetensors")
    assert (found.task, found.views, found.portable, found.precision) == (task, views, True, "fp32")
    assert found.calibration is not None and len(found.calibration) == len(Calibration._fields)
    assert found.params["train"]["augmentation"] == augmentation and found.params["train"]["precision"] == "bf16"


@pytest.mark.parametrize("path, version, backbone", [(OLD, 1, "tiny"), (NEW, FORMAT, "lite")])
def test_info_on_checkpoints_of_before(path, version, backbone, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["info", "--weights", str(path)])
    info = json.loads(capsys.readouterr().out)
    assert stop.value.code == 0 and record_of(path).get("format", 1) == version
    assert info["backbone"] == backbone and info["towers"]["blocks"] == [1, 2, 3] and info["input_size"] == 64
    assert info["params"] == record_of(path)["params"] and info["prompts"] == record_of(path)["prompts"]
    assert info["threshold_known"] and info["threshold"] == record_of(path)["detection_threshold"]


def test_format_1_written_again_is_of_today(tmp_path):
    model, record = load_model(OLD)
    save_model(tmp_path / "again.safetensors", model, record)
    assert record_of(tmp_path / "again.safetensors")["format"] == FORMAT
    assert load_record(tmp_path / "again.safetensors") == record
    assert np.array_equal(heat_map(tmp_path / "again.safetensors"), heat_map(OLD))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint of each format: its content by version."""
    path = tmp_path_factory.mktemp("made") / "model.safetensors"
    saved(path, tiny())
    record, content = record_of(path), path.read_bytes()
    older = {key: record[key] for key in KEPT} | {"params": tiny().model_dump(mode="json")}
    save_file(load_file(path), path, metadata={"record": json.dumps(older)})
    return {1: path.read_bytes(), FORMAT: content}


@pytest.fixture(params=[1, FORMAT])
def checkpoint(tmp_path, made, request):
    """A checkpoint of each format."""
    (tmp_path / "model.safetensors").write_bytes(made[request.param])
    return tmp_path / "model.safetensors"


@pytest.fixture
def newest(tmp_path, made):
    """A checkpoint of the newest format."""
    (tmp_path / "model.safetensors").write_bytes(made[FORMAT])
    return tmp_path / "model.safetensors"


def with_params(path, section, key, name):
    """Rewrite a checkpoint as a program would write it that calls a key otherwise, or knows one more."""
    params = section_ = record_of(path)["params"]
    for part in filter(None, section.split(".")):
        section_ = section_[part]
    section_[name] = section_.pop(key, 3)
    rewritten(path, params=params)


@pytest.mark.parametrize("section", ["", "train", "prompts", "decoder", "backbones.tiny", "preprocess", "presets"])
def test_a_key_more_in_params_yaml_does_not_matter(checkpoint, section):
    model, before = load_model(checkpoint)
    with_params(checkpoint, section, "none of this name", "later")
    found, record = load_model(checkpoint)
    assert replace(record, params=before.params) == before and "later" in json.dumps(record.params)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.state_dict().items())


KEYS = ["seed", "train.gamma", "train.epochs", "prompts.words", "own.labels", "synthetic", "backbones.tiny.frozen"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_another_name_in_params_yaml_does_not_matter(checkpoint, key):
    before, (section, _, last) = load_record(checkpoint), key.rpartition(".")
    with_params(checkpoint, section, last, "another")
    record = load_model(checkpoint)[1]
    assert replace(record, params=before.params) == before and "another" in json.dumps(record.params)


@pytest.mark.parametrize("params", [{}, {"anything": [1, None, {"at": "all"}]}])
def test_parameters_are_information(newest, params):
    before = load_record(newest)
    rewritten(newest, params=params)
    assert load_model(newest)[1] == replace(before, params=params)


LATER = {"portable": False, "views": (), "detection_threshold": None, "calibration": None, "params": {}, "checksum": ""}


def test_what_a_checkpoint_lacks_has_a_stated_value(newest):
    before, state = load_record(newest), load_file(newest)
    record = {key: value for key, value in record_of(newest).items() if key not in LATER}
    save_file(state, newest, metadata={"record": json.dumps(record)})
    assert load_model(newest)[1] == replace(before, **LATER)
    required = set(record) - {"format"}
    for key in required:
        fewer = {name: value for name, value in record.items() if name != key}
        save_file(state, newest, metadata={"record": json.dumps(fewer)})
        with pytest.raises(CheckpointError, match=rf"model\.safetensors: not a checkpoint .*: {key}: Field required"):
            load_record(newest)
    assert len(required) == 10


def test_an_entry_more_is_information(newest):
    """Of a newer program that writes the same format: it would have raised the version if it mattered."""
    before = load_record(newest)
    rewritten(newest, made_by="a later version")
    assert load_model(newest)[1] == before


@pytest.mark.parametrize("load", [load_model, load_record, require_whole])
def test_a_newer_format_is_an_error_that_says_what_to_do(newest, load):
    rewritten(newest, format=FORMAT + 1, towers="of a kind that nobody knows yet")
    expected = rf"model\.safetensors: made by a newer version .*format {FORMAT + 1}.* up to {FORMAT}; update"
    with pytest.raises(CheckpointError, match=expected):
        load(newest)


ODD = {  # values by key of params.yaml
    "": [None, [], "x", 3, {}, {"train": 3}, {"backbones": []}],
    "backbone": [None, "nobody", 3, ["tiny"], {}],
    "backbones": [{}, {"tiny": None}, {"tiny": 3}, {"tiny": "x"}, []],
    "backbones.tiny": [{}, {"family": "open_clip"}],
    "backbones.tiny.input_size": [0, "64"],
    "decoder": [None, [], {}, "x"],
    "decoder.width": [0, 2**40],
    "prompts": [None, [], {}],
    "train": [None, [], {}],
    "train.precision": ["int8"],
    "task": ["both", None, 3],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in ODD.items() for value in values])
@pytest.mark.parametrize("checkpoint", [1], indirect=True)
def test_odd_parameters_in_format_1_are_an_error_that_names_the_file(checkpoint, key, value):
    record = record_of(checkpoint)
    section, last = record, "params"
    for name in filter(None, key.split(".")):
        section, last = section[last], name
    section[last] = value
    save_file(load_file(checkpoint), checkpoint, metadata={"record": json.dumps(record)})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .{10}"):
        load_model(checkpoint)
