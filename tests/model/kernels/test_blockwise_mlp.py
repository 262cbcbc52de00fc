"""The perceptron computed in blocks is the plain one, and its hidden layer is never kept."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.model.kernels import blockwise_mlp as module
from pipeline.model.kernels.blockwise_mlp import mlp

WIDTH, HIDDEN = 4, 11


def arguments(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = [(*shape, WIDTH), (HIDDEN, WIDTH), (HIDDEN,), (WIDTH, HIDDEN), (WIDTH,)]
    return [torch.randn(size, dtype=dtype).requires_grad_() for size in shapes]


def plain(x, weight1, bias1, weight2, bias2):
    return F.linear(F.linear(x, weight1, bias1).relu(), weight2, bias2)


@pytest.mark.parametrize("rows", [1, 3, 5, 1024])
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 5), (2, 3, 4)])
def test_equals_the_plain_formulation(monkeypatch, shape, rows):
    monkeypatch.setattr(module, "ROWS", rows)
    given = arguments(*shape)
    torch.manual_seed(1)
    direction = torch.randn(*shape, WIDTH, dtype=torch.float64)
    results = [(f(*given), torch.autograd.grad((f(*given) * direction).sum(), given)) for f in (mlp, plain)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_gradients(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 2)
    assert torch.autograd.gradcheck(mlp, arguments(5))


def test_in_single_precision_and_large():
    torch.manual_seed(0)
    given = [torch.randn(size) / 8 for size in ((3000, 64), (2048, 64), (2048,), (64, 2048), (64,))]
    for tensor in given:
        tensor.requires_grad_()
    torch.testing.assert_close(mlp(*given), plain(*given), rtol=1e-4, atol=1e-4)
    direction = torch.randn(3000, 64)
    ours, expected = (torch.autograd.grad((f(*given) * direction).sum(), given) for f in (mlp, plain))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_the_hidden_layer_is_not_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda packed: packed):
        mlp(*arguments(500))
    assert kept and max(kept) == 500 * WIDTH < 500 * HIDDEN


def test_in_bfloat16():
    given = arguments(6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = mlp(*given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain(*given), rtol=0.1, atol=0.2)
