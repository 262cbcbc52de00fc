"""Exported models give PyTorch's heat maps."""

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.exporting import export
from pipeline.predictor import load
from tests.test_checkpoints import saved, small_lite, tiny


@pytest.fixture(scope="module", params=["lite", "tiny"])
def detector(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    saved(path, small_lite() if request.param == "lite" else tiny())
    return load("reflection", path, "cpu")


def expected(detector, images):
    with torch.no_grad():
        return detector.model(images).sigmoid().numpy()


def test_onnx(detector, tmp_path):
    message = export(detector, "onnx", tmp_path / "model.onnx")
    assert "largest difference from PyTorch" in message
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = torch.rand(3, 3, detector.size, detector.size)  # another batch size than that of the check
    (found,) = session.run(None, {"image": images.numpy()})
    assert np.abs(found - expected(detector, images)).max() < 1e-4


def test_torchscript(detector, tmp_path):
    export(detector, "torchscript", tmp_path / "deep" / "model.pt")
    images = torch.rand(3, 3, detector.size, detector.size)
    with torch.no_grad():
        found = torch.jit.load(tmp_path / "deep" / "model.pt")(images).numpy()
    assert np.abs(found - expected(detector, images)).max() < 1e-4


def test_an_export_that_differs_is_an_error_and_leaves_no_file(detector, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.exporting.TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="the exported model differs by"):
        export(detector, "torchscript", tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_portable(tmp_path):
    saved(tmp_path / "model.safetensors", small_lite())
    detector = load("reflection", tmp_path / "model.safetensors", "cpu")
    export(detector, "portable", tmp_path / "portable.safetensors")
    twin, image = load("reflection", tmp_path / "portable.safetensors", "cpu"), np.eye(50, dtype=np.float32)
    assert twin.record.portable
    np.testing.assert_allclose(twin.detect(image).heatmap, detector.detect(image).heatmap, atol=5e-3)
