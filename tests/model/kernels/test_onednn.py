"""oneDNN's products are those of PyTorch, forward and backward, whatever the shape; and only where they are meant."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.model.kernels import onednn as products
from pipeline.model.kernels.onednn import Linear, SelfAttention, linear, weight_gradient

length = st.integers(1, 9)


@pytest.fixture(autouse=True, params=[True, False], ids=["always as pixels", "by size"])
def sizes(monkeypatch, request):
    if request.param:
        monkeypatch.setattr(products, "LARGE", 0)
        monkeypatch.setattr(products, "SMALL", 0)


def gradients(result, *inputs):
    torch.manual_seed(1)
    return torch.autograd.grad((result * torch.randn_like(result)).sum(), inputs)


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


@pytest.mark.parametrize("shape", [(700, 768, 64), (64, 768, 700), (1, 1, 1)])
def test_weight_gradient(shape):
    torch.manual_seed(0)
    rows, width, out = shape
    x, gradient = torch.randn(rows, width), torch.randn(rows, out)
    torch.testing.assert_close(weight_gradient(gradient, x), gradient.T @ x, rtol=1e-4, atol=1e-3)


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


def test_small_products_stay_where_they_are(monkeypatch):
    monkeypatch.undo()
    assert not any("conv" in name for name in operations(torch.randn(640, 32), torch.randn(2048, 32)))


def test_large_products_are_convolutions_and_other_precisions_are_not():
    x, weight = torch.randn(700, 768), torch.randn(64, 768)
    assert "aten::mkldnn_convolution" in operations(x, weight)
    assert not any("convolution" in name for name in operations(x.double(), weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert not any("convolution" in name for name in operations(x, weight))
        assert linear(x, weight).dtype == torch.bfloat16


def test_linear_layer_has_the_state_of_torchs():
    torch.manual_seed(0)
    ours, theirs, x = Linear(6, 5), nn.Linear(6, 5), torch.randn(3, 6)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))


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
