"""Checkpoints: what is loaded equals what was saved; any other file is named as what it is not."""

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.errors import CheckpointError
from pipeline.evaluation.cells import short
from pipeline.model.backbones.catalogue import pretrained
from pipeline.model.checkpoint import (
    FORMAT,
    ModelRecord,
    load_model,
    load_record,
    require_whole,
    save_model,
)
from pipeline.model.clipsym import build_model
from pipeline.params import TowerParams, load_params

COMMITTED = Path(__file__).parents[2] / "params.yaml"
PROMPTS = ["cat dog", "fire hydrant vögel"]


def tiny(kind="sapg", upsampler="equivariant"):
    """Parameters of a model that is quick to make."""
    small = ["backbone=tiny", "ablation.input_size=64", "decoder.width=8", "decoder.group=C8", "decoder.layers=2"]
    return short(load_params(COMMITTED, [*small, f"prompts.kind={kind}", f"decoder.upsampler={upsampler}"]))


def small_lite(*changes):
    """Parameters of the smallest model of the family lite."""
    small = ["backbone=lite", "ablation.input_size=64", "decoder.width=16", "decoder.layers=2", "prompts.kind=none"]
    return short(load_params(COMMITTED, [*small, *changes]))


def saved(path, params):
    """A model and its record, after they were written to `path`."""
    torch.manual_seed(3)
    prompts = [] if params.prompts.kind == "none" else PROMPTS
    backbone = pretrained(params.chosen)
    text = backbone.embed(prompts)
    model = build_model(backbone.image_tower(), text, params.decoder, params.train.precision)
    record = ModelRecord.of(params, prompts, 7, 0.25, {"dendi": 0.5, "sdrw": 0.125})
    save_model(path, model, record)
    return model, record


@pytest.fixture
def checkpoint(tmp_path):
    saved(tmp_path / "model.safetensors", tiny())
    return tmp_path / "model.safetensors"


def record_of(checkpoint):
    """The entries of the record in a header, which holds nothing else."""
    with safe_open(checkpoint, framework="pt") as file:
        header = file.metadata()
    assert list(header) == ["record"]
    return json.loads(header["record"])


@pytest.mark.parametrize("upsampler", ["equivariant", "plain"])
@pytest.mark.parametrize("kind", ["sapg", "none"])
@pytest.mark.parametrize("mode", [True, False])
def test_loaded_model_gives_the_same_output(tmp_path, kind, upsampler, mode):
    path = tmp_path / "folder" / "model.safetensors"
    torch.manual_seed(3)
    model, record = saved(path, tiny(kind, upsampler))
    save_model(path, model.train(mode), record)
    loaded, found = load_model(path)
    assert found == record and not loaded.training
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), model.eval()(images))
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_header_holds_what_the_model_is_made_of(checkpoint):
    header, params = record_of(checkpoint), tiny().model_dump(mode="json")
    assert header["format"] == FORMAT and header["prompts"] == PROMPTS and header["prompt_kind"] == "sapg"
    assert (header["task"], header["backbone"], header["precision"]) == ("reflection", "tiny", "fp32")
    entry = params["backbones"]["tiny"]
    assert (
        header["towers"] == {key: entry[key] for key in TowerParams.model_fields}
        and header["towers"]["input_size"] == 64
    )
    assert header["decoder"] == {"upsampler": "equivariant", "group": "C8", "layers": 2, "width": 8}
    assert header["epoch"] == 7 and header["validation_f1"] == 0.25 and header["thresholds"]["sdrw"] == 0.125
    assert header["params"] == {**params, "backbones": {"tiny": entry}}


def test_saving_again_replaces_the_file(checkpoint):
    before = load_file(checkpoint)
    model, record = load_model(checkpoint)
    with torch.no_grad():
        model.decoder.decoder_linear_map.bias.add_(1)
    save_model(checkpoint, model, record)
    after = load_file(checkpoint)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder.decoder_linear_map.bias"} and len(list(checkpoint.parent.iterdir())) == 1


def test_a_save_that_fails_leaves_the_old_file(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()
    model, record = load_model(checkpoint)

    def disk_full(state, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("pipeline.model.checkpoint.save_file", disk_full)
    with pytest.raises(OSError, match="no space"):
        save_model(checkpoint, model, record)
    assert checkpoint.read_bytes() == before


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.safetensors.*dvc repro train"):
        load_model(tmp_path / "nowhere.safetensors")


def rewritten(checkpoint, state=None, **entries):
    """The checkpoint with another state or other entries of its record."""
    record = json.dumps({**record_of(checkpoint), "checksum": "", **entries})
    save_file(state or load_file(checkpoint), checkpoint, metadata={"record": record})


@pytest.mark.parametrize(
    "breaking",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(range(256)) * 4),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: torch.save({"a": torch.zeros(1)}, path),
        lambda path: save_file({"a": torch.zeros(1)}, path),
        lambda path: save_file({"a": torch.zeros(1)}, path, metadata={"record": '{"params": {}}'}),
        lambda path: save_file(load_file(path), path, metadata={"record": "not JSON"}),
        lambda path: rewritten(path, towers={**record_of(path)["towers"], "depth": 3}),
        lambda path: rewritten(path, state={"a": torch.zeros(1)}),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids="empty random short cut pickle foreign partial json key state folder".split(),
)
def test_broken_or_foreign(checkpoint, breaking):
    breaking(checkpoint)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(checkpoint)


def test_no_byte_changes_unnoticed(checkpoint):
    """Each of some hundred places, in the header as in the weights."""
    sound, weights, record = checkpoint.read_bytes(), load_file(checkpoint), load_record(checkpoint)
    length, refused = int.from_bytes(sound[:8], "little"), 0
    for place in [*range(0, 8 + length, 1 + length // 60), *range(8 + length, len(sound), 1 + len(sound) // 60)]:
        damaged = bytearray(sound)
        damaged[place] ^= 1
        checkpoint.write_bytes(damaged)
        try:
            require_whole(checkpoint)
            found = load_file(checkpoint)
            assert load_record(checkpoint) == record and found.keys() == weights.keys()
            assert all(torch.equal(found[name], weights[name]) for name in found)
        except CheckpointError as error:
            assert "model.safetensors" in str(error)
            refused += 1
    assert refused > 110


def test_changed_weights_are_refused(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    content[-5] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load_model(checkpoint)


def test_files_of_before_checksums_load(checkpoint):
    record, weights = record_of(checkpoint), load_file(checkpoint)
    del record["checksum"]
    save_file(weights, checkpoint, metadata={"record": json.dumps(record)})
    assert load_model(checkpoint)[1].checksum == ""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a checkpoint, its state and its record."""
    path = tmp_path_factory.mktemp("small") / "model.safetensors"
    saved(path, tiny())
    return path.read_bytes(), load_file(path), record_of(path)


@pytest.fixture
def deaf(monkeypatch):
    """No socket can be opened, no name looked up; what was tried."""
    tried = []

    def refuse(*place, **options):
        tried.append(place)
        raise OSError("no network")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tried


def headed(path, state, record):
    """Write weights under a record that may be odd; the checksum is that of no file."""
    if isinstance(record, dict):
        record = record | {"checksum": ""}
    save_file(state, path, metadata={"record": record if isinstance(record, str) else json.dumps(record)})


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "hf-hub:someone/something"},
        {"model": "hf-hub:"},
        {"model": "local-dir:/"},
        {"model": "roberta-ViT-B-32"},
        {"model": "https://example.org/weights"},
        {"family": "lite", "model": "hf-hub:timm/tf_efficientnet_lite0.in1k"},
        {"family": "lite", "model": "hf_hub:timm/tf_efficientnet_lite0.in1k"},
        {"family": "lite", "model": "tf_efficientnet_lite0", "pretrained": "hf-hub:a/b"},
        {"pretrained": "openai"},
        {"pretrained": "openai", "model": "ViT-B-32-quickgelu"},
    ],
)
def test_no_weights_file_asks_a_network(small, tmp_path, deaf, changes):
    _, state, record = small
    headed(tmp_path / "model.safetensors", state, {**record, "towers": {**record["towers"], **changes}})
    try:
        load_model(tmp_path / "model.safetensors")
    except CheckpointError as error:
        assert "model.safetensors" in str(error)
    assert not deaf


WEIGHT, TEXT = "decoder.decoder_linear_map.weight", "text_embeddings"


@pytest.mark.parametrize(
    "name, change, message",
    [
        (WEIGHT, lambda v: torch.full_like(v, torch.nan), f"{WEIGHT}: holds NaN"),
        (WEIGHT, lambda v: v / 0, f"{WEIGHT}: holds NaN or infinity"),
        (WEIGHT, lambda v: v.double() + 1e300, f"{WEIGHT}: holds NaN or infinity"),
        (WEIGHT, lambda v: v.to(torch.int8), f"{WEIGHT}: expected torch.float32, got torch.int8"),
        (WEIGHT, lambda v: v.to(torch.bool), f"{WEIGHT}: expected torch.float32, got torch.bool"),
        (TEXT, lambda v: torch.full_like(v, torch.inf), f"{TEXT}: holds NaN"),
        (TEXT, lambda v: v.to(torch.int64), f"{TEXT}: expected torch.float32, got torch.int64"),
        (TEXT, lambda v: v.flatten(), "2 prompts, embeddings of [128]"),
        (TEXT, lambda v: v[:1], "2 prompts, embeddings of [1, 64]"),
        (TEXT, lambda v: v[:, :63], "of another model"),
        (TEXT, lambda v: v[..., None], "2 prompts, embeddings of [2, 64, 1]"),
        (WEIGHT, lambda v: v[:, :1], "of another model"),
        ("decoder.reduces.0.weight", lambda v: v[:3], "no decoder of width 8"),
    ],
)
def test_values_that_are_no_weights(small, tmp_path, name, change, message):
    path, (_, state, record) = tmp_path / "model.safetensors", small
    headed(path, {**state, name: change(state[name]).contiguous()}, record)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*" + re.escape(message)):
        load_model(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_are_weights(small, tmp_path, dtype):
    headed(tmp_path / "model.safetensors", {name: v.to(dtype) for name, v in small[1].items()}, small[2])
    model, _ = load_model(tmp_path / "model.safetensors")
    assert {v.dtype for v in model.state_dict().values()} == {torch.float32}


def test_no_nan_is_written(small, tmp_path):
    model, record = saved(tmp_path / "model.safetensors", tiny())
    with pytest.raises(ValueError, match="JSON"):
        save_model(tmp_path / "other.safetensors", model, replace(record, validation_f1=float("nan")))
    assert not (tmp_path / "other.safetensors").exists()


ODD = {
    "": ["null", "[]", "3", '"text"', "{}", "[" * 100_000, '{"params": NaN}'],
    "format": [0, 3, -1, 2.0, "2", None, True, [], 2**70],
    "params": [None, [], "x", 3, {"seed": float("nan")}],
    "backbone": [None, 3, ["tiny"]],
    "towers": [None, [], "x", 3, {}, {"family": "lite"}],
    "towers.model": ["", "nobody", 3, None, "RN50", "\ud800", "hf-hub:", "local-dir:"],
    "towers.blocks": [[], [1, 2], [3, 2, 1], [1, 2, 99], [0, 1, 2], [1, 2, 2**70], "123"],
    "towers.input_size": [0, -3, 1e9, 2**40, "64", True, None],
    "towers.family": ["lite", "timm", None],
    "decoder.width": [0, 6, 2**40, 2**70, -8, 8.5, "8"],
    "decoder.group": ["C3", "SO(2)", None],
    "decoder.layers": [0, 3, 1e3, "2", True],
    "decoder": [None, [], {}],
    "precision": ["int8", None, 16],
    "task": ["both", None, 3],
    "prompt_kind": [None, 3, []],
    "prompts": [None, 3, "cat dog", [3], ["a"], ["a"] * 50, {}, [None]],
    "epoch": [None, "x", -1, 1.5, float("nan"), True, 2**70],
    "validation_f1": [None, "x", -0.1, 1.5, float("nan"), float("inf"), True],
    "thresholds": [None, {}, [], 3, {"a": None}, {"a": "x"}, {"a": float("nan")}, {"a": -1}, {"a": 2}, {"a": True}],
    "detection_threshold": ["x", -0.1, 1.1, float("nan"), float("inf"), [], True],
    "calibration": [
        "x",
        3,
        [],
        [0.5] * 4,
        [0.5] * 6,
        [0.5] * 4 + [2],
        [float("nan")] * 5,
        [1e300] * 5,
        ["1"] * 5,
        {"bias": 1},
    ],
    "portable": [None, 3, "yes", True],
    "views": [
        None,
        3,
        [3],
        [[64]],
        [[64, 1]],
        [[64, False, 3]],
        [[0, True]],
        [[2**40, True]],
        [["64", True]],
        {"a": 1},
    ],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in ODD.items() for value in values])
def test_an_odd_header_is_an_error_that_names_the_file(small, tmp_path, deaf, key, value):
    path, (_, state, record) = tmp_path / "model.safetensors", small
    if key:
        record = section = json.loads(json.dumps(record))
        *sections, last = key.split(".")
        for name in sections:
            section = section[name]
        section[last] = value
    headed(path, state, record if key else value)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .{10}"):
        load_model(path)
    assert not deaf


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_in_a_header(small, tmp_path, data):
    """It is loaded or refused in a message that names the file; nothing else happens."""
    path, (_, state, record) = tmp_path / "model.safetensors", small
    record = section = json.loads(json.dumps(record))
    while True:
        key = data.draw(st.sampled_from(sorted(section)))
        if not isinstance(section[key], dict) or not section[key] or data.draw(st.integers(0, 5)) == 0:
            break
        section = section[key]
    section[key] = data.draw(anything)
    headed(path, state, record)
    try:
        load_record(path)
    except CheckpointError as error:
        assert "model.safetensors" in str(error)
