"""Towers by name, weights in the forms of others, and what happens when weights are missing or wrong."""

import pickle
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import BackboneError, CheckpointError
from pipeline.model.backbones.catalogue import IMAGENET, pretrained, random_image_tower
from pipeline.model.backbones.pickles import read_torchscript
from pipeline.params import load_params

CATALOGUE = load_params(Path(__file__).parents[3] / "params.yaml").backbones
TINY = CATALOGUE["tiny"].model


def entry(name, **changes):
    """A catalogue entry with some of its values replaced."""
    return CATALOGUE[name].model_copy(update=changes)


def features(tower, images):
    with torch.no_grad():
        return tower(images)


@pytest.mark.parametrize("name", ["lite", "tiny"])
def test_normalisation(name):
    image = torch.rand(1, 3, 32, 32)
    towers = {kind: random_image_tower(entry(name, normalisation=kind)) for kind in ("released", "own")}
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    torch.testing.assert_close(towers["released"].normalise(image), (image - mean) / std)
    assert not torch.allclose(towers["own"].normalise(image), towers["released"].normalise(image))


def test_no_prompts_have_no_embeddings():
    assert pretrained(CATALOGUE["lite"]).embed([]) is None
    assert pretrained(CATALOGUE["tiny"]).embed([]) is None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of open_clip, and the folder where its weights lie in several forms."""
    torch.manual_seed(5)
    model, folder = open_clip.create_model(TINY, load_weights=False).eval(), tmp_path_factory.mktemp("weights")
    state = model.state_dict()
    torch.save(state, folder / "plain.pt")
    torch.save({"epoch": 1, "state_dict": state}, folder / "training.pt")
    save_file(state, folder / "plain.safetensors")
    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        (folder / name.split(".")[1]).mkdir()
        save = save_file if name.endswith("safetensors") else torch.save
        save(state, folder / name.split(".")[1] / name)
    return model, folder


@pytest.mark.parametrize("form", ["plain.pt", "training.pt", "plain.safetensors", "safetensors", "bin"])
def test_local_weights(saved, form):
    model, folder = saved
    config, state = entry("tiny", weights=folder / form), model.visual.state_dict()
    own = pretrained(config).image_tower().visual.state_dict()
    assert own and all(torch.equal(value, state[name]) for name, value in own.items())
    tokens = open_clip.get_tokenizer(TINY)(["cat dog"])
    torch.testing.assert_close(pretrained(config).embed(["cat dog"]), features(model.encode_text, tokens))


class Unknown:
    """Some code that a pickle names."""


def torchscript(model, path):
    tokens = open_clip.get_tokenizer(TINY)(["a"])
    with torch.no_grad():
        torch.jit.trace(model, (torch.rand(1, 3, 224, 224), tokens), check_trace=False).save(path)


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


FORMS = {
    "torchscript": torchscript,
    "hub's blob": lambda model, path: save_file(model.state_dict(), path),
    "half": lambda model, path: save_file({k: v.half() for k, v in model.state_dict().items()}, path),
    "legacy": lambda model, path: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
    "parallel": lambda model, path: torch.save(prefixed(model.state_dict(), "module."), path),
    "compiled": lambda model, path: torch.save({"model": prefixed(model.state_dict(), "_orig_mod.")}, path),
    "both": lambda model, path: torch.save(prefixed(model.state_dict(), "module._orig_mod."), path),
    "a part": lambda model, path: torch.save({**prefixed(model.state_dict(), "clip."), "other": torch.ones(1)}, path),
    "model": lambda model, path: torch.save({"model": model.state_dict(), "epoch": 3}, path),
    "twice": lambda model, path: torch.save({"model": {"state_dict": model.state_dict()}}, path),
    "numpy": lambda model, path: torch.save(
        {"best": np.float64(0.5), "log": np.zeros((2, 3)), "state_dict": model.state_dict(), "args": Namespace(lr=1)},
        path,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_in_the_forms_of_others(saved, tmp_path, form):
    """By their content: the name tells nothing."""
    model, _ = saved
    FORMS[form](model, str(tmp_path / "weights"))
    own, state = (
        pretrained(entry("tiny", weights=tmp_path / "weights")).image_tower().visual.state_dict(),
        model.visual.state_dict(),
    )
    tolerance = 1e-3 if form == "half" else 0
    assert own and all((value - state[name]).abs().max() <= tolerance for name, value in own.items())


@pytest.mark.parametrize(
    "content, message",
    [
        ({"state_dict": {}, "maker": Unknown()}, "test_catalogue.Unknown, which is code and not weights"),
        ({"state_dict": {}, "out": Path("x")}, r"pathlib\S*Path, which is code"),
        ({"epoch": 3, "args": {"lr": 1}}, r"expected tensors by name.*epoch \(int\)"),
        ({"logit_scale": torch.tensor(torch.nan)}, "logit_scale: holds NaN"),
        ({"logit_scale": torch.tensor(3)}, "logit_scale: expected torch.float32, got torch.int64"),
    ],
)
def test_weights_that_are_none(tmp_path, content, message):
    """One line, without the colours of a terminal and without advice to load a file unchecked."""
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(BackboneError, match=message) as error:
        pretrained(entry("tiny", weights=tmp_path / "weights.pt")).image_tower()
    said = str(error.value)
    assert "weights.pt" in said and "weights_only" not in said and "\x1b" not in said and "\n" not in said


def test_a_dict_that_holds_itself(tmp_path):
    content = {"logit_scale": torch.tensor(1.0)}
    content["model"] = content
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(BackboneError, match="expected tensors by name"):
        pretrained(entry("tiny", weights=tmp_path / "weights.pt")).image_tower()


@pytest.mark.parametrize("start", [b"version https://git-lfs.github.com/spec/v1", b"<!DOCTYPE html>", b"PK\x03\x04"])
def test_no_weights_at_all_are_named_by_what_they_begin_with(tmp_path, start):
    (tmp_path / "weights.bin").write_bytes(start * 30)
    with pytest.raises(BackboneError, match="it begins with b'(version|<!DOC)|damaged, or cut off"):
        pretrained(entry("tiny", weights=tmp_path / "weights.bin")).image_tower()


def test_the_code_of_an_archive_is_never_run(saved, tmp_path, monkeypatch):
    """Neither are other names in its pickle than those of modules and tensors."""
    torchscript(saved[0], str(tmp_path / "good.pt"))
    monkeypatch.setattr(torch.jit, "load", None)
    assert read_torchscript(tmp_path / "good.pt").keys() == saved[0].state_dict().keys()
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "odd.pt", "w") as odd:
        for name in good.namelist():
            called = name.endswith("/data.pkl")
            odd.writestr(name, pickle.dumps(Path("x").joinpath) if called else good.read(name))
    with pytest.raises(CheckpointError, match=r"odd\.pt: a damaged TorchScript archive.*is no part of a module"):
        read_torchscript(tmp_path / "odd.pt")


@pytest.mark.parametrize("name", ["lite", "tiny"])
@pytest.mark.parametrize("form", ["random.pt", "random.safetensors", "empty.pt", "list.pt", "other.pt", "no", "folder"])
def test_unusable_weights(tmp_path, name, form):
    for file in ("random.pt", "random.safetensors"):
        (tmp_path / file).write_bytes(bytes(range(1, 256)) * 20)
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder").mkdir()
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(BackboneError, match=form):
        pretrained(entry(name, weights=tmp_path / form)).image_tower()


def test_unknown_names():
    with pytest.raises(BackboneError, match="'nonsense'.*openai.*metaclip_400m"):
        pretrained(entry("clip", pretrained="nonsense")).image_tower()
    with pytest.raises(BackboneError, match="nonsense"):
        pretrained(entry("tiny", model="nonsense")).image_tower()
    with pytest.raises(BackboneError, match="nonsense"):
        pretrained(entry("lite", pretrained="nonsense")).image_tower()
