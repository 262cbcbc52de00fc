"""A model for other programs: ONNX or TorchScript, checked against PyTorch, or this project's portable form."""

import os
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from pipeline.application.detector import Detector
from pipeline.conversion.portable import plain, portable
from pipeline.errors import CheckpointError
from pipeline.model.checkpoint import save_model

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
    """Write the model; return what was written and how far it is from PyTorch. Raises CheckpointError.

    Nothing is written before it was checked, and `path` appears, or is replaced, in one step.
    """
    model, record = detector.model, detector.record
    _require_place(path, detector.source)
    if form == "portable":
        if record.portable:
            raise CheckpointError("this model is portable already: copy its file")
        twin, said = portable(model, record), ""
    else:
        model = model if record.portable else plain(model, record.towers)
        size = detector.views[0][0]
        heat_map, image = HeatMap(model), torch.rand(2, 3, size, size)
        with torch.no_grad():
            expected = heat_map(image).numpy()
            content, found = (_onnx if form == "onnx" else _torchscript)(heat_map, image)
        difference = float(np.abs(found - expected).max())
        if not difference < TOLERANCE:
            raise CheckpointError(f"{path}: the exported model differs by {difference:.1e}, more than {TOLERANCE:.0e}")
        said = f"; largest difference from PyTorch {difference:.1e}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "portable":
            save_model(path, *twin)
        else:
            _replace(path, content)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return f"{path}: {path.stat().st_size / 1e6:.1f} MB{said}"


def _require_place(path: Path, source: Path | None) -> None:
    """Raise CheckpointError where `path` is no file that may be written, or the one that the model is read from."""
    try:
        for place in (path, *path.parents):
            if place.exists():
                break
        if place == path and not path.is_file():
            kind = "a folder" if path.is_dir() else "a device"
            raise CheckpointError(f"{path}: expected the name of a file to write, got {kind}")
        if place != path and not place.is_dir():
            raise CheckpointError(f"{path}: cannot be written: {place} is a file, not a folder")
        if place == path and source is not None and source.exists() and path.samefile(source):
            raise CheckpointError(f"{path}: the model is read from this file; write the exported one to another")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _torchscript(heat_map: HeatMap, image: torch.Tensor) -> tuple[bytes, np.ndarray]:
    """TorchScript, and what it makes of the image."""
    buffer = BytesIO()  # on a full disk PyTorch's writer would end the process
    torch.jit.save(torch.jit.trace(heat_map, image, check_trace=False), buffer)
    buffer.seek(0)
    return buffer.getvalue(), torch.jit.load(buffer)(image).numpy()


def _onnx(heat_map: HeatMap, image: torch.Tensor) -> tuple[bytes, np.ndarray]:
    """ONNX with a free batch size, and what onnxruntime makes of the image."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise CheckpointError("export to ONNX needs two more packages: pip install onnx onnxruntime") from None
    buffer = BytesIO()
    torch.onnx.export(  # a buffer: only the new exporter, which is not used here, wants a path
        heat_map, (image,), buffer, input_names=["image"], output_names=["heatmap"],  # type: ignore[arg-type]
        dynamic_axes={"image": {0: "batch"}, "heatmap": {0: "batch"}}, opset_version=17, dynamo=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    return buffer.getvalue(), session.run(None, {"image": image.numpy()})[0]
