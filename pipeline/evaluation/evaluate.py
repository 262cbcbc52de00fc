"""A model on one test set: F1, that of heat maps which look at no image, the precision-recall curve and overlays."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import zoom

from pipeline.data.packed.split import PackedSplit
from pipeline.figures.pictures import overlay
from pipeline.model.clipsym import CLIPSym
from pipeline.processes import ALL, Shard
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count, heat_maps

CELL = 16  # pixels a side of the random map's cells


@dataclass(frozen=True)
class Evaluation:
    """Counts of a model and of the two baselines over one test set, and pictures of some of its images.

    `overlays`: number of the image -> its name, uint8 RGB [H, 2 W + gap, 3], the truth beside the heat map.
    """

    images: int
    model: F1Counts
    random: F1Counts
    centre: F1Counts
    overlays: dict[int, tuple[str, np.ndarray]]

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """The evaluation of both shards together."""
        return Evaluation(
            self.images + other.images,
            self.model + other.model,
            self.random + other.random,
            self.centre + other.centre,
            self.overlays | other.overlays,
        )

    @property
    def pictures(self) -> dict[str, np.ndarray]:
        """The overlays by name, in the order of the images."""
        return dict(self.overlays[number] for number in sorted(self.overlays))

    def summary(self, validation_threshold: float) -> dict[str, float | int | None]:
        """The numbers of the report, F1 in 0..1; F1 is None where the set has no ground truth."""
        counts, best = self.model, self.model.best
        if best is None:
            return {"images": self.images, "max_f1": None}
        chosen = int(np.abs(THRESHOLDS - validation_threshold).argmin())
        return {
            "images": self.images,
            "max_f1": float(counts.f1[best]),
            "precision": float(counts.precision[best]),
            "recall": float(counts.recall[best]),
            "threshold": float(THRESHOLDS[best]),
            "f1_at_validation_threshold": float(counts.f1[chosen]),
            "validation_threshold": float(THRESHOLDS[chosen]),
            "random_map_f1": float(self.random.f1.max()),
            "centre_map_f1": float(self.centre.f1.max()),
        }

    def curve(self) -> pd.DataFrame:
        """One row for each of the 100 thresholds."""
        counts = self.model
        return pd.DataFrame(
            {"threshold": THRESHOLDS, "precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
        )


def evaluate(
    model: CLIPSym, splits: list[PackedSplit], batch: int, gallery: int, seed: int, shard: Shard = ALL
) -> Evaluation:
    """Score the model on the samples of these splits, or a shard of them, and draw `gallery` of all, evenly spread."""
    images = sum(len(split) for split in splits)
    drawn = set(np.linspace(0, images - 1, min(gallery, images)).round().astype(int))
    counts, random, centre, overlays = F1Counts.zero(), F1Counts.zero(), F1Counts.zero(), {}
    first, done = 0, 0  # number of a split's first image
    for split in splits:
        for number, heat_map in heat_maps(model, split, batch, split.dataset, shard):
            truth, position = split.mask(number), first + number
            height, width = truth.shape
            noise = random_map(height, width, np.random.default_rng((seed, position)))  # whoever draws it
            counts += count(heat_map, truth)
            random += count(noise, truth)
            centre += count(centre_map(height, width, split.task), truth)
            if position in drawn:
                picture = overlay(split.native_image(number), heat_map, truth, split.task)
                overlays[position] = split.name(number), picture
            done += 1
        first += len(split)
    return Evaluation(done, counts, random, centre, overlays)


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
