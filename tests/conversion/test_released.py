"""Checkpoints of the released code: CLIP under Hugging Face's names, and the decoder that was recorded from it."""

import json
from argparse import Namespace
from collections import defaultdict
from pathlib import PosixPath

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel

from pipeline import cli
from pipeline.conversion import released
from pipeline.conversion.released import load_released, released_params
from pipeline.errors import CheckpointError
from pipeline.inference.detector import load
from pipeline.model.checkpoint import load_model, save_model
from pipeline.model.equivariant import equivariant_upsampler
from pipeline.params import load_params

PROMPTS = ["cat dog tree house", "a", "wine glass bird traffic light"]
PREFIXES = ("clip.", "decoder."), ("module.clip.", "module.decoder."), ("", "")
SIZE = 80  # of the image: the recorded decoder's grid is 5 x 5


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """Those of a CLIP that fits the recorded decoder: features of 32 channels, text embeddings of 20."""
    architecture = {
        "embed_dim": 20, "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 32, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "released-small.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(folder)
    ours = load_params(released.PARAMS, ["backbone=clip", "task=reflection"])
    entry = ours.chosen.model_copy(update={"model": "released-small", "input_size": SIZE, "blocks": (2, 3, 4)})
    return ours.model_copy(update={"backbones": {**ours.backbones, "clip": entry}})


@pytest.fixture(scope="module")
def hugging_face():
    """The same CLIP, random, with biases and norms that are not trivial."""
    torch.manual_seed(0)
    common = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    vision = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    text = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = CLIPModel(
        CLIPConfig(
            vision_config={**vision, **common, "image_size": 64, "patch_size": 16},
            text_config={**text, **common, "vocab_size": 49408, "max_position_embeddings": 77},
            projection_dim=20,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 5)
    return model.eval()


@pytest.fixture(params=["equivariant", "plain"])
def tensors(request, golden):
    return load_file(golden / f"decoder_{request.param}.safetensors")


@pytest.fixture
def state(hugging_face, golden):
    """A whole state, with the plain decoder."""
    return joined(hugging_face, load_file(golden / "decoder_plain.safetensors"))


def joined(hugging_face, tensors, prefixes=PREFIXES[0]):
    """The state of the released code's model."""
    decoder = {name: value for name, value in tensors.items() if not name.startswith(("input.", "expected."))}
    clip, own = prefixes
    return {
        **{clip + name: value for name, value in hugging_face.state_dict().items()},
        **{own + name: value for name, value in decoder.items()},
    }


def saved(path, content):
    path = path / "released.pt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("prefixes", PREFIXES)
def test_equals_released(tmp_path, params, hugging_face, tensors, prefixes):
    model, record = load_released(saved(tmp_path, joined(hugging_face, tensors, prefixes)), params, PROMPTS)
    images = torch.rand(2, 3, SIZE, SIZE)
    tokens = open_clip.get_tokenizer("released-small")(PROMPTS)
    with torch.no_grad():
        features, grid = model.image_tower(images)
        normalised = model.image_tower.normalise(images)
        states = hugging_face.vision_model(normalised, output_hidden_states=True, interpolate_pos_encoding=True)
        text = hugging_face.get_text_features(tokens).pooler_output
        recorded = [tensors[f"input.activation.{number}"] for number in range(3)]
        logits = model.decoder(recorded, tensors["input.text_embeddings"], (5, 5))
        assert model(images).shape == (2, 1, SIZE, SIZE)
    assert grid == (5, 5) and not model.training
    for feature, block in zip(features, (2, 3, 4), strict=True):
        torch.testing.assert_close(feature, states.hidden_states[block], atol=1e-4, rtol=0)
    torch.testing.assert_close(model.text_embeddings, text, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, tensors["expected.logits"], atol=1e-4, rtol=0)
    assert record.prompts == PROMPTS and record.thresholds == {"released": 0.5}
    plain = "upsample_layer.0.weight" in tensors
    found = {"upsampler": "plain" if plain else "equivariant", "group": "C8", "layers": 2, "width": 16}
    assert record.decoder.model_dump() == found


def test_position_embeddings_of_the_input_size_stay(tmp_path, params, state):
    key = "clip.vision_model.embeddings.position_embedding.weight"
    state[key] = torch.randn(26, 32)
    model, _ = load_released(saved(tmp_path, state), params, PROMPTS)
    torch.testing.assert_close(model.image_tower.visual.positional_embedding.data, state[key])


def test_buffers_do_not_matter(tmp_path, params, hugging_face, golden):
    tensors = load_file(golden / "decoder_equivariant.safetensors")
    state = joined(hugging_face, tensors)
    upsampler = equivariant_upsampler(16, "C8", 2)
    for name, module in upsampler.named_modules():
        for buffer, value in module.named_buffers(recurse=False):
            state[f"decoder.upsampler.{name}.{buffer}"] = torch.full_like(value, 7)
    state["decoder.upsampler.pool.filter"] = torch.full((1, 32, 3, 3), 7.0)
    state["decoder.upsampler.pool.expanded_bias"] = torch.full((1,), 7.0)
    state["clip.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    model, _ = load_released(saved(tmp_path, state), params, PROMPTS)
    recorded = [tensors[f"input.activation.{number}"] for number in range(3)]
    with torch.no_grad():
        logits = model.decoder(recorded, tensors["input.text_embeddings"], (5, 5))
    torch.testing.assert_close(logits, tensors["expected.logits"], atol=1e-4, rtol=0)


def test_what_the_released_training_writes(tmp_path, params, state):
    """It keeps the prompts, and its command line tells the task."""
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-5}]}
    file = {"epoch": 12, "state_dict": state, "optimizer": optimizer, "args": Namespace(rot_data=0), "prompts": PROMPTS}
    path = saved(tmp_path, {**file, "max_f1": torch.tensor(0.66)})
    model, record = load_released(path, params)
    assert record.prompts == PROMPTS and record.epoch == 12
    expected, _ = load_released(saved(tmp_path, state), params, PROMPTS)
    torch.testing.assert_close(model.text_embeddings, expected.text_embeddings, rtol=0, atol=0)
    path = saved(tmp_path, {**file, "args": Namespace(rot_data=1)})
    with pytest.raises(CheckpointError, match="its task is rotation, not reflection"):
        load_released(path, params)


@pytest.mark.parametrize(
    "more",
    [
        {"max_f1": np.float64(0.66)},
        {"epoch": np.int64(3), "best": np.float32(1)},
        {"history": np.zeros(3), "names": np.array(["a"]), "seen": np.bool_(True)},
        {"args": Namespace(rot_data=0, lr=np.float64(1e-3))},
    ],
)
def test_numbers_of_numpy_do_no_harm(tmp_path, params, state, more):
    path = saved(tmp_path, {"epoch": 12, "state_dict": state, "prompts": PROMPTS, **more})
    _, record = load_released(path, params)
    assert record.epoch == more.get("epoch", 12) and isinstance(record.epoch, int)


@pytest.mark.parametrize("out, named", [(PosixPath("/x"), "Path"), (defaultdict(list), "defaultdict")])
def test_what_else_a_file_holds_is_named(tmp_path, params, state, out, named):
    path = saved(tmp_path, {"state_dict": state, "prompts": PROMPTS, "args": Namespace(rot_data=0, out=out)})
    with pytest.raises(CheckpointError, match=rf"released\.pt: .*{named}, which is code and not weights") as error:
        load_released(path, params)
    assert "weights_only" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": [1, 2, 3]}, "expected its prompts as a list of words"),
        ({"prompts": {"a": 1}}, "expected its prompts as a list of words, got dict"),
        ({"epoch": "last"}, None),
        ({"epoch": float("nan")}, None),
    ],
)
def test_odd_entries(tmp_path, params, state, changes, message):
    path = saved(tmp_path, {"epoch": 12, "state_dict": state, "prompts": PROMPTS, **changes})
    if message is None:
        assert load_released(path, params)[1].epoch == 0
    else:
        with pytest.raises(CheckpointError, match=message):
            load_released(path, params)


@pytest.mark.parametrize("name", ["released.bin", "epoch=3.ckpt", "a1b2c3"])
def test_is_told_apart_by_content(tmp_path, params, state, monkeypatch, name):
    monkeypatch.setattr(released, "released_params", lambda task: params)
    saved(tmp_path, state).rename(tmp_path / name)
    detector = load("reflection", tmp_path / name, "cpu", prompts=PROMPTS)
    assert detector.threshold == 0.5 and detector.info()["threshold_known"]
    assert detector.info()["validation_f1"] is None  # the file tells none, and 0 would be a figure
    save_model(tmp_path / "ours.pt", detector.model, detector.record)
    assert load("reflection", tmp_path / "ours.pt", "cpu").record == detector.record


def test_an_export_is_no_checkpoint(tmp_path, params):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "exported.pt")
    with pytest.raises(CheckpointError, match="exported.pt: a TorchScript archive"):
        load_released(tmp_path / "exported.pt", params)


def test_without_text(tmp_path, params, state):
    state = {name: value for name, value in state.items() if "film" not in name}
    state["decoder.decoder_linear_map.weight"] = torch.ones(1, 1, 1, 1)
    path = saved(tmp_path, state)
    model, record = load_released(path, params)
    assert model.text_embeddings is None and record.prompts == []
    assert model(torch.rand(1, 3, SIZE, SIZE)).shape == (1, 1, SIZE, SIZE)
    with pytest.raises(CheckpointError, match="of 0 prompts, got 3"):
        load_released(path, params, PROMPTS)


def test_kept_as_a_checkpoint_of_ours(tmp_path, params, state):
    model, record = load_released(saved(tmp_path, state), params, PROMPTS)
    save_model(tmp_path / "ours.safetensors", model, record)
    again, same = load_model(tmp_path / "ours.safetensors")
    images = torch.rand(1, 3, SIZE, SIZE)
    assert same == record
    with torch.no_grad():
        torch.testing.assert_close(again(images), model(images))


def test_load_and_command_line(tmp_path, params, state, monkeypatch, capsys):
    path, prompts = saved(tmp_path, state), tmp_path / "prompts.txt"
    monkeypatch.setattr(released, "released_params", lambda task: params)
    prompts.write_text("\n".join(PROMPTS) + "\n\n")
    detector = load("reflection", path, "cpu", prompts=PROMPTS)
    assert detector.threshold == 0.5
    assert detector.detect(np.zeros((40, 60), np.uint8)).heatmap.shape == (40, 60)
    with pytest.raises(SystemExit) as done:
        cli.main(["info", "--weights", str(path), "--prompts", str(prompts)])
    assert not done.value.code and json.loads(capsys.readouterr().out)["prompts"] == PROMPTS
    with pytest.raises(SystemExit, match="holds the weights of 3 prompts"):
        cli.main(["info", "--weights", str(path)])
    with pytest.raises(SystemExit, match=r"absent\.txt: not found.*--prompts"):
        cli.main(["info", "--weights", str(path), "--prompts", str(tmp_path / "absent.txt")])


def test_prompts_are_for_released_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match="it holds its prompts"):
        load("reflection", tmp_path / "model.safetensors", prompts=PROMPTS)


def test_params_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = released_params("rotation")
    assert (found.task, found.backbone) == ("rotation", "clip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip.logit_scale": None}, r"lacks 1 keys, such as logit_scale"),
        ({"clip.vision_model.embeddings.class_embedding": None}, "no key ends in vision_model"),
        ({"decoder.decoder_linear_map.weight": None}, "no key ends in decoder_linear_map"),
        ({"decoder.reduces.0.weight": None}, r"lacks 1 keys, such as reduces\.0\.weight"),
        ({"decoder.reduces.0.weight": torch.zeros(18, 32)}, "multiple of 4, got 18"),
        ({"decoder.reduces.2.weight": torch.zeros(16, 31)}, r"reduces\.2\.weight: expected shape \[16, 32\], got"),
        ({"decoder.film_add.weight": torch.zeros(16, 21)}, r"film_add\.weight: expected shape \[16, 20\], got"),
        ({"clip.text_projection.weight": torch.zeros(16, 20)}, r"text_projection: expected shape \[16, 20\], got"),
        ({"clip.vision_model.embeddings.position_embedding.weight": torch.zeros(16, 32)}, "towers are not of"),
        ({"clip.vision_model.encoder.layers.1.self_attn.q_proj.weight": torch.zeros(32, 8)}, "towers are not of"),
        ({"epoch": 3}, "expected a dict of tensors"),
        ({"decoder.reduces.1.weight": torch.full((16, 32), torch.nan)}, r"reduces\.1\.weight: holds NaN"),
        ({"decoder.reduces.1.weight": torch.zeros(16, 32, dtype=torch.int8)}, "expected torch.float32, got torch.int8"),
        ({"clip.vision_model.pre_layrnorm.bias": torch.full((32,), torch.inf)}, r"ln_pre\.bias: holds NaN or infinity"),
    ],
)
def test_faulty_state(tmp_path, params, state, change, message):
    state = {name: value for name, value in {**state, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        load_released(saved(tmp_path, state), params, PROMPTS)


@pytest.mark.parametrize("prompts", [[], PROMPTS[:2]])
def test_wrong_number_of_prompts(tmp_path, params, state, prompts):
    with pytest.raises(CheckpointError, match=f"of 3 prompts, got {len(prompts)}"):
        load_released(saved(tmp_path, state), params, prompts)


def test_missing_prompts(tmp_path, params, state):
    with pytest.raises(CheckpointError, match="weights of 3 prompts, but not the prompts; give .* --prompts FILE"):
        load_released(saved(tmp_path, state), params)


@pytest.mark.parametrize(
    ("content", "message"), [(torch.zeros(3), "got Tensor"), ({}, "dict of tensors"), (np.zeros, "not a state dict"),
     ({"state_dict": {1: torch.zeros(3)}}, "dict of tensors by name")],
)  # fmt: skip
def test_not_a_state_dict(tmp_path, params, content, message):
    with pytest.raises(CheckpointError, match=message):
        load_released(saved(tmp_path, content), params, PROMPTS)


def test_an_archive_with_a_damaged_directory(tmp_path, params, state):
    path = saved(tmp_path, state)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\x00\x00"))
    with pytest.raises(CheckpointError, match="the archive is damaged"):
        load_released(path, params, PROMPTS)


def test_not_a_file_of_pytorch(tmp_path, params):
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a state dict of PyTorch"):
        load_released(tmp_path / "text.pt", params, PROMPTS)
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        load_released(tmp_path / "absent.pt", params, PROMPTS)
