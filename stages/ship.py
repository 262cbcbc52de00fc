"""Stage `ship` of weights/dvc.yaml: a trained model as the package's weights for its task.

`python -m stages.ship NAME TASK 352 256:mirrored`: portable, looking at pictures with these sizes (none: the one that
it was trained with, as they are and mirrored), and with the threshold at which its axes or centres agree best with
those marked in the validation images.
"""

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.checkpoints import load_model, save_model
from pipeline.errors import UserError
from pipeline.packing import packed_splits
from pipeline.portable import portable
from pipeline.predictor import SHIPPED, Detector
from pipeline.scoring.marks import best_threshold, marked
from stages.command import run_stage


def main(name: str, task: str, *views: str) -> None:
    """Write pipeline/weights/lite_TASK.safetensors from models/weights/NAME."""
    model, record = portable(*load_model(Path("models/weights") / name / "model.safetensors"))
    record = replace(record, views=tuple(_view(view) for view in views))
    detector = Detector(model.float(), record)
    (split,) = packed_splits(Path("data/synthetic") / name / "packed", ["own"], "val", task)
    pairs = []
    for number in tqdm(range(len(split)), unit="image"):
        found, annotation = detector.detect(split.native_image(number), threshold=0.0), split.annotation(number)
        pairs.append((found.axes or found.centres, marked(annotation, task), max(found.heatmap.shape)))
    threshold, f1 = best_threshold(pairs)
    print(f"{task}: F1 of what is found in the validation images {f1:.3f} at {threshold:.2f}")
    save_model(SHIPPED / f"lite_{task}.safetensors", model.half(), replace(record, thresholds={"detection": threshold}))


def _view(text: str) -> tuple[int, bool]:
    size, _, how = text.partition(":")
    if not size.isdecimal() or how not in ("", "mirrored"):
        raise UserError(f"{text}: expected a view as SIZE or SIZE:mirrored")
    return int(size), bool(how)


if __name__ == "__main__":
    run_stage(main)
