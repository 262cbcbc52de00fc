"""A model on one test set: F1, that of heat maps which look at no image, the scores of the axes or centres that are
found in the heat maps, the precision-recall curve, and overlays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import zoom

from pipeline.data.packed.split import PackedSplit
from pipeline.figures.pictures import overlay
from pipeline.model.base import Model
from pipeline.params.choices import Task
from pipeline.processes import ALL, Shard
from pipeline.scoring.detections import DetectionScores, heat_map_scores
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count
from pipeline.scoring.heat_maps import heat_maps
from pipeline.scoring.sets import KINDS

CELL = 16  # pixels a side of the random map's cells


@dataclass(frozen=True)
class Evaluation:
    """Counts over one test set: the model's by the number of the image, and those of the two baselines together.

    `detections`: the scores of the axes or centres that are found in the model's heat maps.
    """

    each: dict[int, F1Counts]
    random: F1Counts
    centre: F1Counts
    detections: DetectionScores

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """The evaluation of both shards together."""
        return Evaluation(
            self.each | other.each,
            self.random + other.random,
            self.centre + other.centre,
            self.detections + other.detections,
        )

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
        found = f1_summary(self.model, validation_threshold)
        if found["max_f1"] is None:
            return {"images": self.images, "max_f1": None}
        baselines = {"random_map_f1": float(self.random.f1.max()), "centre_map_f1": float(self.centre.f1.max())}
        return {"images": self.images, **found, **baselines}

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


def evaluate(model: Model, splits: Sequence[PackedSplit], batch: int, seed: int, shard: Shard = ALL) -> Evaluation:
    """Score the model on the samples of these splits, or a shard of them; `seed`: of the random baseline."""
    each, random, centre, detections = {}, F1Counts.zero(), F1Counts.zero(), {}
    first = 0  # number of a split's first image
    for split in splits:
        for number, heat_map in heat_maps(model, split, batch, split.dataset, shard):
            truth, position = split.mask(number), first + number
            height, width = truth.shape
            noise = random_map(height, width, np.random.default_rng((seed, position)))  # whoever draws it
            each[position] = count(heat_map, truth)
            detections[position] = heat_map_scores(heat_map, split.annotation(number), split.task)
            random += count(noise, truth)
            centre += count(centre_map(height, width, split.task), truth)
        first += len(split)
    return Evaluation(each, random, centre, DetectionScores(detections))


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


def random_map(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """float32 [height, width] in 0..1: noise in cells of 16 pixels, interpolated, so that single lines do stand out."""
    rows, columns = -(-height // CELL) + 1, -(-width // CELL) + 1
    noise = zoom(generator.random((rows, columns), np.float32), CELL, order=1)
    return np.clip(noise[:height, :width], 0, 1)


def centre_map(height: int, width: int, task: str) -> np.ndarray:
    """float32 [height, width] in 0..1: falls off with the distance from the vertical centre line, or, for rotation,
    from the centre; the best threshold decides how wide it is."""
    x = np.abs(np.arange(width) - (width - 1) / 2)
    y = np.abs(np.arange(height) - (height - 1) / 2)
    distance = np.hypot(x, 0 * y[:, None]) if task == "reflection" else np.hypot(x, y[:, None])
    return (1 - distance / (distance.max() + 1)).astype(np.float32)
