"""Images -> heat maps, reflection axes and rotation centres: the public entry.

    from pipeline import detect, load
    found = detect("photograph.jpg")            # by the weights that come with the package
    found.axes, found.heatmap, found.overlay()
    detector = load("rotation", weights="models/main/model.safetensors", device="cuda")
    for found in detector.stream(paths, batch=16): ...

Coordinates: x right, y down, in pixels of the image as it is seen (turned as its EXIF orientation says).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, get_args

import numpy as np
from PIL import Image

from pipeline.data.reading.images import pixels_of_array, pixels_of_image, read_photograph
from pipeline.detection.axes import find_axes
from pipeline.detection.centres import find_centres
from pipeline.detection.confidence import Calibration, calibrated
from pipeline.detection.folds import with_folds
from pipeline.errors import CheckpointError, DataError, UserError, needs
from pipeline.geometry import Letterbox
from pipeline.inference.detection import Detection
from pipeline.inference.hub import located
from pipeline.inference.network import Engine, Graph, has_gpu, look, parameters
from pipeline.model.header import SHIPPED, Header, least_score
from pipeline.params.choices import Precision, Task
from pipeline.runtime.ahead import ahead, batches

if TYPE_CHECKING:
    import torch

    from pipeline.model.base import Model
    from pipeline.model.checkpoint import ModelRecord

ImageLike = str | Path | BinaryIO | Image.Image | np.ndarray


@dataclass(frozen=True)
class Prepared:
    """An image, uint8 RGB [H, W, 3], and what networks look at: by its size S, letterboxed, uint8 RGB [S, S, 3]."""

    pixels: np.ndarray
    squares: dict[int, np.ndarray]

    def box(self, size: int) -> Letterbox:
        """How the image lies in a square."""
        return Letterbox(self.pixels.shape[0], self.pixels.shape[1], size)


class Detector:
    """A model that looks at images of any size. May be called from several threads at once.

    `network`: what looks at images, by one of the engines. `source`: the file that it was read from, if any.
    """

    def __init__(self, network: "Model | Graph", record: "ModelRecord | Header", source: Path | None = None) -> None:
        self.network, self.record, self.source = network, record, source
        self.task, self.size = record.task, record.input_size
        self.views = record.views or ((self.size, False), (self.size, True))
        self.calibration = Calibration(*record.calibration) if record.calibration else None
        self.threshold = self.calibration.least if self.calibration else least_score(record.detection_threshold)

    @cached_property
    def model(self) -> "Model":
        """The model as a module of PyTorch. With the engine onnx a copy, read when it is first asked for: what is
        changed in it changes no heat map."""
        if not isinstance(self.network, Graph):
            return self.network
        with needs("'clipsym-pipeline[torch]'"):
            from pipeline.model.checkpoint import load_model

        return load_model(self.network.weights)[0]

    def info(self) -> dict:
        """What the model is: plain numbers and lists."""
        entries = self.record.entries
        validated = "released" not in entries["thresholds"]  # a released checkpoint says nothing of validation images
        return {
            "task": self.task, "engine": "onnx" if isinstance(self.network, Graph) else "torch",
            "backbone": entries["backbone"], "towers": entries["towers"], "input_size": self.size, "views": self.views,
            "parameters": parameters(self.network), "decoder": entries["decoder"], "prompts": entries["prompts"],
            "prompt_kind": entries["prompt_kind"], "precision": entries["precision"], "threshold": self.threshold,
            "threshold_known": bool(self.calibration) or self.record.detection_threshold is not None,
            "calibrated": bool(self.calibration),
            "validation_f1": entries["validation_f1"] if validated else None, "epoch": entries["epoch"],
            "portable": entries["portable"], "params": entries["params"],
        }  # fmt: skip

    def detect(self, image: ImageLike, threshold: float | None = None) -> Detection:
        """Look at one image: a path, an open file, a PIL image, or an array [H, W] or [H, W, 1 or 3 or 4].

        Arrays hold uint8, uint16, bool or floats in 0..1; a fourth channel is opacity. All ways in decode alike.

        `threshold`: the least score of an axis or centre, 0..1; by default the best on the validation images. Raises
        DataError for what is not an image.
        """
        (found,) = self._found([self._prepared(image)], threshold)
        return found

    def stream(
        self, images: Iterable[ImageLike | Prepared], batch: int = 1, threshold: float | None = None
    ) -> Iterator[Detection]:
        """Look at many images, `batch` at a time; the results come in their order.

        A thread prepares the next `batch` meanwhile, and no more: the memory does not grow with their number. What one
        that is no image raises comes after the results of those before it.
        """
        if batch < 1:
            raise UserError(f"batch: expected 1 or more, got {batch}")
        for some in batches(ahead((self._prepared(image) for image in images), batch), batch):
            yield from self._found(some, threshold)

    def heat_maps(self, images: Sequence[ImageLike | Prepared]) -> list[np.ndarray]:
        """float32 [H, W] in 0..1 of each image: the mean over the views."""
        if not (some := [self._prepared(image) for image in images]):
            return []
        totals = [np.zeros(one.pixels.shape[:2], np.float32) for one in some]
        for size in dict.fromkeys(size for size, _ in self.views):
            squares = np.stack([one.squares[size] for one in some])
            flips = [mirrored for of, mirrored in self.views if of == size]
            seen = [
                look(self.network, squares[:, :, ::-1])[:, :, ::-1] if flip else look(self.network, squares)
                for flip in flips
            ]
            for one, heat_map, total in zip(some, np.sum(seen, axis=0) / len(self.views), totals):
                one.box(size).add_native(heat_map, total)
        if not all(np.isfinite(total).all() for total in totals):
            raise CheckpointError(f"the model's heat map is not finite in {self.network.precision}; fp32 has more room")
        return totals

    def _prepared(self, image: ImageLike | Prepared) -> Prepared:
        return prepare(image, {size for size, _ in self.views})

    def _found(self, some: Sequence[Prepared], threshold: float | None) -> Iterator[Detection]:
        for one, heatmap in zip(some, self.heat_maps(some)):
            axes = find_axes(heatmap) if self.task == "reflection" else []
            centres = find_centres(heatmap) if self.task == "rotation" else []
            if self.calibration:
                axes = calibrated(axes, heatmap.shape, self.calibration)
                centres = calibrated(centres, heatmap.shape, self.calibration)
            heatmap.setflags(write=False)
            score = max([*(axis.score for axis in axes), *(centre.score for centre in centres)], default=0.0)
            found = Detection(self.task, heatmap, tuple(axes), tuple(centres), score, 0.0, one.pixels)
            found = found.above(self.threshold if threshold is None else threshold)
            yield replace(found, centres=tuple(with_folds(one.pixels, found.centres)))


def load(
    task: Task = "reflection",
    weights: str | Path | None = None,
    device: "str | torch.device | None" = None,
    precision: Precision = "fp32",
    prompts: Sequence[str] | None = None,
    engine: Engine | None = None,
) -> Detector:
    """A detector with the weights that come with the package, or with those of a file.

    weights: a checkpoint of the train stage, or one of the released CLIPSym's code, told apart by content; of `task`.
        A path, or hf://OWNER/REPO[/FILE] on the Hugging Face hub
    device: as PyTorch names it; by default the GPU where there is one
    precision: of the products: fp32, bf16 or fp16
    prompts: those that a released CLIPSym was trained with, in their order, where its file does not hold them
    engine: onnx, ONNX Runtime, for the package's weights on the CPU in fp32; or torch, PyTorch. By default onnx where
        it can be, but for a GPU

    Raises UserError, a CheckpointError in most cases.
    """
    for name, value, kind in (("task", task, Task), ("precision", precision, Precision), ("engine", engine, Engine)):
        if value is not None and value not in get_args(kind):
            raise UserError(f"{name}: expected one of {', '.join(get_args(kind))}, got {value!r}")
    packaged = weights is None and prompts is None and precision == "fp32" and str(device or "cpu") == "cpu"
    if engine == "onnx" and not packaged:
        raise UserError("engine onnx runs the package's weights on the CPU in fp32; all else needs the engine torch")
    if packaged and (engine == "onnx" or engine is None and (device is not None or not has_gpu())):
        graph = Graph(SHIPPED / f"lite_{task}.safetensors")
        return Detector(graph, graph.header, graph.weights)
    path = SHIPPED / f"lite_{task}.safetensors" if weights is None else located(weights)
    with needs("'clipsym-pipeline[torch]'"):
        from pipeline.inference.checkpoints import load_any

        model, record = load_any(path, task, device, precision, prompts)
    return Detector(model, record, path)


@cache
def shipped(task: Task) -> Detector:
    """The detector with the weights that come with the package, loaded once."""
    return load(task)


def detect(image: ImageLike, task: Task = "reflection", threshold: float | None = None) -> Detection:
    """Look at one image with the weights that come with the package; see `Detector.detect`."""
    return shipped(task).detect(image, threshold)


def prepare(image: ImageLike | Prepared, sizes: Iterable[int]) -> Prepared:
    """Decode an image, see `Detector.detect`, and letterbox it; what was prepared already is kept."""
    prepared = image if isinstance(image, Prepared) else Prepared(pixels_of(image), {})
    if missing := set(sizes) - set(prepared.squares):
        whole = Image.fromarray(prepared.pixels)
        for size in missing:
            box = prepared.box(size)
            prepared.squares[size] = box.placed(_shrunk(whole, *box.content))
    return prepared


def pixels_of(image: ImageLike) -> np.ndarray:
    """uint8 RGB [H, W, 3], read-only, as the image wants to be seen. Raises DataError for what is not an image."""
    if isinstance(image, (str, Path)):
        return read_photograph(Path(image)).turned()
    if isinstance(image, Image.Image):
        return pixels_of_image(image)
    if isinstance(image, np.ndarray):
        return pixels_of_array(image)
    if hasattr(image, "read"):
        return read_photograph(image).turned()
    raise DataError(f"expected a path, an open file, a PIL image or an array, got {type(image).__name__}")


def parse_view(text: str) -> tuple[int, bool]:
    """A view's size in pixels, and whether it is of the mirror image, from SIZE or SIZE:mirrored. Raises UserError."""
    size, _, how = text.partition(":")
    if not size.isdecimal() or how not in ("", "mirrored"):
        raise UserError(f"{text}: expected a view as SIZE or SIZE:mirrored")
    return int(size), bool(how)


def _shrunk(image: Image.Image, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3], with anti-aliasing: camera pictures are ten times as large as the model's input."""
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
