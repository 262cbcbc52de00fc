"""Packed splits -> batches; training batches are augmented (docs/method.md, Augmentation).

Each image's augmentation is drawn from (seed, epoch, index) alone, so that it depends neither on the number of worker
processes nor on where a training was taken up again.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.data.packed.split import PackedSplit, float_image
from pipeline.data.packed.targets import scaled
from pipeline.geometry import rotate
from pipeline.params import Params
from pipeline.params.choices import Augmentation
from pipeline.processes import Shard
from pipeline.runtime.process import start_method
from pipeline.training.orientation import orientation_map

TILT = 15.0  # degrees to either side, on top of a multiple of 90
TURN_SHARE = 0.5  # of the views, for a random multiple of 90 degrees and for a tilt, each on its own, as released
ANY_SHARE = 0.5  # of the views, for any angle
JITTER = 0.2  # brightness, contrast, saturation and hue
JITTER_SHARE = 0.5
BITS = 10  # OpenCV computes places in 1024ths of a pixel
HALF = 1 << BITS - 1


@dataclass(frozen=True)
class TrainingSet(Dataset):
    """Samples of several packed splits, augmented or as they are; an item is asked for as (epoch, index)."""

    splits: Sequence[PackedSplit]
    seed: int
    augmentation: Augmentation | None = None
    oriented: bool = False  # whether the orientation's map is behind the target, for EquiSym

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """An image, float32 [3, S, S] in 0..1, and its target, float32 [1, S, S] in 0..1; oriented: [2, S, S]."""
        split, number = self.place(key[1])
        image, target = float_image(split.image(number)), split.unscaled_target(number)
        if self.augmentation is None:
            shown = torch.from_numpy(scaled(target))[None]
        else:
            image, shown = augment(image, target, self._generator(key), self.augmentation)
        if self.oriented:
            marks, letterbox = split.annotation(number), split.letterbox(number)
            places = orientation_map(marks, split.task, letterbox, self._degrees(key))
            shown = torch.cat([shown, torch.from_numpy(places)[None]])
        return image, shown

    def _generator(self, key: tuple[int, int]) -> np.random.Generator:
        return np.random.default_rng((self.seed, *key))

    def _degrees(self, key: tuple[int, int]) -> float:
        """By which `augment` turns an item, anticlockwise: it draws this first."""
        if self.augmentation is None:
            return 0.0
        quarters, tilt = drawn_turn(self._generator(key), self.augmentation)
        return 90.0 * quarters + tilt

    def name(self, index: int) -> str:
        """DATASET/NAME of a sample."""
        split, number = self.place(index)
        return f"{split.dataset}/{split.name(number)}"

    def place(self, index: int) -> tuple[PackedSplit, int]:
        """The split that an index falls into, and its number there."""
        for split in self.splits:
            if index < len(split):
                return split, index
            index -= len(split)
        raise IndexError(index)


def epoch_batches(length: int, seed: int, epoch: int, batch: int, rounds: int = 1) -> list[list[int]]:
    """0 to `length` - 1 in an order drawn from (seed, epoch, length), in batches, the last one possibly smaller.

    An epoch of several rounds goes through all as often, each time in another order.
    """
    batches = []
    for number in range(rounds * (epoch - 1) + 1, rounds * epoch + 1):
        order = np.random.default_rng((seed, number, length)).permutation(length).tolist()
        batches += [order[start : start + batch] for start in range(0, length, batch)]
    return batches


def first_batches(training: list[PackedSplit], params: Params) -> list[PackedSplit]:
    """The samples of the first `train.overfit` batches of the first epoch."""
    recipe, dataset = params.train, TrainingSet(training, params.seed)
    batches = epoch_batches(len(dataset), params.seed, 1, recipe.batch)[: recipe.overfit]
    places = sorted((training.index(split), number) for batch in batches for split, number in map(dataset.place, batch))
    chosen = {place: tuple(number for split, number in places if split == place) for place, _ in places}
    return [training[place].excerpt(numbers) for place, numbers in chosen.items()]


def training_batches(
    dataset: TrainingSet, epoch: int, batches: Sequence[Sequence[int]], shard: Shard, workers: int
) -> DataLoader:
    """The parts, images [B, 3, S, S] and targets [B, 1, S, S], of this shard of some batches of an epoch.

    An empty part is replaced by one image, which the caller does not count: all processes must take part in a step.
    """
    parts = [part or batch[:1] for batch in batches for part in shard.deal(batch)]
    keys = [[(epoch, index) for index in part] for part in parts]
    pinned = torch.cuda.is_available()
    return DataLoader(
        dataset,
        batch_sampler=keys,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_apart,
        multiprocessing_context=start_method(workers),
    )


def _apart(worker: int) -> None:
    """Leave the process group, whose signals (Ctrl-C, torchrun's SIGTERM) would end this worker before the step is."""
    os.setpgrp()


def augment(
    image: torch.Tensor, target: np.ndarray, generator: np.random.Generator, augmentation: Augmentation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn an image [3, S, S] and its unscaled target [S, S] alike, black where nothing is; jitter the colours.

    `released`: the target is turned by nearest neighbour and scaled after, so that it keeps its full height. `turned`,
    `tilted`, `any`: it is scaled before, then turned like the image, both in one resampling. Returns the image, float32
    [3, S, S], and the scaled target, float32 [1, S, S], both in 0..1.
    """
    quarters, tilt = drawn_turn(generator, augmentation)
    if augmentation == "released":
        image, target = image.rot90(quarters, (1, 2)), np.rot90(target, quarters)
        if tilt:
            image, target = rotate(image[None], tilt, beside=0.5)[0], rotate_nearest(target, tilt)
        shown = torch.from_numpy(scaled(target))[None]
    else:
        maps = torch.cat([image, torch.from_numpy(scaled(target))[None]])
        turned = rotate(maps[None], 90.0 * quarters + tilt)[0]
        image, shown = turned[:3], turned[3:]
    if generator.random() < JITTER_SHARE:
        image = _jitter(image, generator)
    return image, shown


def drawn_turn(generator: np.random.Generator, augmentation: Augmentation) -> tuple[int, float]:
    """By how many quarter turns, 0 to 3, and by how many degrees more, at most 15 to either side, or 45.

    `released`: each with probability 1/2, the quarter turns may be none all the same; `turned`: both; `tilted`: the
    degrees alone; `any`: half of the views by any angle, the others as `tilted`.
    """
    if augmentation == "any" and generator.random() < ANY_SHARE:
        return int(generator.integers(4)), generator.uniform(-45, 45)
    if augmentation == "released":
        quarters = generator.integers(4) if generator.random() < TURN_SHARE else 0
        return int(quarters), generator.uniform(-TILT, TILT) if generator.random() < TURN_SHARE else 0.0
    return int(generator.integers(4)) if augmentation == "turned" else 0, generator.uniform(-TILT, TILT)


def rotate_nearest(target: np.ndarray, degrees: float) -> np.ndarray:
    """[S, S] turned like `rotate(..., beside=0.5)` but by nearest neighbour, as OpenCV's warpAffine does.

    Of two pixels that are equally near the latter is taken.
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    side, place = len(target), np.arange(len(target))
    columns = _fractions(cos * place) + _fractions(-sin * place + side / 2 * (1 - cos + sin))[:, None]
    rows = _fractions(sin * place) + _fractions(cos * place + side / 2 * (1 - sin - cos))[:, None]
    columns, rows = (((places + HALF) >> BITS).clip(-1, side) + 1 for places in (columns, rows))
    return np.pad(target, 1).take(rows * (side + 2) + columns)


def _fractions(places: np.ndarray) -> np.ndarray:
    return np.rint(places * (1 << BITS)).astype(np.int32)


def _jitter(image: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Change brightness, contrast, saturation (factors 0.8 to 1.2) and hue (+-0.2 of a turn), in random order."""
    from torchvision.transforms.v2 import functional as colour  # here: it takes 1.5 s, which evaluation need not wait

    factors = generator.uniform(1 - JITTER, 1 + JITTER, size=3)
    steps = [
        lambda x: colour.adjust_brightness(x, factors[0]),
        lambda x: colour.adjust_contrast(x, factors[1]),
        lambda x: colour.adjust_saturation(x, factors[2]),
        lambda x: colour.adjust_hue(x, generator.uniform(-JITTER, JITTER)),
    ]
    for number in generator.permutation(len(steps)):
        image = steps[number](image)
    return image
