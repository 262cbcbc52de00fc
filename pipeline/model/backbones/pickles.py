"""Files of PyTorch: those of torch.save of all ages, and archives of torch.jit.save such as OpenAI's own CLIP files.

Nothing in a file is executed: a pickle may name tensors, containers, and the few harmless classes that stand here.
"""

import pickle
import re
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import CheckpointError

ARCHIVE = re.compile(r"([^/]+)/constants\.pkl")  # a file that torch.save's archives lack
NO_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}  # last names of CLIP's other tensors
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


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


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Names and tensors of the modules in the archive. Raises CheckpointError."""
    try:
        with zipfile.ZipFile(path) as archive:
            folder = next(filter(None, map(ARCHIVE.fullmatch, archive.namelist())))[1]
            data = [entry for entry in archive.infolist() if entry.filename.startswith(f"{folder}/data")]
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in data):  # PyTorch packs its code only
                raise ValueError("its data are compressed")
            module = _Reader(archive, folder).load()
        return dict(_named(module, ""))
    except Exception as error:  # a pickle may break in any way
        raise CheckpointError(f"{path}: a damaged TorchScript archive: {type(error).__name__}: {error}") from None


class _Module:
    """Stands for an object of the archive's own classes."""

    def __setstate__(self, state: dict) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    """Knows modules, tensors and lists; any other class is an error."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self.archive, self.folder = archive, folder
        self.storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Callable | type | torch.dtype:
        """What a name of the pickle stands for."""
        if module.split(".")[0] == "__torch__":
            return _Module
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch.jit._pickle":
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a module")

    def persistent_load(self, place: tuple) -> torch.Tensor:
        """The numbers of one storage; the device that they lay on does not matter."""
        _, dtype, key, _, length = place
        if key not in self.storages:
            content = bytearray(self.archive.read(f"{self.folder}/data/{key}"))
            self.storages[key] = torch.frombuffer(content, dtype=dtype) if length else torch.empty(0, dtype=dtype)
        return self.storages[key]


def _named(module: _Module, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in module.state.items():
        if isinstance(value, _Module):
            yield from _named(value, f"{prefix}{name}.")
        elif torch.is_tensor(value) and name not in NO_WEIGHTS:
            yield prefix + name, value


def _tensor(storage: torch.Tensor, offset: int, shape: tuple, strides: tuple, *_: object) -> torch.Tensor:
    return storage.as_strided(shape, strides, offset)


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


ALLOWED: list[Any] = [  # of others' classes; what a pickle names them, and what is called instead
    Namespace,
    *(_Kind, _Array),
    (_latin1, "_codecs.encode"),
    *((_Kind, "numpy.dtype"), (_Array, "numpy.ndarray")),
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # of NumPy 1 and 2
    *((_Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
