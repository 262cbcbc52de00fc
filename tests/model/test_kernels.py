"""The fast paths are the plain formulations, forward and backward, of any shape; and only where they should be."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.model import kernels
from pipeline.model.kernels import (
    Linear,
    SelfAttention,
    conv_after_x4,
    conv_of_interleaved,
    interleaved,
    linear,
    mlp,
    pooled_after_x2,
    weight_gradient,
)

# Matrix products

length = st.integers(1, 9)


@pytest.fixture(params=[True, False], ids=["always as pixels", "by size"])
def sizes(monkeypatch, request):
    if request.param:
        monkeypatch.setattr(kernels, "LARGE", 0)
        monkeypatch.setattr(kernels, "SMALL", 0)


def gradients(result, *inputs):
    torch.manual_seed(1)
    return torch.autograd.grad((result * torch.randn_like(result)).sum(), inputs)


@pytest.mark.usefixtures("sizes")
@settings(derandomize=True, deadline=None, max_examples=40)
@given(shape=st.lists(length, min_size=1, max_size=4), out=length, has_bias=st.booleans(), transposed=st.booleans())
def test_linear(shape, out, has_bias, transposed):
    torch.manual_seed(sum(shape))
    x, weight = torch.randn(shape), torch.randn(out, shape[-1]).requires_grad_()
    x = (x.transpose(0, -2).contiguous().transpose(0, -2) if transposed and len(shape) > 2 else x).requires_grad_()
    bias = torch.randn(out).requires_grad_() if has_bias else None
    inputs = [x, weight, *([bias] if has_bias else [])]
    ours, expected = linear(x, weight, bias), F.linear(x, weight, bias)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(gradients(ours, *inputs), gradients(expected, *inputs)):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("shape", [(700, 768, 64), (64, 768, 700), (1, 1, 1)])
def test_weight_gradient(shape):
    torch.manual_seed(0)
    rows, width, out = shape
    x, gradient = torch.randn(rows, width), torch.randn(rows, out)
    torch.testing.assert_close(weight_gradient(gradient, x), gradient.T @ x, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_large_linear(transposed, has_bias):
    torch.manual_seed(0)
    x = (torch.randn(300, 3, 64).transpose(0, 1) if transposed else torch.randn(3, 300, 64)).requires_grad_()
    inputs = [x, torch.randn(2048, 64).requires_grad_(), *([torch.randn(2048).requires_grad_()] if has_bias else [])]
    ours, expected = linear(*inputs), F.linear(*inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    for found, wanted in zip(gradients(ours, *inputs), gradients(expected, *inputs)):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def operations(*arguments):
    with torch.profiler.profile() as profile:
        linear(*arguments)
    return {event.name for event in profile.events()}


def test_small_products_stay_where_they_are():
    assert not any("conv" in name for name in operations(torch.randn(640, 32), torch.randn(2048, 32)))


@pytest.mark.usefixtures("sizes")
def test_large_products_are_convolutions_and_other_precisions_are_not():
    x, weight = torch.randn(700, 768), torch.randn(64, 768)
    assert "aten::mkldnn_convolution" in operations(x, weight)
    assert not any("convolution" in name for name in operations(x.double(), weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert not any("convolution" in name for name in operations(x, weight))
        assert linear(x, weight).dtype == torch.bfloat16


@pytest.mark.usefixtures("sizes")
def test_linear_layer_has_the_state_of_torchs():
    torch.manual_seed(0)
    ours, theirs, x = Linear(6, 5), nn.Linear(6, 5), torch.randn(3, 6)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.usefixtures("sizes")
def test_self_attention():
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    ours = SelfAttention(32, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 7, 32)
    found, nothing = ours(x, x, x, need_weights=False, attn_mask=None)
    torch.testing.assert_close(found, theirs(x, x, x, need_weights=False)[0], rtol=1e-4, atol=1e-5)
    assert nothing is None


# The perceptron

WIDTH, HIDDEN = 4, 11


def mlp_arguments(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = [(*shape, WIDTH), (HIDDEN, WIDTH), (HIDDEN,), (WIDTH, HIDDEN), (WIDTH,)]
    return [torch.randn(size, dtype=dtype).requires_grad_() for size in shapes]


def plain_mlp(x, weight1, bias1, weight2, bias2):
    return F.linear(F.linear(x, weight1, bias1).relu(), weight2, bias2)


@pytest.mark.parametrize("rows", [1, 3, 5, 1024])
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 5), (2, 3, 4)])
def test_mlp_is_the_plain_formulation(monkeypatch, shape, rows):
    monkeypatch.setattr(kernels, "ROWS", rows)
    given = mlp_arguments(*shape)
    torch.manual_seed(1)
    direction = torch.randn(*shape, WIDTH, dtype=torch.float64)
    results = [(f(*given), torch.autograd.grad((f(*given) * direction).sum(), given)) for f in (mlp, plain_mlp)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_mlp_gradients(monkeypatch):
    monkeypatch.setattr(kernels, "ROWS", 2)
    assert torch.autograd.gradcheck(mlp, mlp_arguments(5))


def test_mlp_in_single_precision_and_large():
    torch.manual_seed(0)
    given = [torch.randn(size) / 8 for size in ((3000, 64), (2048, 64), (2048,), (64, 2048), (64,))]
    for tensor in given:
        tensor.requires_grad_()
    torch.testing.assert_close(mlp(*given), plain_mlp(*given), rtol=1e-4, atol=1e-4)
    direction = torch.randn(3000, 64)
    ours, expected = (torch.autograd.grad((f(*given) * direction).sum(), given) for f in (mlp, plain_mlp))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_the_hidden_layer_of_the_mlp_is_not_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda packed: packed):
        mlp(*mlp_arguments(500))
    assert kept and max(kept) == 500 * WIDTH < 500 * HIDDEN


def test_mlp_in_bfloat16():
    given = mlp_arguments(6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = mlp(*given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain_mlp(*given), rtol=0.1, atol=0.2)


# Convolutions on a finer grid

side = st.integers(1, 7)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(batch=st.integers(1, 3), channels=st.integers(1, 4), out=st.integers(1, 4), height=side, width=side)
def test_conv_after_x4_is_the_plain_formulation(batch, channels, out, height, width):
    torch.manual_seed(height * 8 + width)
    x, weight, bias = random(batch, channels, height, width), random(out, channels, 3, 3), random(out)
    expected = F.conv2d(F.interpolate(x, scale_factor=4, mode="bilinear"), weight, bias, padding=1)
    torch.testing.assert_close(interleaved(conv_after_x4(x, weight, bias)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 3), (4, 4), (26, 26)])
def test_conv_after_x4_on_the_edges_of_shape(shape):
    torch.manual_seed(0)
    x, weight, bias = random(2, 3, *shape), random(2, 3, 3, 3), random(2)
    expected = F.conv2d(F.interpolate(x, scale_factor=4, mode="bilinear"), weight, bias, padding=1)
    torch.testing.assert_close(interleaved(conv_after_x4(x, weight, bias)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_conv_after_x4_gradients(shape):
    torch.manual_seed(0)
    inputs = [tensor.requires_grad_() for tensor in (random(2, 2, *shape), random(2, 2, 3, 3), random(2))]
    assert torch.autograd.gradcheck(conv_after_x4, inputs)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(batch=st.integers(1, 3), channels=st.integers(1, 4), height=side, width=side)
def test_conv_of_interleaved_is_the_plain_formulation(batch, channels, height, width):
    torch.manual_seed(height * 8 + width)
    x, weight, bias = random(batch, channels, 16, height, width), random(1, channels, 3, 3), random(1)
    image = interleaved(x)
    assert image.shape == (batch, channels, 4 * height, 4 * width)
    assert image[-1, -1, 4 * (height - 1) + 2, 4 * (width - 1) + 3] == x[-1, -1, 4 * 2 + 3, -1, -1]
    expected = F.conv2d(image, weight, bias, padding=1)
    torch.testing.assert_close(conv_of_interleaved(x, weight, bias), expected, rtol=1e-12, atol=1e-12)


def test_conv_of_interleaved_gradients():
    torch.manual_seed(0)
    inputs = [tensor.requires_grad_() for tensor in (random(2, 2, 16, 1, 2), random(1, 2, 3, 3), random(1))]
    assert torch.autograd.gradcheck(conv_of_interleaved, inputs)


@pytest.mark.parametrize("shape", [(4, 4), (4, 9), (7, 5), (16, 16)])
def test_pooled_after_x2_is_the_plain_formulation(shape):
    torch.manual_seed(0)
    x, weight, bias, pool = random(2, 3, *shape), random(5, 3, 3, 3), random(5), random(1, 5, 3, 3)
    finer = F.interpolate(x, scale_factor=2, mode="bilinear")
    expected = F.conv2d(F.conv2d(finer, weight, bias, padding=1).relu(), pool, bias[:1], padding=1)
    torch.testing.assert_close(pooled_after_x2(x, weight, bias, pool, bias[:1]), expected, rtol=1e-12, atol=1e-12)
