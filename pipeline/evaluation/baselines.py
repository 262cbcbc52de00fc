"""What no training made, on one test set: the classical detector, and two maps that look at no image.

Coordinates: x right, y down, pixels of the image, pixel centres at integers.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.ndimage import zoom

from pipeline.data.packed.split import PackedSplit
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.evaluation.classical import classical_axes, classical_centres
from pipeline.params.choices import Task
from pipeline.runtime.process import on_all_cores
from pipeline.scoring.average_precision import line
from pipeline.scoring.detections import DetectionScores, ImageScores, found_scores
from pipeline.scoring.f1 import F1Counts, count
from pipeline.scoring.matching import Found
from pipeline.scoring.sets import CENTRE, CLASSICAL, KINDS, RANDOM

CELL = 16  # pixels a side of the random map's cells


def baselines(splits: Sequence[PackedSplit], task: Task, seed: int) -> dict[str, dict]:
    """Of each by its name: `max_f1`, the best F1 in 0..1, None where nothing is marked, and, but for the random map,
    the summary of the axes or centres; `seed`: of the random map."""
    images = [(split, number) for split in splits for number in range(len(split))]
    each = list(on_all_cores(partial(_scores, seed), list(enumerate(images))))
    summaries: dict[str, dict] = {}
    for name in (CLASSICAL, CENTRE, RANDOM):
        counts = sum((counts[name] for counts, _ in each), F1Counts.zero())
        summaries[name] = {"max_f1": None if counts.best is None else float(counts.f1[counts.best])}
    for name in (CLASSICAL, CENTRE):
        found = DetectionScores({number: scores[name] for number, (_, scores) in enumerate(each)})
        summaries[name][KINDS[task]] = found.summary(None)
    return summaries


def _scores(
    seed: int, numbered: tuple[int, tuple[PackedSplit, int]]
) -> tuple[dict[str, F1Counts], dict[str, ImageScores]]:
    """The pixels and the axes or centres of one image; its number in the test set, its split and its number there."""
    position, (split, number) = numbered
    image, truth, annotation, task = (
        split.native_image(number),
        split.mask(number),
        split.annotation(number),
        split.task,
    )
    size = height, width = truth.shape
    found: Found = classical_axes(image) if task == "reflection" else classical_centres(image)
    maps = {
        CLASSICAL: drawn(found, height, width),
        CENTRE: centre_map(height, width, task),
        RANDOM: random_map(height, width, np.random.default_rng((seed, position))),  # whoever draws it
    }
    marks = {CLASSICAL: found, CENTRE: centre_mark(height, width, task)}
    return (
        {name: count(heat_map, truth) for name, heat_map in maps.items()},
        {name: found_scores(some, annotation, task, *size) for name, some in marks.items()},
    )


def drawn(found: Found, height: int, width: int) -> np.ndarray:
    """float32 [height, width] in 0..1: the score of each axis on a line one pixel wide, of each centre on its pixel."""
    heat_map = np.zeros((height, width), np.float32)
    for mark in found:
        ends = (mark.x1, mark.y1, mark.x2, mark.y2) if isinstance(mark, DetectedAxis) else (mark.x, mark.y) * 2
        x1, y1, x2, y2 = (round(place) for place in ends)
        rows, columns = line(y1, x1, y2, x2)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        pixels = rows[inside], columns[inside]
        heat_map[pixels] = np.maximum(heat_map[pixels], mark.score)
    return heat_map


def centre_mark(height: int, width: int, task: Task) -> Found:
    """The vertical centre line of an image, or, for rotation, its centre, and no more."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return [DetectedAxis(x, 0, x, height - 1, 1)] if task == "reflection" else [DetectedCentre(x, y, 1)]


def centre_map(height: int, width: int, task: Task) -> np.ndarray:
    """float32 [height, width] in 0..1: falls off with the distance from the vertical centre line, or, for rotation,
    from the centre; the best threshold decides how wide it is."""
    x = np.abs(np.arange(width) - (width - 1) / 2)
    y = np.abs(np.arange(height) - (height - 1) / 2)
    distance = np.hypot(x, 0 * y[:, None]) if task == "reflection" else np.hypot(x, y[:, None])
    return (1 - distance / (distance.max() + 1)).astype(np.float32)


def random_map(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """float32 [height, width] in 0..1: noise in cells of 16 pixels, interpolated, so that single lines do stand out."""
    rows, columns = -(-height // CELL) + 1, -(-width // CELL) + 1
    noise = zoom(generator.random((rows, columns), np.float32), CELL, order=1)
    return np.clip(noise[:height, :width], 0, 1)
