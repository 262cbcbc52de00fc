"""The alpha-focal loss against values computed by hand (docs/method.md, Loss)."""

from math import log

import pytest
import torch

from pipeline.training.loop import alpha_focal

LOG3 = log(3)  # the logit of 3/4


def loss(logit, target, alpha=0.95, gamma=2.0):
    logit, target = (torch.tensor(value, dtype=torch.float64) for value in (logit, target))
    return alpha_focal(logit, target, alpha, gamma)


@pytest.mark.parametrize(
    "logit, target, alpha, gamma, expected",
    [
        (0.0, 1.0, 0.95, 2.0, 0.95 * 0.25 * log(2)),
        (0.0, 0.0, 0.95, 2.0, 0.05 * 0.25 * log(2)),
        (LOG3, 1.0, 0.95, 2.0, 0.95 * (1 / 4) ** 2 * log(4 / 3)),
        (LOG3, 0.0, 0.95, 2.0, 0.05 * (3 / 4) ** 2 * log(4)),
        (-LOG3, 1.0, 0.5, 3.0, 0.5 * (3 / 4) ** 3 * log(4)),
        (LOG3, 1.0, -1.0, 2.0, (1 / 4) ** 2 * log(4 / 3)),  # no alpha weight
        (LOG3, 1.0, -1.0, 0.0, log(4 / 3)),  # plain cross entropy
        # a soft target of 1/2: p_t = 1/2, alpha_t = 1/2, cross entropy (log(4/3) + log(4)) / 2
        (LOG3, 0.5, 0.95, 2.0, 0.5 * 0.25 * (log(4 / 3) + log(4)) / 2),
        # of 1/5: p_t = 3/4 * 1/5 + 1/4 * 4/5 = 7/20, alpha_t = 0.9/5 + 0.1 * 4/5 = 0.26
        (LOG3, 0.2, 0.9, 2.0, 0.26 * (13 / 20) ** 2 * (0.2 * log(4 / 3) + 0.8 * log(4))),
    ],
)
def test_by_hand(logit, target, alpha, gamma, expected):
    assert loss(logit, target, alpha, gamma).item() == pytest.approx(expected, rel=1e-12)


def test_one_value_a_pixel():
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 1, 3, 4), torch.rand(2, 1, 3, 4)
    whole = alpha_focal(logits, targets, 0.95, 2.0)
    assert whole.shape == logits.shape
    pixel = (1, 0, 2, 3)
    torch.testing.assert_close(whole[pixel], alpha_focal(logits[pixel], targets[pixel], 0.95, 2.0))


def test_gradient():
    torch.manual_seed(0)
    logits, targets = torch.randn(6).double().requires_grad_(), torch.rand(6).double()
    assert torch.autograd.gradcheck(lambda x: alpha_focal(x, targets, 0.95, 2.0), [logits])


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_huge_logits(logit, target, gamma):
    logits = torch.tensor(logit, requires_grad=True)
    value = alpha_focal(logits, torch.tensor(target), 0.95, gamma)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite() and value >= 0
    if target == float(logit > 0):
        assert value == 0
    elif gamma and target != 0.5:
        assert value.item() == pytest.approx(200 * (0.95 if target else 0.05), rel=1e-4)
