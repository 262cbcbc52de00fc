"""Stage `ship` of weights/dvc.yaml: a trained model as the package's weights for its task.

`python -m stages.ship NAME[+NAME] TASK 352 256:mirrored`: the mean of the named models' weights, portable, looking at
pictures with these sizes (none: the one that it was trained with, as they are and mirrored), and with the threshold at
which its axes or centres agree best with those marked in the validation images of the last.
"""

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.checkpoints import load_model, save_model
from pipeline.clipsym import CLIPSym
from pipeline.packing import packed_splits
from pipeline.portable import portable
from pipeline.predictor import SHIPPED, Detector, parse_view
from pipeline.records import ModelRecord
from pipeline.scoring.marks import best_threshold, marked
from stages.command import run_stage


def main(named: str, task: str, *views: str) -> None:
    """Write pipeline/weights/lite_TASK.safetensors from models/weights/NAME."""
    names = named.split("+")
    model, record = portable(*_mean(names))
    record = replace(record, views=tuple(parse_view(view) for view in views))
    detector = Detector(model.float(), record)
    (split,) = packed_splits(Path("data/synthetic") / names[-1] / "packed", ["own"], "val", task)
    pairs = []
    for number in tqdm(range(len(split)), unit="image"):
        found, annotation = detector.detect(split.native_image(number), threshold=0.0), split.annotation(number)
        pairs.append((found.axes or found.centres, marked(annotation, task), max(found.heatmap.shape)))
    threshold, f1 = best_threshold(pairs)
    print(f"{task}: F1 of what is found in the validation images {f1:.3f} at {threshold:.2f}")
    save_model(SHIPPED / f"lite_{task}.safetensors", model.half(), replace(record, thresholds={"detection": threshold}))


def _mean(names: list[str]) -> tuple[CLIPSym, ModelRecord]:
    """The last of these models, with the mean of all their weights."""
    loaded = [load_model(Path("models/weights") / name / "model.safetensors") for name in names]
    states, (model, record) = [some.state_dict() for some, _ in loaded], loaded[-1]
    mean = {
        key: sum(state[key] for state in states) / len(states) for key, v in states[-1].items() if v.is_floating_point()
    }
    model.load_state_dict(states[-1] | mean)
    return model, record


if __name__ == "__main__":
    run_stage(main)
