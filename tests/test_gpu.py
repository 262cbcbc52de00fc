"""On a GPU the same is computed as on the CPU and by the plain formulation: `pytest -m gpu tests/test_gpu.py`."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pipeline
from benchmarks import plain
from pipeline.errors import Interrupted
from pipeline.inference.detector import load
from pipeline.model.clipsym import Decoder
from pipeline.training.loop import train
from pipeline.training.state import TrainingState
from tests.training.test_loop import compiling, history, params, split

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use (CUDA)"),
]
EXAMPLES = Path(pipeline.__file__).parent / "application" / "examples"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [split(folder / "dendi-train", 8)], [split(folder / "dendi-val", 3)]


@pytest.mark.parametrize("kind", ["equivariant", "plain"])
@pytest.mark.parametrize("text", [True, False])
def test_decoder_and_its_gradients_are_the_plain_formulation(kind, text):
    """In double precision, through attention, perceptron, both convolutions after an upsampling and the last one."""
    torch.manual_seed(0)
    decoder = Decoder([24, 32, 40], 20 if text else None, 3 if text else 1, 16, kind, "C8", 2).double().to(DEVICE)
    features = [torch.randn(2, 31, width, dtype=torch.float64, device=DEVICE) for width in (24, 32, 40)]
    embeddings = torch.randn(3, 20, dtype=torch.float64, device=DEVICE) if text else None
    found = []
    for forward in (decoder, lambda *given: plain.decoder(decoder, *given)):
        logits = forward(features, embeddings, (5, 6))
        weights = torch.arange(logits.numel(), device=DEVICE, dtype=torch.float64).view_as(logits).sin()
        found.append((logits, torch.autograd.grad((logits * weights).sum(), list(decoder.parameters()))))
    (logits, gradients), (expected, expected_gradients) = found
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)
    for gradient, wanted in zip(gradients, expected_gradients):
        torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-8 * max(1, wanted.abs().max().item()))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_learns(precision, data, tmp_path):
    record = train(params(epochs=36, batch=2, validate_every=36, precision=precision), *data, tmp_path)
    first, *_, last = history(tmp_path, "loss").values()
    assert last < 0.7 * first and record.validation_f1 > 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}


def test_compiled_training_is_that_of_the_same_losses(data, tmp_path):
    for name, wanted in (("eager", False), ("compiled", True)):
        train(compiling(wanted, epochs=2), *data, tmp_path / name)
    eager, compiled = (history(tmp_path / name, "loss") for name in ("eager", "compiled"))
    assert compiled == pytest.approx(eager, rel=1e-3)


def test_goes_on_after_a_signal(data, tmp_path, monkeypatch):
    recipe, updates, update = params(epochs=3, batch=4), [], TrainingState.update

    def stopped_once(state):
        updates.append(state.epoch)
        if len(updates) == 3:  # the signal is seen in the step after
            os.kill(os.getpid(), signal.SIGTERM)
        return update(state)

    train(recipe, *data, tmp_path / "whole")
    monkeypatch.setattr(TrainingState, "update", stopped_once)
    with pytest.raises(Interrupted, match="epoch 2 after step 2"):
        train(recipe, *data, tmp_path / "stopped")
    train(recipe, *data, tmp_path / "stopped")
    assert updates == [1, 1, 2, 2, 3, 3]
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    for name, value in whole.items():  # sums on a GPU have no fixed order
        torch.testing.assert_close(stopped[name], value, rtol=1e-3, atol=1e-3)
    assert history(tmp_path / "stopped", "loss") == pytest.approx(history(tmp_path / "whole", "loss"), rel=1e-3)


@pytest.mark.parametrize("task, name", [("reflection", "cat.jpg"), ("rotation", "flower.jpg")])
def test_detection_is_that_of_the_cpu(task, name):
    ours, expected = (load(task, device=device).detect(EXAMPLES / name) for device in (DEVICE, "cpu"))
    np.testing.assert_allclose(ours.heatmap, expected.heatmap, rtol=0, atol=1e-3)
    assert expected.symmetric and len(ours.axes) == len(expected.axes) and len(ours.centres) == len(expected.centres)
    for one, other in zip([*ours.axes, *ours.centres], [*expected.axes, *expected.centres]):
        ends = [
            [getattr(found, end) for end in ("x1", "y1", "x2", "y2", "x", "y") if hasattr(found, end)]
            for found in (one, other)
        ]
        np.testing.assert_allclose(*ends, rtol=0, atol=1.0)
        assert one.score == pytest.approx(other.score, abs=1e-2)
