"""`symmetry score`: anyone's predictions beside the truth. Without DVC and without PyTorch.

docs/evaluation.md says what each score means. Coordinates: x right, y down, pixels of the image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from pipeline.application.marks import Size
from pipeline.application.predictions import Predictions, detected, read_heat_map, read_predictions
from pipeline.application.truth import TruthSet, read_truth
from pipeline.data.packed.targets import mask
from pipeline.errors import DataError
from pipeline.params.choices import Task
from pipeline.scoring.detections import DetectionScores, ImageScores, heat_map_scores, image_scores
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count
from pipeline.scoring.sets import KINDS

COORDINATES = "x right, y down, pixels of the image as it is seen"
SHARES = {  # rows of the table in per cent, by their place in the scores
    "pixels: max F1": ("pixels", "max_f1"),
    "pixels: its precision": ("pixels", "precision"),
    "pixels: its recall": ("pixels", "recall"),
    **{
        f"{words}@{limit}, {order.replace('_', ' ')}": (key, order, limit)
        for key, words in (("sap", "sAP"), ("fold_sap", "sAP with fold"))
        for order in ("released", "by_score")
        for limit in ("5", "10", "15")
    },
    "max F": ("max_f1",),
    "F at --threshold": ("f1",),
    "top-1": ("top1",),
}
COUNTS = {"images": "images", "without a prediction": "missing", "marked": "marked", "found": "found"}
LEVELS = {"pixels: threshold of max F1": ("pixels", "threshold"), "score of max F": ("max_f1_score",)}


def score(
    predictions: Sequence[Path], truth: Path, task: Task | None = None, threshold: float | None = None
) -> dict[str, Any]:
    """The scores of each of the predictions by task: plain numbers, lists and dicts, all scores in 0..1.

    `task`: by default all that are marked. `threshold`: the score from which axes and centres count for `f1`. Images
    without a prediction count as ones in which nothing was found. Raises DataError, which names the file.
    """
    marked = read_truth(truth)
    return {
        "truth": str(truth),
        "coordinates": COORDINATES,
        "left_out": marked.left_out,
        "predictions": [_scored(read_predictions(path), marked, task, threshold) for path in predictions],
    }


def _scored(predictions: Predictions, truth: TruthSet, task: Task | None, threshold: float | None) -> dict[str, Any]:
    missing, unknown = sorted(truth.each.keys() - predictions.names), sorted(predictions.names - truth.each.keys())
    if len(missing) == len(truth.each):
        raise DataError(
            f"{predictions.path}: no prediction is called like an image of {truth.path}: {_few(unknown)} here, "
            f"{_few(missing)} there; they must agree without folders and suffixes"
        )
    marked = _marked(truth, task)
    tasks = _tasks(predictions, truth, marked)
    kinds = [KINDS[t] for t in marked if t not in tasks]
    found = {"predictions": str(predictions.path), "without_truth": unknown, "not_told": kinds}
    return found | {t: _task_scores(predictions, truth, t, threshold) for t in tasks}


def _marked(truth: TruthSet, task: Task | None) -> list[Task]:
    """The tasks, or that one, for which something is marked. Raises DataError where nothing is."""
    asked = get_args(Task) if task is None else (task,)
    tasks = [t for t in asked if any(some.annotation.serves(t) for some in truth.each.values())]
    if not tasks:
        kinds = " or ".join(KINDS[t] for t in asked)
        raise DataError(f"{truth.path}: no {kinds} are marked in {len(truth.each)} images")
    return tasks


def _tasks(predictions: Predictions, truth: TruthSet, tasks: list[Task]) -> list[Task]:
    """Those of the marked tasks of which predictions tell. Raises DataError where there is none."""
    if predictions.heat_maps and len(tasks) > 1:
        raise DataError(
            f"{truth.path}: axes and centres are marked: say by --task reflection or --task rotation which of them the "
            f"heat maps of {predictions.path} show"
        )
    told = [t for t in tasks if predictions.heat_maps or t in predictions.tasks]
    if not told:
        raise DataError(f"{predictions.path}: tells of no {' or '.join(KINDS[t] for t in tasks)}, which are marked")
    return told


def _task_scores(predictions: Predictions, truth: TruthSet, task: Task, threshold: float | None) -> dict[str, Any]:
    each: dict[int, ImageScores] = {}
    pixels = F1Counts.zero()
    for number, name in enumerate(tqdm(sorted(truth.each), unit="image", leave=False, disable=None)):
        annotation = truth.each[name].annotation
        if predictions.heat_maps:
            heat_map = _heat_map(predictions, truth, name)
            each[number] = heat_map_scores(heat_map, annotation, task)
            pixels += count(heat_map, mask(annotation, task, *heat_map.shape))
            continue
        marks = predictions.marks[name] if predictions.tells(name, task) else None
        told: list[tuple[Size | None, str]] = [(marks.size, marks.where)] if marks else []
        width, height = truth.size(name, *told)
        found = detected(marks, task) if marks else []
        each[number] = image_scores(found, annotation, task, height, width)
    missing = [name for name in sorted(truth.each) if not predictions.tells(name, task)]
    scores = {"images": len(each), "missing": missing, **DetectionScores(each).summary(threshold)}
    best = pixels.best
    if best is not None:
        scores["pixels"] = {
            "blank": not bool(pixels.predicted.any()),
            "max_f1": float(pixels.f1[best]),
            "precision": float(pixels.precision[best]),
            "recall": float(pixels.recall[best]),
            "threshold": float(THRESHOLDS[best]),
        }
    return scores


def _heat_map(predictions: Predictions, truth: TruthSet, name: str) -> np.ndarray:
    """float32 [H, W]: the prediction of an image, or nothing where there is none."""
    path = predictions.heat_maps.get(name)
    if path is None:
        width, height = truth.size(name)
        return np.zeros((height, width), np.float32)
    heat_map = read_heat_map(path)
    height, width = heat_map.shape
    truth.size(name, ((width, height), str(path)))
    return heat_map


def told(scores: dict[str, Any]) -> list[str]:
    """What a user should know of the scores: images without a prediction, predictions and marks that were not scored,
    heat maps in which nothing shows.
    """
    lines = [f"left out, no marks of symmetry: {_few(scores['left_out'])}"] if scores["left_out"] else []
    for found in scores["predictions"]:
        run, unknown = found["predictions"], found["without_truth"]
        if unknown:
            lines.append(f"{run}: {len(unknown)} predictions of images without a truth are not scored: {_few(unknown)}")
        lines += [f"{run}: tells of no {kind}, which are marked and not scored" for kind in found["not_told"]]
        for task in (task for task in get_args(Task) if task in found):
            if missing := found[task]["missing"]:
                lines.append(
                    f"{run}: {len(missing)} images without a prediction of {KINDS[task]} count as ones in which "
                    f"nothing was found: {_few(missing)}"
                )
            if found[task].get("pixels", {}).get("blank"):
                lines.append(
                    f"{run}: no heat map has a value above the lowest threshold, 1/101: of 8 bits 255 is certain, of "
                    "16 bits 65535, of floats 1"
                )
    return lines


def tables(scores: dict[str, Any]) -> str:
    """Markdown: a table for each task, a column for each of the predictions. Shares are in per cent."""
    runs = scores["predictions"]
    parts = []
    for task in get_args(Task):
        if not any(task in run for run in runs):
            continue
        columns = [run[task] | {"missing": len(run[task]["missing"])} if task in run else {} for run in runs]
        rows = [(words, [_at(column, (key,), "{:.0f}") for column in columns]) for words, key in COUNTS.items()]
        rows += [(words, [_at(column, place, "{:.1f}", 100) for column in columns]) for words, place in SHARES.items()]
        rows += [(words, [_at(column, place, "{:.3f}") for column in columns]) for words, place in LEVELS.items()]
        shown = [(words, cells) for words, cells in rows if set(cells) != {"-"}]
        parts.append(_markdown([KINDS[task], *(run["predictions"] for run in runs)], shown))
    return "\n".join(parts) + f"\nScores in per cent. Coordinates: {scores['coordinates']}.\n"


def _at(column: dict[str, Any], place: tuple[str, ...], form: str, factor: float = 1) -> str:
    """A number of the scores as text, or a dash where there is none."""
    value: Any = column
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return "-" if value is None else form.format(factor * value)


def _markdown(heading: list[str], rows: list[tuple[str, list[str]]]) -> str:
    cells = [[text.replace("|", "\\|") for text in row] for row in [heading, *([words, *some] for words, some in rows)]]
    wide = [max(map(len, column)) for column in zip(*cells)]
    lines = [[text.ljust(wide[0]) if not n else text.rjust(wide[n]) for n, text in enumerate(row)] for row in cells]
    lines.insert(1, [("-" * wide[0]) if not n else "-" * (width - 1) + ":" for n, width in enumerate(wide)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _few(names: Sequence[str]) -> str:
    return (", ".join(names[:5]) or "none") + (f" and {len(names) - 5} more" if len(names) > 5 else "")
