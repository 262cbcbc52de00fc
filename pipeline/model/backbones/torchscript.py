"""The tensors in an archive of torch.jit.save, such as OpenAI's own CLIP files, without running the code in it."""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from pipeline.errors import CheckpointError

ARCHIVE = re.compile(r"([^/]+)/constants\.pkl")  # a file that torch.save's archives lack
NO_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}  # last names of CLIP's other tensors
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


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


def _named(module: _Module, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in module.state.items():
        if isinstance(value, _Module):
            yield from _named(value, f"{prefix}{name}.")
        elif torch.is_tensor(value) and name not in NO_WEIGHTS:
            yield prefix + name, value


def _tensor(storage: torch.Tensor, offset: int, shape: tuple, strides: tuple, *_: object) -> torch.Tensor:
    return storage.as_strided(shape, strides, offset)
