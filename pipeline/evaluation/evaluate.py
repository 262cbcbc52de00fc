"""A model on one test set: F1, the scores of the axes or centres that are found in the heat maps, the precision-recall
curve, and overlays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.packed.split import PackedSplit
from pipeline.detection.axes import find_axes
from pipeline.detection.centres import DetectedCentre, find_centres
from pipeline.detection.folds import FOLDS, with_folds
from pipeline.figures.pictures import overlay
from pipeline.model.base import Model
from pipeline.params.choices import Task
from pipeline.processes import ALL, Shard
from pipeline.runtime.ahead import ahead
from pipeline.scoring.detections import DetectionScores, ImageScores, found_scores
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count
from pipeline.scoring.heat_maps import heat_maps
from pipeline.scoring.sets import KINDS


@dataclass(frozen=True)
class Evaluation:
    """One test set: counts of pixels by the number of the image, and the scores of what is found in the heat maps."""

    each: dict[int, F1Counts]
    detections: DetectionScores

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """The evaluation of both shards together."""
        return Evaluation(self.each | other.each, self.detections + other.detections)

    @property
    def images(self) -> int:
        """How many were scored."""
        return len(self.each)

    @cached_property
    def model(self) -> F1Counts:
        """The model's counts over all images."""
        return sum(self.each.values(), F1Counts.zero())

    def spread(self, number: int, validation_threshold: float) -> dict[int, float]:
        """Of the images with ground truth the best one, the worst and those evenly between, `number` in all, the best
        first: their F1 in 0..1 at the threshold.
        """
        chosen = nearest(validation_threshold)
        f1 = {image: float(counts.f1[chosen]) for image, counts in self.each.items() if counts.actual}
        ranked = sorted(f1, key=lambda image: (-f1[image], image))
        places = np.linspace(0, len(ranked) - 1, min(number, len(ranked))).round().astype(int)
        return {ranked[place]: f1[ranked[place]] for place in places}

    def summary(self, validation_threshold: float) -> dict[str, float | int | None]:
        """The numbers of the report, F1 in 0..1; F1 is None where the set has no ground truth."""
        return {"images": self.images, **f1_summary(self.model, validation_threshold)}

    def curve(self) -> pd.DataFrame:
        """One row for each of the 100 thresholds."""
        counts = self.model
        return pd.DataFrame(
            {"threshold": THRESHOLDS, "precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
        )


def f1_summary(counts: F1Counts, validation_threshold: float) -> dict[str, float | None]:
    """The best F1 with its threshold, precision and recall, and the F1 at the threshold of the validation; all in 0..1,
    and None for `max_f1` where there is no ground truth.
    """
    best = counts.best
    if best is None:
        return {"max_f1": None}
    chosen = nearest(validation_threshold)
    return {
        "max_f1": float(counts.f1[best]),
        "precision": float(counts.precision[best]),
        "recall": float(counts.recall[best]),
        "threshold": float(THRESHOLDS[best]),
        "f1_at_validation_threshold": float(counts.f1[chosen]),
        "validation_threshold": float(THRESHOLDS[chosen]),
    }


def figures(summary: dict[str, float | None], detections: dict[str, Any], task: Task) -> dict[str, float | None]:
    """The few numbers that Git keeps, of the summary of an evaluation and of that of its detections."""
    kind, released = KINDS[task], detections["sap"]["released"]
    return {
        "max_f1": summary["max_f1"],
        "f1": summary.get("f1_at_validation_threshold"),
        f"{kind}_sap10": released and released["10"],
        f"{kind}_max_f1": detections["max_f1"],
        f"{kind}_f1": detections["f1"],
    }


def nearest(threshold: float) -> int:
    """The place in THRESHOLDS of the one that is closest."""
    return int(np.abs(THRESHOLDS - threshold).argmin())


def evaluate(model: Model, splits: Sequence[PackedSplit], batch: int, shard: Shard = ALL) -> Evaluation:
    """Score the model on the samples of these splits, or a shard of them."""
    each, detections = {}, {}
    first = 0  # number of a split's first image
    for split in splits:
        for number, heat_map in ahead(heat_maps(model, split, batch, split.dataset, shard), batch):
            each[first + number] = count(heat_map, split.mask(number))
            detections[first + number] = _detection_scores(heat_map, split, number)
        first += len(split)
    return Evaluation(each, DetectionScores(detections))


def _detection_scores(heat_map: np.ndarray, split: PackedSplit, number: int) -> ImageScores:
    """The scores of what is found in the heat map of an image, with folds where it is for them."""
    marks = split.annotation(number)
    if split.task == "reflection":
        return found_scores(find_axes(heat_map), marks, split.task, *heat_map.shape)
    image = split.native_image(number)
    scores = found_scores(with_folds(image, find_centres(heat_map)), marks, split.task, *heat_map.shape)
    known = [centre for centre in marks.centres if centre.fold in FOLDS]
    seen = with_folds(image, [DetectedCentre(centre.x, centre.y, 1.0) for centre in known])
    told = [(centre.fold, one.fold) for centre, one in zip(known, seen, strict=True)]
    return replace(scores, told_at_marks=told)


def gallery(model: Model, splits: Sequence[PackedSplit], batch: int, shown: dict[int, float]) -> dict[str, np.ndarray]:
    """{name: overlay} of the images with these numbers, in this order, under their names and these F1, in 0..1."""
    drawn, first = {}, 0
    for split in splits:
        numbers = [image - first for image in shown if 0 <= image - first < len(split)]
        few = split.excerpt(numbers)
        for number, heat_map in heat_maps(model, few, batch, f"overlays {split.dataset}"):
            image, name = first + numbers[number], few.name(number)
            caption = f"{name}: F1 {100 * shown[image]:.1f}"
            drawn[image] = name, overlay(few.native_image(number), heat_map, few.annotation(number), few.task, caption)
        first += len(split)
    return dict(drawn[image] for image in shown)
