"""A model for other programs: ONNX or TorchScript, checked against PyTorch, or this project's portable form."""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from safetensors import SafetensorError

from pipeline.conversion.graph import HeatMap, any_size, graph
from pipeline.conversion.portable import plain, portable
from pipeline.errors import CheckpointError, needs
from pipeline.inference.detector import Detector
from pipeline.inference.network import Graph
from pipeline.model.backbones.catalogue import is_safetensors
from pipeline.model.base import Model
from pipeline.model.checkpoint import ModelRecord, load_model, save_model

Format = Literal["onnx", "torchscript", "portable"]
TOLERANCE = 1e-4  # largest difference of the heat map from PyTorch's


def export(detector: Detector, form: Format, path: Path) -> str:
    """Write the model; return what was written and how far it is from PyTorch. Raises CheckpointError.

    Nothing is written before it was checked, and `path` appears, or is replaced, in one step.
    """
    _require_place(path, detector.source)
    model, record = _for_pytorch(detector)
    if form == "portable":
        if record.portable and detector.source and is_safetensors(detector.source):
            raise CheckpointError("this model is portable already: copy its file")
        twin, said = portable(model, record), ""
    else:
        if not record.portable:
            model = plain(model, record.towers)
        sizes = sorted({size for size, _ in detector.views})
        sizes = sizes if form == "onnx" and any_size(model, *sizes) else [detector.views[0][0]]
        content, run = (_onnx if form == "onnx" else _torchscript)(model, sizes[0])
        difference = max(_difference(model, run, size) for size in sizes)
        if not difference < TOLERANCE:
            raise CheckpointError(f"{path}: the exported model differs by {difference:.1e}, more than {TOLERANCE:.0e}")
        said = f"; sides of {' and '.join(map(str, sizes))} pixels; largest difference from PyTorch {difference:.1e}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "portable":
            save_model(path, *twin)
        else:
            _replace(path, content)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return f"{path}: {path.stat().st_size / 1e6:.1f} MB{said}"


def _for_pytorch(detector: Detector) -> tuple[Model, ModelRecord]:
    """The model and its record, loaded anew where ONNX Runtime runs it."""
    if isinstance(detector.network, Graph):
        return load_model(detector.network.weights)
    return detector.model, cast(ModelRecord, detector.record)


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


def _difference(model: Model, run: Callable[[torch.Tensor], np.ndarray], size: int) -> float:
    """The largest one between PyTorch's heat maps and those of an exported model, which `run` runs."""
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        return float(np.abs(run(images) - HeatMap(model)(images).numpy()).max())


def _torchscript(model: Model, size: int) -> tuple[bytes, Callable[[torch.Tensor], np.ndarray]]:
    """TorchScript, and what runs it."""
    buffer = BytesIO()  # on a full disk PyTorch's writer would end the process
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(HeatMap(model), torch.rand(2, 3, size, size), check_trace=False), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    return buffer.getvalue(), lambda images: loaded(images).numpy()


def _onnx(model: Model, size: int) -> tuple[bytes, Callable[[torch.Tensor], np.ndarray]]:
    """ONNX, and what runs it by ONNX Runtime."""
    with needs("'clipsym-pipeline[export]'"):
        import onnxruntime
    content = graph(model, size)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda images: session.run(None, {"image": images.numpy()})[0]
