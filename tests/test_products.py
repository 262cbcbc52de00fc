"""oneDNN's products are those of PyTorch, forward and backward, whatever the shape; and only where they are meant."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline import products
from pipeline.products import Linear, SelfAttention, linear, weight_gradient

length = st.integers(1, 9)


@pytest.fixture(autouse=True, params=[0, products.LARGE], ids=["always oneDNN", "by size"])
def size_from_which_onednn_is_used(monkeypatch, request):
    monkeypatch.setattr(products, "LARGE", request.param)


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


def test_large_products_are_convolutions_and_other_precisions_are_not():
    x, weight = torch.randn(700, 768), torch.randn(64, 768)

    def operations(*arguments):
        with torch.profiler.profile() as profile:
            linear(*arguments)
        return {event.name for event in profile.events()}

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


@pytest.mark.parametrize("masked", [False, True])
def test_self_attention(masked):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    ours = SelfAttention(32, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 7, 32)
    mask = torch.full((7, 7), -torch.inf).triu(1) if masked else None
    found, nothing = ours(x, x, x, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(found, theirs(x, x, x, need_weights=False, attn_mask=mask)[0], rtol=1e-4, atol=1e-5)
    assert nothing is None
