"""Image and text towers: the catalogue, the features, and what happens when weights are missing or wrong."""

import math
from pathlib import Path

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from skimage import data as photographs

from pipeline.backbones import IMAGENET, build_image_tower, embed_prompts, require_weights, sine_position
from pipeline.errors import BackboneError
from pipeline.params import load_params

CATALOGUE = load_params(Path(__file__).parents[1] / "params.yaml").backbones
OPEN_CLIP = sorted(name for name, entry in CATALOGUE.items() if entry.family == "open_clip" and name != "clip_l14")


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
def clip():
    """The paper's tower with random weights, and open_clip's full one with the same weights."""
    config = CATALOGUE["clip"]
    full = open_clip.create_model(config.model, load_weights=False, force_image_size=config.input_size).visual.eval()
    tower = build_image_tower(config, pretrained=False).eval()
    state = full.state_dict()
    tower.visual.load_state_dict({name: state[name] for name in tower.visual.state_dict()})
    return tower, full


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
    assert quick == own.get("quick_gelu", False)
    names = {parameter for parameter, _ in tower.named_parameters()}
    last = max(config.blocks)
    assert any(f"blocks.{last - 1}." in n for n in names) and not any(f"blocks.{last}." in n for n in names)
    assert not [n for n in names if n.split(".")[-1] in ("proj",) or "ln_post" in n or "attn_pool" in n]


def test_clip_features_are_the_blocks_of_the_full_transformer(clip):
    tower, full = clip
    torch.manual_seed(0)
    images, outputs = torch.rand(1, 3, 417, 417), {}
    for number in (4, 7, 10):
        full.transformer.resblocks[number - 1].register_forward_hook(
            lambda module, given, output, number=number: outputs.__setitem__(number, output)
        )
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    features(full, (images - mean) / std)
    found, grid = features(tower, images)
    assert grid == (26, 26) and [f.shape for f in found] == [(1, 677, 768)] * 3
    for number, feature in zip((4, 7, 10), found):
        torch.testing.assert_close(feature, outputs[number], rtol=1e-4, atol=1e-4)


def test_clip_does_not_see_the_last_row_and_column(clip):
    first = torch.rand(1, 3, 417, 417)
    second = first.clone()
    second[..., 416, :], second[..., 416] = 0, 1
    for one, other in zip(features(clip[0], first)[0], features(clip[0], second)[0]):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_siglip_has_no_class_token():
    found, grid = features(build_image_tower(CATALOGUE["siglip"], pretrained=False).eval(), torch.rand(1, 3, 417, 417))
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
    sum(f.square().mean() for f in lite(photograph("astronaut"))[0]).backward()
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
    code = sine_position(3, 5, 16)
    assert code.shape == (15, 16) and len(code.unique(dim=0)) == 15
    torch.testing.assert_close(code[7, [0, 4, 8, 12]], torch.tensor([1.0, 1.0, 2.0, 2.0]).sin().where(
        torch.tensor([True, False, True, False]), torch.tensor([1.0, 1.0, 2.0, 2.0]).cos()
    ))  # fmt: skip


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
