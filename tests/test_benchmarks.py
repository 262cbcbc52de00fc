"""The plain formulations are the same mathematics, in the paper's setting too; the figures are what they say."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import files_executed, plain
from benchmarks.timing import Comparison, compare, multiply_adds, shown
from benchmarks.work import Pair, images, paper, photograph
from pipeline.scoring.f1 import count


@pytest.fixture(scope="module")
def pair():
    return Pair.build(paper())


@pytest.fixture
def small_pair():
    """The same for smaller images, whose side is no multiple of that of a patch either."""
    return Pair.build(paper(size=161))


def test_the_model_equals_its_plain_formulation_in_the_papers_setting(pair):
    pictures = images(1, 417)
    with torch.no_grad():
        expected = pair.plain(pictures)
        assert (pair.ours(pictures) - expected).abs().max() < 1e-4
        torch.testing.assert_close(pair.plain(pictures, waste=False), expected, rtol=0, atol=1e-5)
        assert expected.std() > 1e-3
    assert len(pair.tokens) == 25 and expected.shape == (1, 1, 417, 417)


def test_gradients_equal_those_of_the_plain_formulation(small_pair):
    """Through all of the decoder and the image tower, but for the ReLUs that rounding tips over."""
    pair, pictures = small_pair, images(1, 161)
    direction = torch.randn(1, 1, 161, 161, generator=torch.Generator().manual_seed(1))
    names = ("conv1.weight", "transformer.resblocks.3.mlp.c_fc.weight", "transformer.resblocks.9.attn.in_proj_weight")
    learning = [p for name, p in pair.ours.decoder.named_parameters() if not name.endswith("k_proj.bias")]  # no effect
    found = []
    for forward, visual in ((pair.ours, pair.ours.image_tower.visual), (pair.plain, pair.clip.visual)):
        parameters = [visual.get_parameter(name) for name in names] + learning
        found.append(torch.autograd.grad((forward(pictures) * direction).sum(), parameters))
    for ours, expected in zip(*found):
        assert (ours - expected).norm() < 5e-3 * expected.norm()


def test_counts_equal_those_of_a_hundred_dilations():
    generator = np.random.default_rng(0)
    heat, truth = generator.random((60, 80), np.float32), generator.random((60, 80)) < 0.01
    ours, expected = count(heat, truth), plain.counts(heat, truth)
    np.testing.assert_array_equal(ours.true, expected.true)
    np.testing.assert_array_equal(ours.predicted, expected.predicted)
    assert ours.actual == expected.actual


def test_the_plain_training_sample_is_that_of_the_packed_split(tmp_path, monkeypatch):
    """Before augmentation."""
    sample, split = photograph(tmp_path, 97)
    monkeypatch.setattr(plain, "TILT", 0.0)
    monkeypatch.setattr(plain, "JITTER_SHARE", 0.0)
    monkeypatch.setattr(torch, "randint", lambda *_: 0)
    image, target = plain.training_sample(sample, "reflection", 97)
    plainly = (image * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_allclose(plainly, split.image(0), atol=1)  # OpenCV's whole numbers against fractions
    np.testing.assert_allclose(target[0].numpy(), split.target(0), atol=1e-6)


def test_multiply_adds():
    x, weight = torch.randn(5, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    assert multiply_adds(lambda: F.linear(x, weight)) == 5 * 7 * 3
    assert multiply_adds(lambda: F.linear(x, weight).sum().backward()) == 3 * 5 * 7 * 3
    q = torch.randn(2, 4, 6, 16, requires_grad=True)
    attend = lambda: F.scaled_dot_product_attention(q, q, q)  # noqa: E731
    assert multiply_adds(attend) == 2 * (2 * 4 * 6 * 6 * 16)
    assert multiply_adds(lambda: attend().sum().backward()) == (2 + 5) * (2 * 4 * 6 * 6 * 16)


def test_comparison():
    called = []
    found = compare(lambda: called.append("plain"), lambda: called.append("ours"), runs=3)
    assert called == ["ours", "plain", "ours", *["plain", "ours"] * 3]
    assert len(found.plain) == len(found.ours) == 3 and found.multiply_adds == 0
    assert Comparison([2.0, 9.0], [1.0, 3.0], 0).ratios == [2.0, 3.0]
    assert shown([0.002, 0.004, 0.001]) == "2 ms (1 to 4)"
    assert shown([3.0, 2.0, 4.0]) == "3 s (2 to 4)"


def test_files_executed_by_a_detection(tmp_path):
    files_executed.prepare(tmp_path, "tiny")
    found = files_executed.in_a_process("detect", str(tmp_path))
    assert "find_axes" in found["pipeline/detection/axes.py"]  # of the task's, and no other
    assert "find_centres" not in found["pipeline/detection/axes.py"]
    assert "pipeline/training/loop.py" not in found and "pipeline/params/changes.py" not in found
