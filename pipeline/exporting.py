"""A model for other programs: ONNX or TorchScript, checked against PyTorch, or this project's portable form."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from pipeline.checkpoints import save_model
from pipeline.errors import CheckpointError
from pipeline.portable import plain, portable
from pipeline.predictor import Detector

Format = Literal["onnx", "torchscript", "portable"]
TOLERANCE = 1e-4  # largest difference of the heat map from PyTorch's


class HeatMap(nn.Module):
    """What is exported: `image`, RGB float [B, 3, S, S] in 0..1, letterboxed -> `heatmap`, [B, 1, S, S] in 0..1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] -> [B, 1, S, S]."""
        return self.model(image).sigmoid()


def export(detector: Detector, form: Format, path: Path) -> str:
    """Write the model; return what was written and how far it is from PyTorch. Raises CheckpointError."""
    model, record = detector.model, detector.record
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "portable":
        if record.portable:
            raise CheckpointError("this model is portable already: copy its file")
        save_model(path, *portable(model, record))
        return f"{path}: {path.stat().st_size / 1e6:.1f} MB"
    model = model if record.portable else plain(model, record.params.chosen)
    size = detector.views[0][0]
    heat_map, image = HeatMap(model), torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = heat_map(image).numpy()
        found = (_onnx if form == "onnx" else _torchscript)(heat_map, image, path)
    difference = float(np.abs(found - expected).max())
    if not difference < TOLERANCE:
        path.unlink()
        raise CheckpointError(f"{path}: the exported model differs by {difference:.1e}, more than {TOLERANCE:.0e}")
    return f"{path}: {path.stat().st_size / 1e6:.1f} MB; largest difference from PyTorch {difference:.1e}"


def _torchscript(heat_map: HeatMap, image: torch.Tensor, path: Path) -> np.ndarray:
    """Write TorchScript; return what it makes of the image."""
    torch.jit.trace(heat_map, image, check_trace=False).save(str(path))
    return torch.jit.load(str(path))(image).numpy()


def _onnx(heat_map: HeatMap, image: torch.Tensor, path: Path) -> np.ndarray:
    """Write ONNX with a free batch size; return what onnxruntime makes of the image."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise CheckpointError("export to ONNX needs two more packages: pip install onnx onnxruntime") from None
    torch.onnx.export(
        heat_map, (image,), path, input_names=["image"], output_names=["heatmap"],
        dynamic_axes={"image": {0: "batch"}, "heatmap": {0: "batch"}}, opset_version=17, dynamo=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.numpy()})[0]
