"""Files of weights, ours and those of others: where they lie, and the tensors in them.

Nothing in a file is executed: a pickle may name tensors, containers, and the few harmless classes that stand here.
"""

import pickle
import re
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import BackboneError, CheckpointError
from pipeline.model.backbones.torchscript import ARCHIVE, read_torchscript
from pipeline.params.project import located

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
WEIGHT_FILES = (*HUB_FILES, "model.safetensors", "model.pt")
WITHIN = ("state_dict", "model_state_dict", "model", "module")  # keys under which trainings keep a state


def local_weights(path: Path) -> Path:
    """The weights file at `path`, or inside it if it is a folder."""
    path = located(path)
    candidates = [path / name for name in WEIGHT_FILES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise BackboneError(f"{path}: no weights there; expected a file, or a folder with one of {', '.join(WEIGHT_FILES)}")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Names and tensors of a file: safetensors, PyTorch's of all ages, TorchScript; told apart by their content.

    A state inside a training's checkpoint is taken out of it. Raises CheckpointError.
    """
    if is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: damaged safetensors: {brief(error)}") from None
    if is_torchscript(path):
        return read_torchscript(path)
    content = read_pickle(path)
    for _ in WITHIN:  # a dict may hold itself
        content = next((content[key] for key in WITHIN if isinstance(content.get(key), dict)), content)
    if not content or not all(torch.is_tensor(value) for value in content.values()):
        found = ", ".join(f"{name} ({type(value).__name__})" for name, value in list(content.items())[:4])
        raise CheckpointError(
            f"{path}: expected tensors by name, or a dict that holds them as {' or '.join(WITHIN)}; got "
            f"{found or 'nothing'}"
        )
    return {str(name).replace("_orig_mod.", ""): value for name, value in content.items()}  # of torch.compile


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header, and the header's brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def is_pytorch(path: Path) -> bool:
    """Whether a file that is no safetensors begins as those of torch.save do: a zip archive, or, of old, a pickle."""
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of torch.jit.save, in which code lies beside the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(ARCHIVE.fullmatch(name) for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError):  # none, or a damaged one, of which `read_pickle` tells
        return False


def read_pickle(path: Path) -> dict:
    """What torch.save wrote, a dict; numbers of NumPy and argparse's Namespace may be in it. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint there")
    try:
        with torch.serialization.safe_globals(ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except Exception as error:  # pickle's, zipfile's and torch's
        raise CheckpointError(f"{path}: not a state dict of PyTorch: {_reason(path, error)}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a state dict, got {type(content).__name__}")
    return content


def unusable(state: dict[str, torch.Tensor], model: nn.Module) -> str:
    """What keeps the values from being this model's weights; empty where nothing does. Names and shapes do not matter.

    Loading them would cast whole numbers to floats, and take NaN over, without a word.
    """
    for name, own in model.state_dict().items():
        value = state.get(name, own)
        if value.dtype != own.dtype and not (value.is_floating_point() and own.is_floating_point()):
            return f"{name}: expected {own.dtype}, got {value.dtype}"
        if not value.to(own.dtype).isfinite().all():
            return f"{name}: holds NaN or infinity"
    return ""


def brief(error: Exception) -> str:
    """One line on an error of a library, without the colours of a terminal."""
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(' '.join(lines[:3]).split())}"


def _reason(path: Path, error: Exception) -> str:
    """Why torch.load refuses a file; its own words advise to load it without any check."""
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"it holds {named[1]}, which is code and not weights; keep the tensors alone where the file was made, by "
            f"torch.save(model.state_dict(), FILE)"
        )
    with path.open("rb") as file:
        start = file.read(40)
    if start.startswith(b"PK"):
        return "the archive is damaged, or cut off"
    return f"it begins with {start!r}"  # a page that says that there is nothing, or a pointer of Git LFS


class _Kind:
    """Stands for a type of NumPy's, whose own trusts what a pickle says of it."""

    def __init__(self, code: str = "", *_: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")


class _Array:
    """Stands for an array of NumPy's, which no weights are."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple) -> None: ...


def _number(kind: _Kind, content: bytes) -> np.generic:
    """A number of NumPy's."""
    if not re.fullmatch("[biufc][0-9]{1,2}", kind.code):
        raise pickle.UnpicklingError(f"{kind.code} is no number")
    return np.frombuffer(content, f"{kind.order}{kind.code}", 1)[0]


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes, as pickles of version 2 hold them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"an encoding {encoding}")
    return text.encode("latin1")


ALLOWED = [  # of others' classes; what a pickle names them, and what is called instead
    Namespace,
    *(_Kind, _Array),
    (_latin1, "_codecs.encode"),
    *((_Kind, "numpy.dtype"), (_Array, "numpy.ndarray")),
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # of NumPy 1 and 2
    *((_Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
