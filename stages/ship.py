"""Stage `ship` of weights/dvc.yaml: a trained model as the package's weights for its task.

`python -m stages.ship NAME TASK 352 256:mirrored`: the weights of models/weights/NAME, portable, looking at pictures
with these sizes (none: the one that it was trained with, as they are and mirrored), and with the threshold at which its
axes or centres agree best with those marked in the validation images.
"""

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.conversion.graph import STRIDE, any_size, graph_beside
from pipeline.conversion.portable import portable
from pipeline.data.packed.split import packed_splits
from pipeline.errors import UserError
from pipeline.inference.detector import SHIPPED, Detector, parse_view
from pipeline.model.checkpoint import load_model, save_model
from pipeline.runtime.files import atomic_file
from pipeline.scoring.threshold import best_detection_threshold
from stages.command import run_stage


def main(name: str, task: str, *views: str) -> None:
    """Write pipeline/weights/lite_TASK.safetensors from models/weights/NAME, and its graph, lite_TASK.onnx."""
    model, record = portable(*load_model(Path("models/weights") / name / "model.safetensors"))
    record = replace(record, views=tuple(parse_view(view) for view in views))
    detector = Detector(model.float(), record)
    sizes = [size for size, _ in detector.views]
    if not any_size(model, *sizes):
        raise UserError(f"views of {sizes} pixels: expected multiples of {STRIDE}")
    (split,) = packed_splits(Path("data/synthetic") / name / "packed", ["own"], "val", task)
    numbers = tqdm(range(len(split)), unit="image")
    seen = ((split.annotation(n), detector.heat_maps([split.native_image(n)])[0]) for n in numbers)
    record = replace(record, detection_threshold=best_detection_threshold(seen, task))
    path = SHIPPED / f"lite_{task}.safetensors"
    save_model(path, model.half(), record)
    with atomic_file(path.with_suffix(".onnx")) as part:
        part.write_bytes(graph_beside(load_model(path)[0], sizes[0], path))


if __name__ == "__main__":
    run_stage(main)
