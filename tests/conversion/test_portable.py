"""The portable form computes what the trained model computes, and loads without its libraries."""

import subprocess
import sys

import pytest
import torch

from pipeline.conversion.portable import portable
from pipeline.errors import CheckpointError
from pipeline.model.checkpoint import ModelRecord, load_model, save_model
from pipeline.training.state import new_model
from tests.model.test_checkpoint import saved, small_lite, tiny


@pytest.mark.parametrize(
    "change", ["decoder.group=C4", "decoder.group=D4", "decoder.layers=4", "decoder.upsampler=plain"]
)
def test_same_heat_map_from_plain_convolutions(tmp_path, change):
    params = small_lite(change)
    model, prompts = new_model(params)
    record = ModelRecord.of(params, prompts, 3, 0.5, {"own": 0.25})
    save_model(tmp_path / "portable.safetensors", *portable(model.eval(), record))
    loaded, found = load_model(tmp_path / "portable.safetensors")
    assert found.portable and found.towers.input_size == 64 and found.decoder == params.decoder and not loaded.training
    kinds = {type(module).__module__.partition(".")[0] for module in loaded.modules()}
    assert kinds == {"pipeline", "torch"}
    with torch.no_grad():
        for size in (64, 72):
            images = torch.rand(2, 3, size, size)
            expected, ours = model(images), loaded(images)
            assert ours.dtype == torch.float32
            assert (ours - expected).abs().max() < 0.02 * expected.std() + 5e-3  # 16-bit weights


def test_what_16_bits_cannot_hold_is_refused():
    params = small_lite()
    model, prompts = new_model(params)
    with torch.no_grad():
        model.decoder.decoder_linear_map.bias.fill_(1e5)
    with pytest.raises(CheckpointError, match="decoder_linear_map.bias: its weights are too large for 16 bits"):
        portable(model, ModelRecord.of(params, prompts, 3, 0.5, {"own": 0.25}))


def test_prompts_come_along(tmp_path):
    """Their embeddings, of 16 bits in the file, are of 32 in the model."""
    model, record = saved(tmp_path / "model.safetensors", small_lite("prompts.kind=sapg"))
    save_model(tmp_path / "portable.safetensors", *portable(model.eval(), record))
    loaded, _ = load_model(tmp_path / "portable.safetensors")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, ours = model(images), loaded(images)
    assert ours.dtype == loaded.text_embeddings.dtype == torch.float32
    assert (ours - expected).abs().max() < 0.2 * expected.std()


def test_other_backbones_have_none(tmp_path):
    with pytest.raises(CheckpointError, match="only models of the family lite"):
        portable(*saved(tmp_path / "model.safetensors", tiny("none")))


def test_loads_without_timm_and_escnn(tmp_path):
    params = small_lite()
    model, prompts = new_model(params)
    path = tmp_path / "portable.safetensors"
    save_model(path, *portable(model, ModelRecord.of(params, prompts, 3, 0.5, {"own": 0.25})))
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['timm', 'escnn', 'torchvision', 'open_clip', 'transformers']))\n"
        "import numpy as np; from pipeline import load\n"
        f"print(load('reflection', {str(path)!r}, 'cpu').detect(np.zeros((40, 50), np.uint8)).heatmap.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "(40, 50)\n", done.stderr
