"""CLIP's towers: their features, their weights at the hub, and that they are built once."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from pipeline.errors import BackboneError
from pipeline.model.backbones import clip, hub
from pipeline.model.backbones.catalogue import IMAGENET, pretrained, random_image_tower, require_weights
from tests.model.backbones.test_catalogue import CATALOGUE, TINY, entry, features, saved

__all__ = ["saved"]  # a fixture

OPEN_CLIP = sorted(name for name, entry in CATALOGUE.items() if entry.family == "open_clip" and name != "clip_l14")


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_catalogue_entry(name):
    config = CATALOGUE[name]
    tower = random_image_tower(config)
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
    tower, state = random_image_tower(config).eval(), full.state_dict()
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
    tower = random_image_tower(entry("siglip", blocks=(1, 2, 3))).eval()
    found, grid = features(tower, torch.rand(1, 3, 417, 417))
    assert grid == (26, 26) and [f.shape for f in found] == [(1, 676, 768)] * 3


def test_frozen_blocks_of_a_vit():
    tower = random_image_tower(CATALOGUE["tiny"])
    tower.freeze(2)
    trained = {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
    assert trained == {n for n, _ in tower.named_parameters() if "resblocks.2." in n or "resblocks.3." in n}


def test_tiny():
    model = open_clip.create_model(CATALOGUE["tiny"].model, load_weights=False)
    assert 3.5e6 < sum(p.numel() for p in model.parameters()) < 4.5e6
    states, embeddings = [], []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(pretrained(CATALOGUE["tiny"]).image_tower().state_dict())
        embeddings.append(pretrained(CATALOGUE["tiny"]).embed(["cat dog"]))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert embeddings[0].shape == (1, 64)
    assert torch.equal(embeddings[0], embeddings[1]) and not torch.equal(embeddings[0], embeddings[2])


def test_position_embeddings_are_interpolated_as_released(saved):
    """Bicubically, with half-pixel centres and without anti-aliasing (docs/method.md, Image tower)."""
    model, folder = saved
    native = model.visual.positional_embedding.detach()
    tower = pretrained(entry("tiny", weights=folder / "plain.pt", input_size=417)).image_tower()
    own = tower.visual.positional_embedding
    grid = native[1:].T.reshape(1, -1, 14, 14)
    expected = F.interpolate(grid, size=(26, 26), mode="bicubic", align_corners=False)[0].flatten(1).T
    torch.testing.assert_close(own.detach(), torch.cat([native[:1], expected]), rtol=1e-5, atol=1e-6)


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
    tower = pretrained(entry("tiny", weights=tmp_path)).image_tower()
    expected = model.vision_model.encoder.layers[1].mlp.fc1.weight
    assert torch.equal(tower.trunk[1].mlp.c_fc.weight, expected)


@pytest.mark.parametrize("error", [OSError("no route to host"), OSError()])
def test_missing_weights_name_both_ways(monkeypatch, cache, error):
    def unreachable(*args, **kwargs):
        raise error

    monkeypatch.setattr(hub, "model_info", unreachable)
    with pytest.raises(BackboneError) as caught:
        pretrained(CATALOGUE["clip"]).image_tower()
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
@pytest.mark.parametrize("name", hub.HUB_FILES)
def test_a_cache_of_the_hub_without_the_newest_commit(cache, main, name):
    """`refs/main` is not there, names a commit that is not, or was written by hand."""
    link = cached(cache, "a" * 40, "one", name)
    if main:
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(main)
    assert require_weights(CATALOGUE["clip"]) == link
    cached(cache, "c" * 40, "one", name)  # another commit with the same weights
    assert require_weights(CATALOGUE["clip"]).read_text() == "one"


def test_repositories_are_those_of_open_clip():
    """Of every entry of the catalogue whose weights lie at the hub."""
    tags = {
        (entry.model, entry.pretrained): open_clip.get_pretrained_cfg(entry.model, entry.pretrained)
        for entry in CATALOGUE.values()
        if entry.family == "open_clip" and entry.pretrained != "random"
    }
    assert hub.REPOSITORIES == {key: clip.repository_of(tag) for key, tag in tags.items()}


def test_missing_files_are_said_without_the_libraries_of_models(cache):
    for name in ("lite", "tiny", "vit_scratch"):
        hub.require_files(CATALOGUE[name])
    with pytest.raises(BackboneError, match="no weights for ViT-B-16-quickgelu / openai"):
        hub.require_files(CATALOGUE["clip"])
    cached(cache, "a" * 40, "one")
    hub.require_files(CATALOGUE["clip"])
    with pytest.raises(BackboneError, match="nowhere: no weights there"):
        hub.require_files(entry("clip", weights=cache / "nowhere"))


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


def test_another_activation_is_an_error(monkeypatch, tmp_path):
    """open_clip itself only warns, and only if it resolves the tag."""
    (tmp_path / "weights.pt").touch()
    monkeypatch.setattr(clip, "at_hand", lambda config, repository: tmp_path / "weights.pt")
    with pytest.raises(BackboneError, match="(?i)quick.?gelu"):
        pretrained(entry("clip", model="ViT-B-16")).image_tower()
    with pytest.raises(BackboneError, match="ViT-B-16-quickgelu"):
        require_weights(entry("clip", model="ViT-B-16", weights=tmp_path / "weights.pt"))


@pytest.fixture
def built(monkeypatch):
    """The models of open_clip that are built."""
    models, create = [], open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", lambda *a, **k: models.append(create(*a, **k)) or models[-1])
    return models


def test_one_clip_with_weights_serves_all(saved, built):
    backbone = pretrained(entry("tiny", weights=saved[1] / "plain.pt", input_size=64))
    embeddings, image, text = backbone.embed(["cat dog"]), backbone.image_tower(), backbone.text_tower(["cat dog"])
    assert len(built) == 1
    assert torch.equal(image.visual.conv1.weight, saved[0].visual.conv1.weight)
    assert text.model is built[0] and not [name for name, _ in text.named_parameters() if "visual" in name]
    with torch.no_grad():
        assert torch.equal(text(), embeddings)


def test_random_towers_are_each_drawn_for_themselves(built):
    """In this order a seed has always given the same weights."""
    torch.manual_seed(7)
    backbone = pretrained(entry("tiny", input_size=64))
    embeddings, image = backbone.embed(["cat dog"]), backbone.image_tower()
    torch.manual_seed(7)
    text, other = (open_clip.create_model(TINY, load_weights=False).eval() for _ in range(2))
    assert torch.equal(image.visual.conv1.weight, other.visual.conv1.weight)
    with torch.no_grad():
        expected = text.encode_text(open_clip.get_tokenizer(TINY)(["cat dog"]))
    torch.testing.assert_close(embeddings, expected)
    assert len(built) == 4
