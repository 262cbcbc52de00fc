"""Files of weights on disk."""

from pathlib import Path

from pipeline.errors import BackboneError
from pipeline.project import located

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
WEIGHT_FILES = (*HUB_FILES, "model.safetensors", "model.pt")


def local_weights(path: Path) -> Path:
    """The weights file at `path`, or inside it if it is a folder."""
    path = located(path)
    candidates = [path / name for name in WEIGHT_FILES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise BackboneError(f"{path}: no weights there; expected a file, or a folder with one of {', '.join(WEIGHT_FILES)}")


def brief(error: Exception) -> str:
    """One line on an error of a library."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
