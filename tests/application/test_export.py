"""Exported models give PyTorch's heat maps; they replace nothing that they should not."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.application.export import Format, export
from pipeline.errors import CheckpointError
from pipeline.inference.detector import SHIPPED, load
from tests.model.test_checkpoint import saved, small_lite, tiny
from tests.project import PROJECT


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
    monkeypatch.setattr("pipeline.application.export.TOLERANCE", -1.0)
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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A checkpoint that every form can be made of."""
    path = tmp_path_factory.mktemp("small") / "model.safetensors"
    saved(path, small_lite())
    return path


@pytest.mark.parametrize("form", get_args(Format))
def test_never_over_its_own_input(small, tmp_path, form):
    (tmp_path / "link.safetensors").symlink_to(small)
    (tmp_path / "hard.safetensors").hardlink_to(small)
    before, detector = small.read_bytes(), load("reflection", small, "cpu")
    for path in (small, small.parent / "." / "x" / ".." / small.name, tmp_path / "link.safetensors"):
        (small.parent / "x").mkdir(exist_ok=True)
        with pytest.raises(CheckpointError, match="the model is read from this file"):
            export(detector, form, path)
    with pytest.raises(CheckpointError, match="the model is read from this file"):
        export(load("reflection", tmp_path / "hard.safetensors", "cpu"), form, small)
    with pytest.raises(CheckpointError, match="the model is read from this file"):
        export(load("reflection", device="cpu"), form, SHIPPED / "lite_reflection.safetensors")
    assert small.read_bytes() == before


@pytest.mark.parametrize("form", get_args(Format))
def test_places_where_nothing_can_be_written(small, tmp_path, form):
    detector, file = load("reflection", small, "cpu"), tmp_path / "file"
    file.write_text("kept")
    for path, message in (
        (tmp_path, "expected the name of a file to write, got a folder"),
        (Path("/dev/null"), "expected the name of a file to write, got a device"),
        (file / "deep" / "model.bin", f"{file} is a file, not a folder"),
        (tmp_path / ("a" * 300), "cannot be written"),
    ):
        with pytest.raises(CheckpointError) as error:
            export(detector, form, path)
        assert message in str(error.value) and str(path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "kept"


def test_no_room(small, tmp_path):
    """A limit on the size of files stands for a full disk: what was there stays, and the process goes on."""
    code = (
        "import resource; from pathlib import Path; from pipeline import load; from pipeline.errors import UserError\n"
        "from pipeline.application.export import export\n"
        f"detector = load('reflection', {str(small)!r}, 'cpu')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "for form in ('onnx', 'torchscript', 'portable'):\n"
        f"    path = Path({str(tmp_path)!r}) / f'{{form}}.bin'; path.write_text('former')\n"
        "    try: export(detector, form, path)\n"
        "    except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 3, done.stderr
    assert all(
        f"{form}.bin: cannot be written: " in line for form, line in zip(("onnx", "torchscript", "portable"), lines)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx.bin", "portable.bin", "torchscript.bin"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"former"}
