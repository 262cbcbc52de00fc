"""Image and text towers: the catalogue, the features, and what happens when weights are missing or wrong."""

import math
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from skimage import data as photographs
from transformers import CLIPConfig, CLIPModel

from pipeline.errors import BackboneError, CheckpointError
from pipeline.model.backbones import clip
from pipeline.model.backbones.catalogue import build_image_tower, embed_prompts, require_weights
from pipeline.model.backbones.lite import sine_position
from pipeline.model.backbones.torchscript import read_torchscript
from pipeline.model.backbones.tower import IMAGENET
from pipeline.params import load_params

CATALOGUE = load_params(Path(__file__).parents[2] / "params.yaml").backbones
OPEN_CLIP = sorted(name for name, entry in CATALOGUE.items() if entry.family == "open_clip" and name != "clip_l14")
TINY = CATALOGUE["tiny"].model


def entry(name, **changes):
    """A catalogue entry with some of its values replaced."""
    return CATALOGUE[name].model_copy(update=changes)


def photograph(name):
    """The middle square of one of scikit-image's photographs, [1, 3, 224, 224] in 0..1."""
    image = torch.from_numpy(getattr(photographs, name)()).permute(2, 0, 1)[None].float() / 255
    height, width = image.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[..., top : top + side, left : left + side]
    return F.interpolate(square, size=224, mode="bilinear", antialias=True)


def features(tower, images):
    with torch.no_grad():
        return tower(images)


@pytest.fixture(scope="module")
def lite():
    return build_image_tower(CATALOGUE["lite"])


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_catalogue_entry(name):
    config = CATALOGUE[name]
    tower = build_image_tower(config, pretrained=False)
    own = open_clip.get_pretrained_cfg(config.model, config.pretrained)
    assert own or config.pretrained == "random"
    clips = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    wanted = {"released": dict(zip(("mean", "std"), IMAGENET)), "own": own or clips}[config.normalisation]
    assert tower.mean.flatten().tolist() == pytest.approx(wanted["mean"])
    assert tower.std.flatten().tolist() == pytest.approx(wanted["std"])
    quick = any(isinstance(module, QuickGELU) for module in tower.modules())
    assert quick == own.get("quick_gelu", config.model.endswith("-quickgelu"))
    names = {parameter for parameter, _ in tower.named_parameters()}
    last = max(config.blocks)
    assert any(f"blocks.{last - 1}." in n for n in names) and not any(f"blocks.{last}." in n for n in names)
    assert not [n for n in names if n.split(".")[-1] in ("proj",) or "ln_post" in n or "attn_pool" in n]


def test_clip_features_are_the_blocks_of_the_full_transformer():
    """Of the same weights; and the last row and column of 417 pixels are never seen."""
    config = CATALOGUE["clip"]
    full = open_clip.create_model(config.model, load_weights=False, force_image_size=config.input_size).visual.eval()
    tower, state = build_image_tower(config, pretrained=False).eval(), full.state_dict()
    tower.visual.load_state_dict({name: state[name] for name in tower.visual.state_dict()})
    images = torch.rand(1, 3, 417, 417).repeat(2, 1, 1, 1)
    images[1, :, 416], images[1, :, :, 416] = 0, 1
    outputs = []
    for number in (4, 7, 10):
        full.transformer.resblocks[number - 1].register_forward_hook(lambda *call: outputs.append(call[-1]))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    features(full, (images[:1] - mean) / std)
    found, grid = features(tower, images)
    assert grid == (26, 26) and [f.shape for f in found] == [(2, 677, 768)] * 3
    for feature, output in zip(found, outputs):
        torch.testing.assert_close(feature[:1], output, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(feature[1:], output, rtol=1e-4, atol=1e-4)


def test_siglip_has_no_class_token():
    tower = build_image_tower(entry("siglip", blocks=(1, 2, 3)), pretrained=False).eval()
    found, grid = features(tower, torch.rand(1, 3, 417, 417))
    assert grid == (26, 26) and [f.shape for f in found] == [(1, 676, 768)] * 3


def test_frozen_blocks_of_a_vit():
    tower = build_image_tower(entry("tiny", frozen=2))
    trained = {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
    assert trained == {n for n, _ in tower.named_parameters() if "resblocks.2." in n or "resblocks.3." in n}


def test_lite_weights_are_the_pretrained_ones(lite):
    """The whole network, filled from the same file in the same order, knows a cat and a cup of coffee."""
    network = timm.create_model(CATALOGUE["lite"].model).eval()
    released = torch.load(require_weights(CATALOGUE["lite"]), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), released.values())))
    for name, classes in (("chelsea", {281, 282, 285}), ("coffee", {967})):
        top = features(network, (photograph(name) - 0.5) / 0.5)[0].topk(5).indices.tolist()
        assert classes & set(top)
    assert lite.mean.flatten().tolist() == lite.std.flatten().tolist() == [0.5] * 3
    own = lite.state_dict()
    for block in range(7):
        for name, value in network.blocks[block].state_dict().items():
            assert torch.equal(own[f"blocks.{block}.{name}"], value)
    assert torch.equal(own["stem.0.weight"], network.conv_stem.weight)
    assert torch.equal(own["stem.1.running_var"], network.bn1.running_var)


def test_lite_statistics_stay_and_frozen_parameters_do_not_learn(lite):
    lite.train()
    before = {name: buffer.clone() for name, buffer in lite.named_buffers()}
    sum(f.square().mean() for f in lite(torch.rand(2, 3, 64, 64))[0]).backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in lite.named_buffers())
    learning = {name for name, parameter in lite.named_parameters() if parameter.grad is not None}
    frozen = tuple(f"blocks.{number}." for number in range(CATALOGUE["lite"].frozen))
    assert learning == {n for n, _ in lite.named_parameters() if not n.startswith(("stem.", *frozen))}


@pytest.mark.parametrize("size", [224, 417])
def test_lite_grid(lite, size):
    found, grid = features(lite, torch.rand(1, 3, size, size))
    side = math.ceil(size / 16)
    assert grid == (side, side)
    assert [f.shape for f in found] == [(1, side**2, width) for width in lite.widths]


def test_sine_position():
    code, (row, column) = sine_position(3, 5, 16), torch.tensor([1.0, 2.0])
    assert code.shape == (15, 16) and len(code.unique(dim=0)) == 15
    expected = torch.stack([row.sin(), row.cos(), column.sin(), column.cos()])
    torch.testing.assert_close(code[7, [0, 4, 8, 12]], expected)


@pytest.mark.parametrize("name", ["lite", "tiny"])
def test_normalisation(name):
    image = torch.rand(1, 3, 32, 32)
    towers = {kind: build_image_tower(entry(name, normalisation=kind), False) for kind in ("released", "own")}
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    torch.testing.assert_close(towers["released"].normalise(image), (image - mean) / std)
    assert not torch.allclose(towers["own"].normalise(image), towers["released"].normalise(image))


def test_sentence_embeddings():
    prompts = ["a cat", "a small kitten sleeping on a very soft and warm woollen blanket", "interest rates of a bank"]
    together = embed_prompts(CATALOGUE["lite"], prompts)
    assert together.shape == (3, 384) and together.dtype == torch.float32 and not together.requires_grad
    assert (together.norm(dim=1) - 1).abs().min() > 1e-2
    near, far = (F.cosine_similarity(together[0], together[other], dim=0) for other in (1, 2))
    assert near > far + 0.1
    for number, prompt in enumerate(prompts):
        torch.testing.assert_close(embed_prompts(CATALOGUE["lite"], [prompt])[0], together[number], rtol=0, atol=1e-5)


def test_no_prompts_have_no_embeddings():
    assert embed_prompts(CATALOGUE["lite"], []) is None
    assert embed_prompts(CATALOGUE["tiny"], []) is None


def test_tiny():
    model = open_clip.create_model(CATALOGUE["tiny"].model, load_weights=False)
    assert 3.5e6 < sum(p.numel() for p in model.parameters()) < 4.5e6
    states, embeddings = [], []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_image_tower(CATALOGUE["tiny"]).state_dict())
        embeddings.append(embed_prompts(CATALOGUE["tiny"], ["cat dog"]))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert embeddings[0].shape == (1, 64)
    assert torch.equal(embeddings[0], embeddings[1]) and not torch.equal(embeddings[0], embeddings[2])


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
    own = build_image_tower(config).visual.state_dict()
    assert own and all(torch.equal(value, state[name]) for name, value in own.items())
    tokens = open_clip.get_tokenizer(TINY)(["cat dog"])
    torch.testing.assert_close(embed_prompts(config, ["cat dog"]), features(model.encode_text, tokens))


def test_position_embeddings_are_interpolated_as_released(saved):
    """Bicubically, with half-pixel centres and without anti-aliasing (docs/method.md, Image tower)."""
    model, folder = saved
    native = model.visual.positional_embedding.detach()
    own = build_image_tower(entry("tiny", weights=folder / "plain.pt", input_size=417)).visual.positional_embedding
    grid = native[1:].T.reshape(1, -1, 14, 14)
    expected = F.interpolate(grid, size=(26, 26), mode="bicubic", align_corners=False)[0].flatten(1).T
    torch.testing.assert_close(own.detach(), torch.cat([native[:1], expected]), rtol=1e-5, atol=1e-6)


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
        build_image_tower(entry("tiny", weights=tmp_path / "weights")).visual.state_dict(),
        model.visual.state_dict(),
    )
    tolerance = 1e-3 if form == "half" else 0
    assert own and all((value - state[name]).abs().max() <= tolerance for name, value in own.items())


def test_weights_under_hugging_faces_names(tmp_path):
    common = {"num_attention_heads": 4, "hidden_act": "gelu"}
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "image_size": 224, "patch_size": 16}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 49408}
    sizes = open_clip.get_model_config(TINY)
    vision |= {"hidden_size": sizes["vision_cfg"]["width"], "num_hidden_layers": sizes["vision_cfg"]["layers"]}
    vision["intermediate_size"] = 4 * vision["hidden_size"]
    text |= {"hidden_size": sizes["text_cfg"]["width"], "num_hidden_layers": sizes["text_cfg"]["layers"]}
    text["intermediate_size"] = 4 * text["hidden_size"]
    model = CLIPModel(
        CLIPConfig(
            vision_config={**vision, **common}, projection_dim=sizes["embed_dim"],
            text_config={**text, **common, "max_position_embeddings": sizes["text_cfg"]["context_length"]},
        )
    )  # fmt: skip
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    tower = build_image_tower(entry("tiny", weights=tmp_path))
    expected = model.vision_model.encoder.layers[1].mlp.fc1.weight
    assert torch.equal(tower.trunk[1].mlp.c_fc.weight, expected)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"state_dict": {}, "maker": Unknown()}, "test_backbones.Unknown, which is code and not weights"),
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
        build_image_tower(entry("tiny", weights=tmp_path / "weights.pt"))
    said = str(error.value)
    assert "weights.pt" in said and "weights_only" not in said and "\x1b" not in said and "\n" not in said


def test_a_dict_that_holds_itself(tmp_path):
    content = {"logit_scale": torch.tensor(1.0)}
    content["model"] = content
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(BackboneError, match="expected tensors by name"):
        build_image_tower(entry("tiny", weights=tmp_path / "weights.pt"))


@pytest.mark.parametrize("start", [b"version https://git-lfs.github.com/spec/v1", b"<!DOCTYPE html>", b"PK\x03\x04"])
def test_no_weights_at_all_are_named_by_what_they_begin_with(tmp_path, start):
    (tmp_path / "weights.bin").write_bytes(start * 30)
    with pytest.raises(BackboneError, match="it begins with b'(version|<!DOC)|damaged, or cut off"):
        build_image_tower(entry("tiny", weights=tmp_path / "weights.bin"))


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
        build_image_tower(entry(name, weights=tmp_path / form))


@pytest.mark.parametrize("error", [OSError("no route to host"), OSError()])
def test_missing_weights_name_both_ways(monkeypatch, error):
    def unreachable(*args, **kwargs):
        raise error

    monkeypatch.setattr(clip, "_from_hub", unreachable)
    with pytest.raises(BackboneError) as caught:
        build_image_tower(CATALOGUE["clip"])
    for words in (
        "ViT-B-16-quickgelu",
        "huggingface.co/timm/vit_base_patch16_clip_224.openai",
        "weights",
        "params.yaml",
    ):
        assert words in str(caught.value)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "models--timm--vit_base_patch16_clip_224.openai"


def cached(cache, commit, content, name="open_clip_model.safetensors"):
    """Weights of a commit: a link to a file named by its content."""
    link, blob = cache / "snapshots" / commit / name, cache / "blobs" / content
    for path in (link, blob):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_text(content)
    link.symlink_to(f"../../blobs/{content}")
    return link


@pytest.mark.parametrize("main", [None, "b" * 40, "a" * 40 + "\n"])
@pytest.mark.parametrize("name", clip.HUB_FILES)
def test_a_cache_of_the_hub_without_the_newest_commit(cache, main, name):
    """`refs/main` is not there, names a commit that is not, or was written by hand."""
    link = cached(cache, "a" * 40, "one", name)
    if main:
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(main)
    assert require_weights(CATALOGUE["clip"]) == link
    cached(cache, "c" * 40, "one", name)  # another commit with the same weights
    assert require_weights(CATALOGUE["clip"]).read_text() == "one"


def test_a_cache_of_the_hub_with_several(cache):
    first, second = cached(cache, "a" * 40, "one"), cached(cache, "c" * 40, "two")
    with pytest.raises(BackboneError) as error:
        require_weights(CATALOGUE["clip"])
    assert f"{first}, {second}" in str(error.value) and "weights" in str(error.value)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("c" * 40)
    assert require_weights(CATALOGUE["clip"]) == second
    (cache / "blobs" / "two").unlink()  # a link without its file
    assert require_weights(CATALOGUE["clip"]) == first


def test_unknown_names():
    with pytest.raises(BackboneError, match="'nonsense'.*openai.*metaclip_400m"):
        build_image_tower(entry("clip", pretrained="nonsense"))
    with pytest.raises(BackboneError, match="nonsense"):
        build_image_tower(entry("tiny", model="nonsense"))
    with pytest.raises(BackboneError, match="nonsense"):
        build_image_tower(entry("lite", pretrained="nonsense"))


def test_lite_may_be_random():
    first, second = (build_image_tower(entry("lite", pretrained="random")) for _ in range(2))
    assert not torch.equal(first.stem[0].weight, second.stem[0].weight)


def test_another_activation_is_an_error(monkeypatch, tmp_path):
    """open_clip itself only warns, and only if it resolves the tag."""
    (tmp_path / "weights.pt").touch()
    monkeypatch.setattr(clip, "_from_hub", lambda tag: tmp_path / "weights.pt")
    with pytest.raises(BackboneError, match="(?i)quick.?gelu"):
        build_image_tower(entry("clip", model="ViT-B-16"))
    with pytest.raises(BackboneError, match="ViT-B-16-quickgelu"):
        require_weights(entry("clip", model="ViT-B-16", weights=tmp_path / "weights.pt"))
