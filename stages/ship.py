"""Stage `ship` of weights/dvc.yaml: a trained model as the package's weights for its task.

`python -m stages.ship NAME TASK 352 256:mirrored`: the weights of models/weights/NAME, portable, looking at pictures
with these sizes (none: the one that it was trained with, as they are and mirrored), with the threshold at which its
axes or centres agree best with those marked in the validation images, and with what makes probabilities of their
scores, as the marks of MARKED teach it, where its photographs are among those of `synthetic.photographs`.
"""

import logging
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.conversion.graph import STRIDE, any_size, graph_beside
from pipeline.conversion.portable import portable
from pipeline.data.packed.split import packed_splits
from pipeline.data.reading.files import read_json
from pipeline.data.synthesis.synthetic import marked as marks_of
from pipeline.data.synthesis.synthetic import read_photographs
from pipeline.detection.confidence import Calibration
from pipeline.errors import UserError
from pipeline.inference.detector import SHIPPED, Detector, parse_view
from pipeline.model.checkpoint import load_model, save_model
from pipeline.params import load_params
from pipeline.params.project import located
from pipeline.runtime.files import atomic_file
from pipeline.scoring.calibration import learnt
from pipeline.scoring.detections import found_in
from pipeline.scoring.matching import ground_truth
from pipeline.scoring.sets import KINDS
from pipeline.scoring.threshold import best_detection_threshold
from stages.command import run_stage

logger = logging.getLogger(__name__)

MARKED = Path("weights/marked.json")


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
    threshold = best_detection_threshold(seen, task)
    photographs = located(load_params().synthetic.photographs)
    record = replace(record, detection_threshold=threshold, calibration=_calibration(detector, photographs))
    path = SHIPPED / f"lite_{task}.safetensors"
    save_model(path, model.half(), record)
    with atomic_file(path.with_suffix(".onnx")) as part:
        part.write_bytes(graph_beside(load_model(path)[0], sizes[0], path))


def _calibration(detector: Detector, folder: Path) -> Calibration | None:
    """What the marked photographs teach; None where they are not all in the folder."""
    marked = read_json(MARKED)
    training, validation = read_photographs(folder)
    photographs = training | validation
    if lacking := marked.keys() - photographs.keys():
        logger.info("no probabilities: the photographs lack %d of the %d in %s", len(lacking), len(marked), MARKED)
        return None
    task, images = detector.task, []
    for name in tqdm(sorted(marked), desc="marked", unit="image"):
        marks = marks_of(**marked[name])
        (heat_map,) = detector.heat_maps([photographs[name]])
        images.append((found_in(heat_map, task), ground_truth(marks, task), heat_map.shape))
    found = learnt(images)
    logger.info("%s: %d are reported, three in four rightly\n%s", KINDS[task], found.told, found.reliability.round(2))
    return found.weights


if __name__ == "__main__":
    run_stage(main)
