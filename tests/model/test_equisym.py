"""The convolutions that use a filter's symmetries, beside the plain ones that they replace."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.model.equisym.symmetric import CROSS, MOVED, SymmetricConv, ordered

MIRRORED = [8 + -e % 8 for e in range(8)] + [-e % 8 for e in range(8)]  # where x -> -x leads the channels of a field
FLIPPED = [8 + (4 - e) % 8 for e in range(8)] + [(4 - e) % 8 for e in range(8)]  # and y -> -y


def steerable(channels, out_channels, kernel, cross=False, seed=0):
    """A random filter [C', C, k, k] that is the same after either reflection of pixels and channels, and a bias."""
    generator = torch.Generator().manual_seed(seed)
    fields = torch.randn(out_channels // 16, 16, channels // 16, 16, kernel, kernel, generator=generator)
    for channel, dim in ((MIRRORED, -1), (FLIPPED, -2)):
        moved = torch.empty_like(fields)
        moved[:, np.array(channel)[:, None], :, np.array(channel)] = fields[
            :, torch.arange(16)[:, None], :, torch.arange(16)
        ]
        fields = fields + moved.flip(dim)
    if cross:
        fields[..., ::2, ::2] = 0
    bias = torch.randn(out_channels // 16, generator=generator).repeat_interleave(16)
    return fields.reshape(out_channels, channels, kernel, kernel), bias


def test_the_four_symmetries_reach_all_channels_once():
    assert sorted(MOVED.flatten().tolist()) == list(range(16))
    assert sorted(ordered(48).tolist()) == list(range(48)) and ordered(3).tolist() == [0, 1, 2]
    for element, channel in ((1, MIRRORED), (2, FLIPPED)):
        assert MOVED[element].tolist() == [channel[first] for first in MOVED[0].tolist()]


@pytest.mark.parametrize("size", [(9, 9), (5, 14), (3, 4)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (3, 1, 4), (3, 1, CROSS)]
)
def test_equals_the_plain_convolution(kernel, stride, dilation, size):
    weight, bias = steerable(32, 48, kernel, dilation >= CROSS)
    conv = SymmetricConv(32, 48, kernel, stride, dilation)
    conv.take(weight[ordered(48)][:, ordered(32)], bias[ordered(48)], "conv")
    x = torch.randn(2, 32, *size, generator=torch.Generator().manual_seed(1))
    expected = F.conv2d(x, weight, bias, stride, kernel // 2 * dilation, dilation)[:, ordered(48)]
    found = conv(x[:, ordered(32)])
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_numbers_are_a_quarter():
    for kernel, dilation, share in ((1, 1, 4), (3, 1, 4), (3, CROSS, 36 / 5)):
        assert SymmetricConv(32, 48, kernel, 1, dilation).weight.numel() == 48 * 32 * kernel**2 / share


@pytest.mark.parametrize("fault", ["filter", "bias", "corner"])
def test_what_is_not_steerable_is_refused(fault):
    weight, bias = steerable(16, 16, 3, cross=True)
    weight[0, 0, 0, 1] += 0.01 * weight.abs().max() * (fault == "filter")
    bias[3] += fault == "bias"
    if fault == "corner":
        weight, bias = steerable(16, 16, 3)
    with pytest.raises(ValueError, match="conv: its filter or bias is not steerable"):
        SymmetricConv(16, 16, 3, 1, CROSS).take(weight[ordered(16)][:, ordered(16)], bias[ordered(16)], "conv")
