"""What a checkpoint's header says, read without PyTorch: of which form it is, how to look with it, and whether it is
whole. `pipeline.model.checkpoint` says what the entries mean, and checks them for models that are loaded.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pipeline.errors import CheckpointError
from pipeline.params.choices import Task

SHIPPED = Path(__file__).parents[1] / "weights"  # lite_TASK.safetensors, the checkpoints that come with the package
RECORD = "record"  # the header's entry
FORMAT = 2  # the version that is written
# Of a catalogue entry, and of `decoder`, in format 1:
FORMAT_1_TOWERS = "family", "model", "pretrained", "input_size", "blocks", "normalisation"
FORMAT_1_DECODER = "upsampler", "group", "layers", "width"
BUFFERS = {"text_embeddings"}  # tensors that are no parameters
UNKNOWN_THRESHOLD = 0.5  # for checkpoints of before a detection threshold was stored, and short runs' of the ablation
Content = tuple[str, str, list[int], Any]  # of a tensor: its name, PyTorch's name of its type, its shape, its bytes


@dataclass(frozen=True)
class Header:
    """The entries of a checkpoint that comes with the package, as they are written; `parameters`: their number."""

    entries: dict[str, Any]
    parameters: int

    @property
    def task(self) -> Task:
        """Of the model."""
        return self.entries["task"]

    @property
    def input_size(self) -> int:
        """Pixels of the side that the model was trained with."""
        return self.entries["towers"]["input_size"]

    @property
    def views(self) -> tuple[tuple[int, bool], ...]:
        """As `ModelRecord.views`."""
        return tuple((size, mirrored) for size, mirrored in self.entries.get("views", ()))

    @property
    def detection_threshold(self) -> float | None:
        """As `ModelRecord.detection_threshold`."""
        return self.entries.get("detection_threshold")

    @property
    def calibration(self) -> Sequence[float] | None:
        """As `ModelRecord.calibration`."""
        return self.entries.get("calibration")


def least_score(known: float | None) -> float:
    """The score from which a model's axes and centres are reported, from the `detection_threshold` of its record."""
    return UNKNOWN_THRESHOLD if known is None else known


def read_entries(path: Path) -> dict[str, Any]:
    """The entries of the record in a checkpoint's header, of today's format, unchecked. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint there; `dvc repro train` makes it")
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
        entries = json.loads(header[RECORD], parse_constant=_no_number) if RECORD in header else None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this project: {error}") from None
    if not isinstance(entries, dict):
        raise CheckpointError(
            f"{path}: not a checkpoint of this project: its header has no `record` of a model and its prompts; weights "
            f"for a backbone are named in params.yaml, backbones.NAME.weights"
        )
    version = entries.get("format", 1)
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: not a checkpoint of this project: format {version!r}; expected a whole number")
    if version > FORMAT:
        raise CheckpointError(
            f"{path}: made by a newer version of this program: format {version}, and this one knows those up to "
            f"{FORMAT}; update this program to load it"
        )
    try:
        return _of_format_1(entries) if version == 1 else entries
    except (KeyError, TypeError) as error:  # what a record of format 1 lacks, or has in another form
        raise CheckpointError(f"{path}: not a checkpoint of this project: its parameters lack {error}") from None


def read_header(path: Path) -> Header:
    """The header of a checkpoint that comes with the package. Raises CheckpointError, also for a damaged file."""
    entries = read_entries(path)
    with safe_open(path, framework="np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
        if entries.get("checksum"):
            arrays = {name: file.get_tensor(name) for name in shapes}
            require_checksum(path, [(name, f"torch.{a.dtype}", list(a.shape), a.data) for name, a in arrays.items()])
    return Header(entries, sum(prod(shape) for name, shape in shapes.items() if name not in BUFFERS))


def checksum(tensors: Iterable[Content], entries: dict[str, Any]) -> str:
    """The sha256 of tensors, with their names, types and shapes, and of the header's other entries."""
    found = hashlib.sha256(json.dumps(entries | {"checksum": ""}).encode())
    for name, kind, shape, content in sorted(tensors, key=lambda tensor: tensor[0]):
        found.update(f"{name} {kind} {shape}".encode())
        found.update(content)
    return found.hexdigest()


def require_checksum(path: Path, tensors: Iterable[Content]) -> None:
    """Raise CheckpointError where a file is not as it was written; one without a checksum is taken as it is."""
    with safe_open(path, framework="np") as file:
        entries = json.loads(file.metadata()[RECORD])
    if entries.get("checksum") and entries["checksum"] != checksum(tensors, entries):
        raise CheckpointError(
            f"{path}: damaged: its bytes are not those that were written. To have it made anew, see `Damaged files` in "
            "docs/data.md"
        )


def _of_format_1(entries: dict[str, Any]) -> dict[str, Any]:
    """The entries of today in a record that holds all of params.yaml. Raises KeyError and TypeError for others."""
    params, portable, thresholds = entries["params"], entries.get("portable", False), entries["thresholds"]
    entry = params["backbones"][params["backbone"]]
    found = {
        "task": params["task"],
        "backbone": params["backbone"],
        "towers": {key: entry[key] for key in FORMAT_1_TOWERS},
        "decoder": {key: params["decoder"][key] for key in FORMAT_1_DECODER},
        "prompt_kind": params["prompts"]["kind"],
        "precision": "fp32" if portable else params["train"]["precision"],
    }
    if "detection" in thresholds:  # where the weights that are shipped keep it
        found["detection_threshold"] = thresholds["detection"]
    return found | entries


def _no_number(text: str) -> None:
    raise ValueError(f"its header holds {text}")
