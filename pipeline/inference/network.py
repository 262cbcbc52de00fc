"""The two engines that run a model on letterboxed images: PyTorch, and ONNX Runtime for the package's weights."""

import importlib.util
import os
from ctypes import CDLL, byref, c_int
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.errors import CheckpointError, needs
from pipeline.model.header import Header, read_header

if TYPE_CHECKING:
    from pipeline.model.base import Model

Engine = Literal["onnx", "torch"]


class Graph:
    """A model of the package, run by ONNX Runtime in fp32. May be called from several threads at once."""

    precision = "fp32"

    def __init__(self, weights: Path) -> None:
        """`weights`: a checkpoint with its graph beside it, PATH.onnx. Raises CheckpointError and PackageError."""
        with needs("onnxruntime"):
            import onnxruntime

        self.weights = weights
        self.header: Header = read_header(weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        options.enable_mem_pattern = False  # plans for each size that comes by would take as much as the arena
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would take the decoder\'s core
        try:
            self.session = onnxruntime.InferenceSession(
                weights.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of a dozen kinds for files that are missing, damaged or of other weights
            raise CheckpointError(f"{weights}: ONNX Runtime cannot load its graph: {error}") from None

    def __call__(self, squares: np.ndarray) -> np.ndarray:
        """uint8 RGB [B, S, S, 3], letterboxed -> float32 [B, S, S] in 0..1."""
        images = np.divide(squares.transpose(0, 3, 1, 2), np.float32(255), order="C")
        return self.session.run(None, {"image": images})[0][:, 0]

    def __reduce__(self) -> tuple:
        return Graph, (self.weights,)


def look(model: "Graph | Model", squares: np.ndarray) -> np.ndarray:
    """uint8 RGB [B, S, S, 3], letterboxed -> float32 [B, S, S] in 0..1, by the engine that the model is of."""
    if isinstance(model, Graph):
        return model(squares)
    import torch

    with torch.inference_mode():
        images = torch.from_numpy(np.ascontiguousarray(squares)).to(model.device).permute(0, 3, 1, 2).float() / 255
        return model(images).sigmoid()[:, 0].float().cpu().numpy()


def parameters(model: "Graph | Model") -> int:
    """How many numbers were learnt."""
    return model.header.parameters if isinstance(model, Graph) else sum(p.numel() for p in model.parameters())


def threads() -> int:
    """How many processors may be used: OMP_NUM_THREADS, as PyTorch reads it, or all that this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether PyTorch would find a GPU of CUDA, without the seconds that importing it takes."""
    if importlib.util.find_spec("torch") is None:
        return False
    try:
        driver, count = CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1"), c_int()
    except OSError:
        return False
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(byref(count)) == 0 and count.value > 0
