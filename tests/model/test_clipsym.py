"""The whole model with the tiny towers: shapes, text as part of the state, gradients."""

from pathlib import Path

import pytest
import torch

from pipeline.model.backbones.catalogue import embed_prompts
from pipeline.model.checkpoint import build_model
from pipeline.params import load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


def model(size=64, prompts=("cat dog", "tree"), group="C4", kind="equivariant"):
    entry = PARAMS.backbones["tiny"].model_copy(update={"input_size": size})
    decoder = PARAMS.decoder.model_copy(update={"width": 8, "group": group, "upsampler": kind})
    params = PARAMS.model_copy(update={"backbone": "tiny", "backbones": {"tiny": entry}, "decoder": decoder})
    torch.manual_seed(0)
    return build_model(params, list(prompts), embed_prompts(entry, list(prompts)), pretrained=True).eval()


@pytest.mark.parametrize("prompts", [("cat dog", "tree"), ()])
@pytest.mark.parametrize("size", [64, 97, 224])
def test_output_is_as_large_as_the_input(size, prompts):
    with torch.no_grad():
        logits = model(size, prompts)(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 1, size, size) and logits.isfinite().all() and logits.std() > 0


def test_text_is_part_of_the_state_and_is_not_trained():
    ours = model()
    assert ours.state_dict()["text_embeddings"].shape == (2, 64)
    assert "text_embeddings" not in dict(ours.named_parameters())
    assert not ours.text_embeddings.requires_grad


def test_no_prompts_have_no_text():
    ours = model(prompts=())
    assert ours.text_embeddings is None and "text_embeddings" not in ours.state_dict()
    assert not [name for name in ours.state_dict() if "film" in name]


def test_text_and_images_matter():
    ours, images = model(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = ours(images)
        assert not torch.allclose(before[0], before[1])
        ours.text_embeddings.neg_()
        assert not torch.allclose(ours(images), before)


def test_every_trained_parameter_gets_a_gradient():
    ours = model()
    (ours.train()(torch.rand(2, 3, 64, 64)) * torch.randn(2, 1, 64, 64)).sum().backward()
    assert not [name for name, p in ours.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("kind", ["equivariant", "plain"])
def test_bf16_is_close(kind):
    ours = model(kind=kind)
    images, direction, found = torch.rand(2, 3, 64, 64), torch.randn(2, 1, 64, 64), {}
    for ours.precision in ("fp32", "bf16"):
        ours.zero_grad()
        logits = ours(images)
        (logits * direction).sum().backward()
        assert logits.dtype == torch.float32 and all(p.dtype == torch.float32 for p in ours.parameters())
        gradients = torch.cat([p.grad.flatten() for p in ours.parameters() if p.requires_grad])
        found[ours.precision] = logits.detach().flatten(), gradients
    for exact, rounded in zip(*found.values()):
        assert not torch.equal(exact, rounded)
        assert torch.cosine_similarity(exact, rounded, dim=0) > 0.98


def test_images_of_a_batch_do_not_mix():
    ours, images = model(), torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        together = ours(images)
        for number in range(3):
            alone = ours(images[number : number + 1])
            torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-4, atol=1e-5)


def test_device_is_that_of_the_weights():
    assert model().device == torch.device("cpu")
    assert model().to("meta").device == torch.device("meta")
