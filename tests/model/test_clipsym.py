"""The whole model with the tiny towers, and the decoder against the plain formulation of docs/method.md."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import plain
from pipeline.model.backbones.catalogue import pretrained
from pipeline.model.clipsym import Decoder, build_model, from_released
from pipeline.params import load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
GRID, WIDTHS, TEXT_WIDTH, PROMPTS, WIDTH = (2, 3), [5, 6, 7], 9, 4, 8  # of the decoder


def model(size=64, prompts=("cat dog", "tree"), group="C4", kind="equivariant"):
    entry = PARAMS.backbones["tiny"].model_copy(update={"input_size": size})
    decoder = PARAMS.decoder.model_copy(update={"width": 8, "group": group, "layers": 2, "upsampler": kind})
    torch.manual_seed(0)
    backbone = pretrained(entry)
    text = backbone.embed(prompts)
    return build_model(backbone.image_tower(), text, decoder, "fp32").eval()


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


# The decoder


def decoder(text=True, kind="equivariant"):
    torch.manual_seed(0)
    text_width, prompts = (TEXT_WIDTH, PROMPTS) if text else (None, 1)
    module = Decoder(WIDTHS, text_width, prompts, WIDTH, kind, "C4", 2).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "layer_norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) / 4)
    return module.eval()


def inputs(class_token=True, text=True, batch=2):
    torch.manual_seed(1)
    tokens = math.prod(GRID) + class_token
    features = [torch.randn(batch, tokens, width, dtype=torch.float64) for width in WIDTHS]
    return features, torch.randn(PROMPTS, TEXT_WIDTH, dtype=torch.float64) if text else None, GRID


@pytest.mark.parametrize("kind", ["equivariant", "plain"])
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("class_token", [True, False])
def test_equals_plain_formulation(class_token, text, kind):
    module, given = decoder(text, kind), inputs(class_token, text)
    output = module(*given)
    assert output.shape == (2, 1, 16 * GRID[0], 16 * GRID[1])
    torch.testing.assert_close(output, plain.decoder(module, *given), rtol=1e-9, atol=1e-9)


def test_order_of_prompts_does_not_matter():
    module, (features, text, grid) = decoder(), inputs()
    expected, order = module(features, text, grid), torch.tensor([2, 0, 3, 1])
    assert not torch.allclose(module(features, text[order], grid), expected)
    with torch.no_grad():
        module.decoder_linear_map.weight.copy_(module.decoder_linear_map.weight[:, order])
    torch.testing.assert_close(module(features, text[order], grid), expected)


def test_prompts_matter():
    module, (features, text, grid) = decoder(), inputs()
    assert not torch.allclose(module(features, text, grid), module(features, -text, grid))


def test_batch_equals_one_by_one():
    module, (features, text, grid) = decoder(), inputs(batch=3)
    together = module(features, text, grid)
    for number in range(3):
        alone = module([f[number : number + 1] for f in features], text, grid)
        torch.testing.assert_close(together[number : number + 1], alone)


def test_every_parameter_learns():
    module, given = decoder(), inputs()
    (module(*given) * torch.randn(2, 1, 16 * GRID[0], 16 * GRID[1], dtype=torch.float64)).sum().backward()
    idle = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in idle if not name.endswith("k_proj.bias")]  # softmax does not see a shift of keys


def test_no_text_has_no_film():
    assert not [name for name, _ in decoder(text=False).named_parameters() if "film" in name]


def test_width_of_mlp():
    assert decoder().layers[0].mlp["fc1"].weight.shape == (2048, WIDTH)


@pytest.mark.parametrize("kind", ["equivariant", "plain"])
def test_from_released(kind):
    source, target = decoder(kind=kind), decoder(kind=kind)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    called = {"plain": "upsample_layer."}.get(kind, "upsampler.")
    released = {
        called + name.removeprefix("upsampler.") if name.startswith("upsampler.") else name: value
        for name, value in source.state_dict().items()
    }
    target.load_state_dict(from_released(released), strict=True)
    torch.testing.assert_close(target(*inputs()), source(*inputs()), rtol=0, atol=0)
    assert F.mse_loss(target(*inputs()), torch.zeros(2, 1, 32, 48).double()) > 0
