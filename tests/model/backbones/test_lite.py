"""The towers of the family `lite`: pretrained weights, features, sentence embeddings."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from skimage import data as photographs

from pipeline.model.backbones.catalogue import pretrained, require_weights
from pipeline.model.backbones.lite import sine_position
from tests.model.backbones.test_catalogue import CATALOGUE, entry, features


def photograph(name):
    """The middle square of one of scikit-image's photographs, [1, 3, 224, 224] in 0..1."""
    image = torch.from_numpy(getattr(photographs, name)()).permute(2, 0, 1)[None].float() / 255
    height, width = image.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[..., top : top + side, left : left + side]
    return F.interpolate(square, size=224, mode="bilinear", antialias=True)


@pytest.fixture(scope="module")
def lite():
    return pretrained(CATALOGUE["lite"]).image_tower()


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


def test_lite_statistics_stay_and_frozen_parameters_do_not_learn():
    lite, frozen = pretrained(CATALOGUE["lite"]).image_tower().train(), CATALOGUE["lite"].frozen
    lite.freeze(frozen)
    before = {name: buffer.clone() for name, buffer in lite.named_buffers()}
    sum(f.square().mean() for f in lite(torch.rand(2, 3, 64, 64))[0]).backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in lite.named_buffers())
    learning = {name for name, parameter in lite.named_parameters() if parameter.grad is not None}
    fixed = tuple(f"blocks.{number}." for number in range(frozen))
    assert learning == {n for n, _ in lite.named_parameters() if not n.startswith(("stem.", *fixed))}


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


def test_sentence_embeddings():
    prompts = ["a cat", "a small kitten sleeping on a very soft and warm woollen blanket", "interest rates of a bank"]
    backbone = pretrained(CATALOGUE["lite"])
    together = backbone.embed(prompts)
    assert together.shape == (3, 384) and together.dtype == torch.float32 and not together.requires_grad
    assert (together.norm(dim=1) - 1).abs().min() > 1e-2
    near, far = (F.cosine_similarity(together[0], together[other], dim=0) for other in (1, 2))
    assert near > far + 0.1
    for number, prompt in enumerate(prompts):
        torch.testing.assert_close(backbone.embed([prompt])[0], together[number], rtol=0, atol=1e-5)


def test_lite_may_be_random():
    first, second = (pretrained(entry("lite", pretrained="random")).image_tower() for _ in range(2))
    assert not torch.equal(first.stem[0].weight, second.stem[0].weight)


def test_one_mini_lm_serves_all(monkeypatch):
    from transformers import BertModel

    loaded, real = [], BertModel.from_pretrained
    monkeypatch.setattr(BertModel, "from_pretrained", lambda *a, **k: loaded.append(a) or real(*a, **k))
    backbone = pretrained(CATALOGUE["lite"])
    embeddings, text = backbone.embed(["a cat", "a dog"]), backbone.text_tower(["a cat", "a dog"])
    with torch.no_grad():
        assert torch.equal(text(), embeddings) and len(loaded) == 1
