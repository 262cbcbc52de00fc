"""The score from which a detected axis or centre counts: the best on validation images, for each trained model anew.

A threshold for pixels says nothing of it: the score of an axis is a mean along a segment. Detected axes and centres are
matched with annotated ones as in the SDRW competition (docs/method.md, Axes).

Coordinates: x right, y down, pixels.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre
from pipeline.data.packed.split import PackedSplit, evaluation_images
from pipeline.detection.axes import DetectedAxis, DetectedCentre, find_axes, find_centres
from pipeline.model.clipsym import CLIPSym
from pipeline.params.choices import Task

logger = logging.getLogger(__name__)
MOST = 200  # images looked at; more would hardly move the threshold
ANGLE = 10.0  # degrees
DISTANCE = 0.2  # of the shorter of the two segments, from the middle of the found one to the marked one
NEAR = 0.025  # of the image's longer side, from a found centre to a marked one

Found = Sequence[DetectedAxis] | Sequence[DetectedCentre]
Pair = tuple[Found, Sequence[ReflectionAxis] | Sequence[RotationCentre], float]  # found, marked, longer side


def detection_threshold(model: CLIPSym, validation: Sequence[PackedSplit]) -> float | None:
    """The threshold of a model in evaluation mode, on validation images of one task; says what was found.

    Each data set has the same share of at most 200 images, evenly spread. None where nothing that is found is right.
    """
    task = validation[0].task
    few = [
        PackedSplit(split.path, task, split.chosen).excerpt(_evenly(len(split), MOST // len(validation)))
        for split in validation
    ]
    return best_detection_threshold(_heat_maps(model, few), task)


def best_detection_threshold(images: Iterable[tuple[Annotation, np.ndarray]], task: Task) -> float | None:
    """The threshold at which what is found in heat maps, float [H, W], agrees best with what is marked in the images.

    None where nothing that is found is right; says which, and how well they agree.
    """
    find = find_axes if task == "reflection" else find_centres
    pairs = [(find(heat_map), ground_truth(annotation, task), max(heat_map.shape)) for annotation, heat_map in images]
    threshold, f1 = best_threshold(pairs)
    number = sum(len(truth) for _, truth, _ in pairs)
    what = f"{number} {'axes' if task == 'reflection' else 'centres'} marked in {len(pairs)} validation images"
    if not f1:
        logger.info("of the %s none is found: no threshold for detection", what)
        return None
    logger.info("of the %s those with a score of %.3f are found with F1 %.3f", what, threshold, f1)
    return threshold


@torch.no_grad()
def _heat_maps(model: CLIPSym, splits: Sequence[PackedSplit]) -> Iterator[tuple[Annotation, np.ndarray]]:
    """What is marked in each image, and its heat map, seen as it is and mirrored, as detection does by default."""
    with tqdm(total=sum(map(len, splits)), desc="threshold", unit="image", leave=False) as bar:
        for split in splits:
            for number in range(len(split)):
                image = evaluation_images(split, [number]).to(model.device)
                square = (model(image).sigmoid() + model(image.flip(3)).sigmoid().flip(3)) / 2
                yield split.annotation(number), split.letterbox(number).native(square[0, 0].float().cpu()).numpy()
                bar.update()


def _evenly(length: int, most: int) -> list[int]:
    return np.linspace(0, length - 1, min(length, most)).round().astype(int).tolist()


def axis_is_right(found: DetectedAxis, marked: ReflectionAxis) -> bool:
    """Whether the angle and the place of a found axis agree with a marked one."""
    a, b, c, d = (
        np.array(p)
        for p in ((found.x1, found.y1), (found.x2, found.y2), (marked.x1, marked.y1), (marked.x2, marked.y2))
    )
    u, v = b - a, d - c
    lengths = np.hypot(*u), np.hypot(*v)
    if min(lengths) == 0:
        return False
    angle = math.degrees(math.acos(min(1.0, abs(u @ v) / (lengths[0] * lengths[1]))))
    middle = (a + b) / 2
    nearest = c + np.clip((middle - c) @ v / (v @ v), 0, 1) * v
    return bool(angle < ANGLE and math.dist(middle, nearest) < DISTANCE * min(lengths))


def best_threshold(pairs: Sequence[Pair]) -> tuple[float, float]:
    """The least score with the best F1 over all images, and that F1 in 0..1; (1, 0) where nothing is right.

    A marked one is found when any found one is right about it; several right ones of the same are not wrong.
    """
    rows = []  # score, wrong; for each marked one the best score of a right one
    hits: list[float] = []
    for found, marked, side in pairs:
        right = np.array([[_is_right(f, m, side) for m in marked] for f in found], bool)
        right = right.reshape(len(found), len(marked))  # also where nothing was found or is marked
        levels = [f.score for f in found]
        rows += [(level, not right[number].any()) for number, level in enumerate(levels)]
        scores = np.array(levels)
        hits += [float(scores[right[:, number]].max(initial=-1.0)) for number in range(len(marked))]
    best = 1.0, 0.0
    for level in sorted({score for score, _ in rows}):
        hit = sum(score >= level for score in hits)
        wrong = sum(score >= level and bad for score, bad in rows)
        f1 = 2 * hit / max(1, hit + wrong + len(hits))
        best = max(best, (level, f1), key=lambda pair: pair[1])
    return best


def ground_truth(annotation: Annotation, task: Task) -> Sequence[ReflectionAxis] | Sequence[RotationCentre]:
    """What is to be found for the task; discs, which have an axis at every angle, are left out."""
    return annotation.axes if task == "reflection" else annotation.centres


def _is_right(found: DetectedAxis | DetectedCentre, marked: Any, side: float) -> bool:
    if isinstance(found, DetectedAxis):
        return axis_is_right(found, marked)
    return math.dist((found.x, found.y), (marked.x, marked.y)) < NEAR * side
