"""The score from which a detected axis or centre counts: the best on validation images, for each trained model anew.

A threshold for pixels says nothing of it: the score of an axis is a mean along a segment. Detected axes and centres are
matched with annotated ones as in the SDRW competition (docs/evaluation.md).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from tqdm import tqdm

from pipeline.annotations import Annotation
from pipeline.data.packed.split import PackedSplit, evaluation_images
from pipeline.model.base import Model
from pipeline.params.choices import Task
from pipeline.runtime.ahead import ahead
from pipeline.scoring.detections import found_in
from pipeline.scoring.matching import best_threshold, ground_truth

logger = logging.getLogger(__name__)
MOST = 200  # images looked at; more would hardly move the threshold
BATCH = 8  # images seen at a time


def detection_threshold(model: Model, validation: Sequence[PackedSplit]) -> float | None:
    """The threshold of a model in evaluation mode, on validation images of one task; says what was found.

    Each data set has the same share of at most 200 images, evenly spread. None where nothing that is found is right.
    """
    task = validation[0].task
    few = [
        PackedSplit(split.path, task, split.chosen).excerpt(_evenly(len(split), MOST // len(validation)))
        for split in validation
    ]
    return best_detection_threshold(ahead(_heat_maps(model, few), BATCH), task)


def best_detection_threshold(images: Iterable[tuple[Annotation, np.ndarray]], task: Task) -> float | None:
    """The threshold at which what is found in heat maps, float [H, W], agrees best with what is marked in the images.

    None where nothing that is found is right; says which, and how well they agree.
    """
    pairs = [
        (found_in(heat_map, task), ground_truth(annotation, task), max(heat_map.shape))
        for annotation, heat_map in images
    ]
    threshold, f1 = best_threshold(pairs)
    number = sum(len(truth) for _, truth, _ in pairs)
    what = f"{number} {'axes' if task == 'reflection' else 'centres'} marked in {len(pairs)} validation images"
    if not f1:
        logger.info("of the %s none is found: no threshold for detection", what)
        return None
    logger.info("of the %s those with a score of %.3f are found with F1 %.3f", what, threshold, f1)
    return threshold


@torch.no_grad()
def _heat_maps(model: Model, splits: Sequence[PackedSplit]) -> Iterator[tuple[Annotation, np.ndarray]]:
    """What is marked in each image, and its heat map, seen as it is and mirrored, as detection does by default."""
    with tqdm(total=sum(map(len, splits)), desc="threshold", unit="image", leave=False) as bar:
        for split in splits:
            for first in range(0, len(split), BATCH):
                numbers = range(first, min(first + BATCH, len(split)))
                images = evaluation_images(split, numbers).to(model.device)
                squares = (model(images).sigmoid() + model(images.flip(3)).sigmoid().flip(3)) / 2
                for number, square in zip(numbers, squares.float().cpu(), strict=True):
                    yield split.annotation(number), split.letterbox(number).native(square[0]).numpy()
                    bar.update()


def _evenly(length: int, most: int) -> list[int]:
    return np.linspace(0, length - 1, min(length, most)).round().astype(int).tolist()
