"""Checkpoints: what is loaded equals what was saved; any other file is named as what it is not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.ablation import short
from pipeline.backbones.catalogue import embed_prompts
from pipeline.checkpoints import build_model, load_model, load_weights, require_whole, save_model
from pipeline.errors import CheckpointError
from pipeline.params import load_params
from pipeline.records import ModelRecord, load_record

COMMITTED = Path(__file__).parents[1] / "params.yaml"
PROMPTS = ["cat dog", "fire hydrant vögel"]


def tiny(kind="sapg", upsampler="equivariant"):
    """Parameters of a model that is quick to make."""
    small = ["backbone=tiny", "ablation.input_size=64", "decoder.width=8"]
    return short(load_params(COMMITTED, [*small, f"prompts.kind={kind}", f"decoder.upsampler={upsampler}"]))


def small_lite(*changes):
    """Parameters of the smallest model of the family lite."""
    small = ["backbone=lite", "ablation.input_size=64", "decoder.width=16", "decoder.group=C4", "prompts.kind=none"]
    return short(load_params(COMMITTED, [*small, *changes]))


def saved(path, params):
    """A model and its record, after they were written to `path`."""
    torch.manual_seed(3)
    prompts = [] if params.prompts.kind == "none" else PROMPTS
    model = build_model(params, prompts, embed_prompts(params.chosen, prompts), pretrained=True)
    record = ModelRecord(params, prompts, 7, 0.25, {"dendi": 0.5, "sdrw": 0.125})
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


def test_header_holds_params_and_prompts(checkpoint):
    header = record_of(checkpoint)
    assert header["prompts"] == PROMPTS and header["epoch"] == 7 and header["validation_f1"] == 0.25
    assert header["params"] == tiny().model_dump(mode="json")
    assert load_record(checkpoint).params == tiny()


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

    monkeypatch.setattr("pipeline.checkpoints.save_file", disk_full)
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


def older_params():
    """Parameters with a key that is not known any more."""
    return {**tiny().model_dump(mode="json"), "sead": 1}


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
        lambda path: rewritten(path, score=0.5),
        lambda path: rewritten(path, params=older_params()),
        lambda path: rewritten(path, state={"a": torch.zeros(1)}),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids="empty random short cut pickle foreign partial json newer older state folder".split(),
)
def test_broken_or_foreign(checkpoint, breaking):
    breaking(checkpoint)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(checkpoint)


def test_keys_that_came_later_and_keys_that_are_gone(checkpoint, monkeypatch):
    """A trained model is not lost by a new version: what its file lacks has a stated value."""
    weights, record = load_file(checkpoint), record_of(checkpoint)
    del record["params"]["train"]["gamma"]
    record["params"]["train"]["former"], record["checksum"] = 1, ""
    save_file(weights, checkpoint, metadata={"record": json.dumps(record)})
    with pytest.raises(CheckpointError, match="former"):
        load_record(checkpoint)
    monkeypatch.setattr("pipeline.records.LATER", {"train.gamma": 1.5, "train.alpha": 0.5})
    monkeypatch.setattr("pipeline.records.GONE", ("train.former",))
    found = load_record(checkpoint).params.train
    assert found.gamma == 1.5 and found.alpha == tiny().train.alpha


@pytest.mark.parametrize("turns, augmentation", [(True, "turned"), (False, "tilted")])
def test_checkpoints_of_before_the_released_augmentation_say_how_they_were_made(checkpoint, turns, augmentation):
    weights, record = load_file(checkpoint), record_of(checkpoint)
    del record["params"]["train"]["augmentation"], record["params"]["preprocess"]["targets"]
    del record["params"]["prompts"]["file"]
    record["params"]["train"]["quarter_turns"] = turns
    save_file(weights, checkpoint, metadata={"record": json.dumps(record)})
    found = load_record(checkpoint).params
    assert found.train.augmentation == augmentation and found.preprocess.targets == "clipped"
    assert found.prompts == tiny().prompts


@pytest.mark.parametrize("task", ["reflection", "rotation"])
def test_the_shipped_weights_say_how_they_were_made(task):
    found = load_record(COMMITTED.parent / "pipeline" / "weights" / f"lite_{task}.safetensors").params
    assert found.train.augmentation == "tilted" and found.preprocess.targets == "clipped"


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


@pytest.mark.parametrize("load", [load_model, lambda path: load_weights(load_model(path.with_name("sound"))[0], path)])
def test_changed_weights_are_refused(checkpoint, load):
    checkpoint.with_name("sound").write_bytes(checkpoint.read_bytes())
    content = bytearray(checkpoint.read_bytes())
    content[-5] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load(checkpoint)


def test_files_of_before_checksums_load(checkpoint):
    record, weights = record_of(checkpoint), load_file(checkpoint)
    del record["checksum"]
    save_file(weights, checkpoint, metadata={"record": json.dumps(record)})
    assert load_model(checkpoint)[1].checksum == ""
