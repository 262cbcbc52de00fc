"""params.yaml: what is committed loads, and what is wrong is named with what is allowed."""

import copy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import get_args

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from pydantic import BaseModel, ValidationError

from pipeline.errors import ParamsError
from pipeline.evaluation.cells import short
from pipeline.params import BackboneParams, Params, load_params
from pipeline.params.changes import changed as replaced
from pipeline.params.project import named_files

COMMITTED = Path(__file__).parents[2] / "params.yaml"
CONTENT = yaml.safe_load(COMMITTED.read_text())
DELETED = object()


def changed(changes):
    """The committed content with other values under some dotted keys."""
    content = copy.deepcopy(CONTENT)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = content
        for name in sections:
            section = section[name]
        if value is DELETED:
            del section[last]
        else:
            section[last] = value
    return content


def load(tmp_path, changes):
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(changed(changes)))
    return load_params(path)


def faults(tmp_path, changes):
    """The lines of the message, each of which names the file."""
    with pytest.raises(ParamsError) as caught:
        load(tmp_path, changes)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{tmp_path / 'changed.yaml'}: ") for line in lines)
    return lines


def test_committed():
    params = load_params(COMMITTED)
    assert params.chosen is params.backbones[params.backbone]
    assert params.model_dump(mode="json") == CONTENT
    assert load_params(COMMITTED) == params


def test_frozen():
    params = load_params(COMMITTED)
    with pytest.raises(ValidationError):
        params.seed = 1
    with pytest.raises(ValidationError):
        params.chosen.input_size = 1


@pytest.mark.parametrize(
    "key, value, words",
    [
        # unknown keys
        ("sead", 1, ["no such key", "seed", "task", "did you mean 'seed'?"]),
        ("zzzzzz", 1, ["no such key", "backbones"]),
        ("train.epoch", 1, ["no such key", "epochs", "warmup", "did you mean 'epochs'?"]),
        ("backbones.lite.model_name", "x", ["no such key", "input_size", "weights", "did you mean 'model'?"]),
        # missing keys
        ("task", DELETED, ["missing"]),
        ("train", DELETED, ["missing"]),
        ("decoder.group", DELETED, ["missing"]),
        ("backbones.clip.blocks", DELETED, ["missing"]),
        # values outside what is allowed
        ("task", "axes", ["reflection", "rotation", "axes"]),
        ("data", "real", ["embedded", "published", "real"]),
        ("decoder.group", "C5", ["C4", "C8", "C16", "D4", "D8", "C5"]),
        ("decoder.upsampler", "bilinear", ["equivariant", "plain", "bilinear"]),
        ("decoder.width", 30, ["multiple of 4", "30"]),
        ("prompts.kind", "sapq", ["sapg", "reflection_axis", "objects_25", "none", "sapq"]),
        ("train.schedule", "cosine", ["exp", "constant", "step", "cos", "cooldown", "cosine"]),
        ("train.decay", 0.0, ["greater than 0", "0.0"]),
        ("train.decay", 1.5, ["less than or equal to 1", "1.5"]),
        ("train.alpha", 1.0, ["less than 1", "'balanced'", "1.0"]),
        ("train.alpha", "balance", ["less than 1", "'balanced'", "'balance'"]),
        ("train.accumulate", 0, ["greater than or equal to 1", "0"]),
        ("train.image_tower", "fixed", ["trained", "frozen", "fixed"]),
        ("train.text_tower", True, ["trained", "frozen", "True"]),
        ("train.layer_decay", 0.0, ["greater than 0", "0.0"]),
        ("train.layer_decay", 1.1, ["less than or equal to 1", "1.1"]),
        ("train.ema", 1.0, ["less than 1", "1.0"]),
        ("train.overfit", -1, ["greater than or equal to 0", "-1"]),
        ("train.precision", "fp64", ["fp32", "bf16", "fp16", "fp64"]),
        ("decoder.layers", 3, ["1, 2 or 4", "3"]),
        ("train.epochs", 0, ["greater than or equal to 1", "0"]),
        ("train.datasets", [], ["at least 1"]),
        ("seed", -1, ["greater than or equal to 0", "-1"]),
        ("embedded.images", 3, ["greater than or equal to 8", "3"]),
        ("evaluate.sdrw_validation", "test", ["held_out", "released", "test"]),
        ("backbones.tiny.family", "timm", ["lite", "open_clip", "timm"]),
        ("backbones.tiny.normalisation", "imagenet", ["released", "own", "imagenet"]),
        ("backbones.tiny.blocks", [1, 2], ["three numbers", "[1, 2]"]),
        ("backbones.tiny.tower_lr", 0, ["greater than 0", "0"]),
        # types
        ("seed", "zero", ["integer", "'zero'"]),
        ("seed", True, ["integer", "True"]),
        ("seed", 1.5, ["integer", "1.5"]),
        ("train", 3, ["3"]),
        ("train.epochs", "many", ["integer", "'many'"]),
        ("train.gamma", "two", ["number", "'two'"]),
        ("train.datasets", "dendi", ["tuple", "'dendi'"]),
        ("backbones.tiny.input_size", 224.5, ["integer", "224.5"]),
        ("backbones", ["lite"], ["dictionary"]),
        # what no single key shows
        ("backbone", "lightt", ["unknown backbone 'lightt'", "allowed", "clip", "siglip"]),
        ("backbone", "siglop", ["did you mean 'siglip'?"]),
        ("train.gamma", 0.5, ["0, or 1 and more"]),
        ("train.augmentation", "none", ["released", "turned", "tilted", "none"]),
        ("train.quarter_turns", True, ["no such key", "augmentation"]),
        ("preprocess.targets", "blurred", ["released", "clipped", "blurred"]),
    ],
)
def test_one_fault(tmp_path, key, value, words):
    (line,) = faults(tmp_path, {key: value})
    assert line.startswith(f"{tmp_path / 'changed.yaml'}: {key}: ")
    message = line.removeprefix(str(tmp_path))
    assert not [word for word in words if word not in message]


@pytest.mark.parametrize("where", ["prompts.kind", "ablation.prompts", "presets.kinds"])
@pytest.mark.parametrize("kind, key", [("file", "prompts.file"), ("released", "prompts.vocabulary")])
def test_kinds_of_prompts_that_need_a_file(tmp_path, where, kind, key):
    value = kind if where == "prompts.kind" else ["sapg", kind]
    (line,) = faults(tmp_path, {where: value})
    assert f": {key}: empty" in line and kind in line
    assert load(tmp_path, {where: value, key: "words.txt"})


@pytest.mark.parametrize(
    "key, value, named",
    [
        ("train.datasets", ["dendi", "coco"], "train.datasets.1: "),
        ("ablation.prompts", ["sapg", "nothing"], "ablation.prompts.1: "),
        ("backbones.tiny.blocks", [1, 2, "three"], "backbones.tiny.blocks.2: "),
        ("backbones.tiny.blocks", [0, 1, 2], "backbones.tiny.blocks.0: "),
        ("ablation.backbone", ["tiny", "huge"], "ablation.backbone: unknown backbone 'huge'"),
    ],
)
def test_fault_inside_a_list(tmp_path, key, value, named):
    assert len([line for line in faults(tmp_path, {key: value}) if named in line]) == 1


def test_all_faults_at_once(tmp_path):
    changes = {"sead": 1, "task": "axes", "decoder.group": DELETED, "train.epochs": 0, "backbones.clip.modle": "x"}
    lines = faults(tmp_path, changes)
    assert sorted(line.split(": ")[1] for line in lines) == sorted(changes)


def test_all_contradictions_at_once(tmp_path):
    changes = {"backbone": "huge", "task": "rotation", "train.datasets": ["nyu"]}
    assert len(faults(tmp_path, changes)) == 3


def test_rotation_needs_dendi(tmp_path):
    (line,) = faults(tmp_path, {"task": "rotation", "train.datasets": ["sdrw", "ldrs"]})
    assert "train.datasets: " in line and "dendi" in line
    assert load(tmp_path, {"task": "rotation"}).task == "rotation"


def test_nyu_alone_has_no_validation(tmp_path):
    (line,) = faults(tmp_path, {"train.datasets": ["nyu"]})
    assert "dendi, sdrw, ldrs or own" in line


def test_width_must_be_halved_in_each_layer(tmp_path):
    (line,) = faults(tmp_path, {"decoder.layers": 4, "decoder.width": 24})
    assert "decoder.width: must be divisible by 16 with 4 layers" in line
    assert load(tmp_path, {"decoder.layers": 4, "decoder.width": 48}).decoder.layers == 4


def test_no_text_to_train(tmp_path):
    (line,) = faults(tmp_path, {"train.text_tower": "trained", "prompts.kind": "none"})
    assert "train.text_tower: " in line and "prompts.kind: none" in line
    assert load(tmp_path, {"train.text_tower": "trained"}).train.text_tower == "trained"


@pytest.mark.parametrize("alpha", [-1, 0, 0.95, "balanced"])
def test_alpha_is_a_number_or_a_word(tmp_path, alpha):
    assert load(tmp_path, {"train.alpha": alpha}).train.alpha == alpha


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just words", "a: [1\n", "a: 1: 2"])
def test_not_a_mapping(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match="params.yaml: (expected a mapping|not YAML)"):
        load_params(path)


@pytest.mark.parametrize(
    "text",
    ["1e-4", "1.5e3", "010", "0x10", "0o10", "1:30", "12:00:00", "on", "no", "True", "null", "", "[no, 1e-4]", "1_000"],
)
def test_a_value_is_what_dvc_takes_it_for(text):
    """PyYAML takes 1e-4 for text, 010 for 8, 1:30 for 90, on for true."""
    ours, theirs = replaced({"key": 0}, f"key={text}")["key"], parse_yaml(f"key: {text}", "params.yaml")["key"]
    assert ours == theirs and type(ours) is type(theirs)


@pytest.mark.parametrize("change", ["train.epochs=1:30", "preprocess.repair=yes", "seed=1e1", "train.decay=0:0:1"])
def test_a_value_that_only_looks_like_another_is_refused(change):
    key, _, value = change.partition("=")
    with pytest.raises(ParamsError, match=f"{key}: Input should be a valid .*; got '?{value.replace('1e1', '10')}"):
        load_params(COMMITTED, [change])


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text(COMMITTED.read_text() + "seed: 7\n")
    with pytest.raises(ParamsError, match='not YAML: .*\n.*\nfound duplicate key "seed"'):
        load_params(tmp_path / "params.yaml")


def test_no_file(tmp_path):
    with pytest.raises(ParamsError, match="nowhere.yaml: not found"):
        load_params(tmp_path / "nowhere.yaml")


def test_numbers_as_yaml_writes_them(tmp_path):
    """YAML 1.1 reads 1e-4, without a point, as text."""
    path = tmp_path / "params.yaml"
    path.write_text(COMMITTED.read_text().replace("1.0e-4", "1e-4"))
    assert load_params(path) == load_params(COMMITTED)


def test_changes_and_short_runs():
    params = load_params(COMMITTED)
    changes = ["backbone=tiny", "prompts.kind=none", "decoder.upsampler=plain", "backbones.tiny.blocks=[1, 2, 3]"]
    cell = short(load_params(COMMITTED, changes))
    assert (cell.backbone, cell.prompts.kind, cell.decoder.upsampler) == ("tiny", "none", "plain")
    assert cell.chosen.blocks == (1, 2, 3)
    assert cell.chosen.input_size == params.ablation.input_size and cell.chosen.model == params.backbones["tiny"].model
    assert cell.train.epochs == params.ablation.epochs and cell.train.datasets == ("dendi",)
    assert cell.backbones["clip"] == params.backbones["clip"]
    assert cell.decoder.group == params.decoder.group and cell.seed == params.seed
    assert params == load_params(COMMITTED) == load_params(COMMITTED, [f"seed={params.seed}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.emma=0.5", "train.emma: no such key; allowed: .*did you mean 'ema'"),
        ("train.ema", "'train.ema': expected key=value"),
        ("trian.ema=0.5", "there is no section 'trian'; allowed: .*train"),
        ("seed.of=1", "there is no section 'seed'"),
        ("decoder.group=C5", "decoder.group: Input should be 'C4', 'C8'"),
        ("train.ema=[", "'train.ema=\\[': '\\[' is not YAML"),
    ],
)
def test_a_change_that_cannot_be(change, message):
    with pytest.raises(ParamsError, match=message):
        load_params(COMMITTED, [change])


def leaves(section=Params, prefix=""):
    """Dotted key -> the annotated type of its value; of one backbone for all."""
    for name, field in section.model_fields.items():
        if name == "backbones" and section is Params:
            yield from leaves(BackboneParams, "backbones.tiny.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


# By ==, with which DVC compares, 1, 1.0 and true are the same, and so are 0, 0.0 and false.
OTHERS = {int: (True, False, 0.0, 1.0, 2.0, 4.0), float: (True, False), bool: (0, 1, 0.0, 1.0), str: (True, 0, 1, 2.0)}


def kinds(value):
    """The types that the committed value allows; a list's are those of its items."""
    first = value[0] if isinstance(value, list) else value
    return str if first is None else type(first)


@pytest.mark.parametrize("key", [key for key, _ in leaves()])
def test_an_equal_value_of_another_type_is_refused(tmp_path, key):
    """DVC would see no change in it, and the stage would not run."""
    value = reduce(getitem, key.split("."), CONTENT)
    for other in OTHERS[kinds(value)]:
        changed = [other, *value[1:]] if isinstance(value, list) else other
        named = [line for line in faults(tmp_path, {key: changed}) if f": {key}" in line]
        assert named, f"{key}: {other!r} is taken"


@pytest.mark.parametrize(("key", "field"), list(leaves()))
def test_an_empty_text_counts_as_none_or_is_refused_by_name(tmp_path, key, field):
    if type(None) in get_args(field.annotation):
        for text in ("", "  "):
            assert reduce(getitem, key.split("."), load(tmp_path, {key: text}).model_dump()) is None
    elif key != "published.password":
        assert any(f": {key}: " in line for line in faults(tmp_path, {key: ""}))


def test_named_files_are_those_of_all_sections():
    params = load_params(
        COMMITTED, ["published.dendi=~/DENDI.zip", "published.pmc=https://a.b/c", "train.initial=model.safetensors"]
    )
    found = dict(named_files(params))
    assert found["published.dendi"] == Path("~/DENDI.zip") and found["published.pmc"] is None
    assert found["train.initial"] == Path("model.safetensors") and found["own.folder"] == Path("data/own")
    assert found["prompts.vocabulary"] is None and {f"backbones.{name}.weights" for name in params.backbones} <= set(
        found
    )
    assert params.model_dump(mode="json")["published"]["dendi"] == "~/DENDI.zip"  # as it was written, for the record


@pytest.mark.parametrize("key", ["presets.options", "presets.backbones", "ablation.backbone"])
@pytest.mark.parametrize("value", ["", "a@b", "a b", "a/b", "..", "a:b", "$a", "a;b", "a${b}"])
def test_what_cannot_be_in_the_name_of_a_stage_is_refused(tmp_path, key, value):
    if value != "..":
        assert any(f": {key}.0: " in line for line in faults(tmp_path, {key: [value]}))


@pytest.mark.parametrize("key", [key for key, _ in leaves() if key.startswith(("presets.", "ablation."))])
def test_a_value_twice_would_be_one_cell(tmp_path, key):
    value = reduce(getitem, key.split("."), CONTENT)
    if isinstance(value, list):
        (line,) = faults(tmp_path, {key: [*value, value[0]]})
        assert f": {key}: Input should hold each value once, not '{value[0]}' again" in line


def test_cells_of_one_name_are_refused(tmp_path, monkeypatch):
    """No two of the words of today join to the same name; those of tomorrow may."""
    monkeypatch.setattr("pipeline.params.load.product", lambda *axes: [("a-b", "c"), ("a", "b-c")])
    (line,) = faults(tmp_path, {})
    assert "ablation: several of its cells would be called 'a-b-c'" in line


def test_a_backbone_has_a_name_that_a_file_can_have(tmp_path):
    entry = CONTENT["backbones"]["tiny"]
    assert "backbones.a/b" in faults(tmp_path, {"backbones": CONTENT["backbones"] | {"a/b": entry}})[0]


@pytest.mark.parametrize("name", ["ViT.B16", "a[0]"])
def test_a_backbone_has_a_name_that_a_key_can_have(tmp_path, name):
    """DVC would miss the parameter backbones.ViT.B16.input_size."""
    (line,) = faults(tmp_path, {"backbones": CONTENT["backbones"] | {name: CONTENT["backbones"]["tiny"]}})
    assert f"backbones.{name}" in line and "none of . [ ]" in line


@pytest.mark.parametrize("key", ["backbones.tiny.model", "backbones.tiny.pretrained"])
def test_a_text_of_blanks_is_none(tmp_path, key):
    assert f": {key}: " in faults(tmp_path, {key: "  "})[0]
