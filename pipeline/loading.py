"""Packed splits -> batches; training batches are augmented (METHOD section 3).

Each image's augmentation is drawn from (seed, epoch, index) alone, so that it depends neither on the number of worker
processes nor on where a run was taken up again.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from pipeline.packing import PackedSplit

TILT = 15.0  # degrees to either side, on top of a multiple of 90
JITTER = 0.2  # brightness, contrast, saturation and hue
JITTER_SHARE = 0.5


@dataclass(frozen=True)
class TrainingSet(Dataset):
    """Samples of several packed splits, augmented or not; an item is asked for as (epoch, index)."""

    splits: Sequence[PackedSplit]
    seed: int
    augmented: bool = True
    quarter_turns: bool = True

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """An image, float32 [3, S, S] in 0..1, and its target, float32 [1, S, S] in 0..1."""
        epoch, index = key
        split, number = self.place(index)
        image, target = _float_image(split.image(number)), torch.from_numpy(split.target(number))[None]
        return (
            augment(image, target, np.random.default_rng((self.seed, epoch, index)), self.quarter_turns)
            if self.augmented
            else (image, target)
        )

    def place(self, index: int) -> tuple[PackedSplit, int]:
        """The split that an index falls into, and its number there."""
        for split in self.splits:
            if index < len(split):
                return split, index
            index -= len(split)
        raise IndexError(index)


@dataclass(frozen=True)
class Share:
    """What one of several processes does of each batch, in one or more parts.

    A batch is dealt out image by image, so that all images together are the same for any number of processes.
    """

    rank: int = 0
    processes: int = 1
    parts: int = 1

    def deal(self, batch: Sequence[int]) -> list[list[int]]:
        """The images of each part; none where there are fewer images than parts in all."""
        return [batch[self.rank * self.parts + part :: self.processes * self.parts] for part in range(self.parts)]


ALL = Share()


def epoch_batches(length: int, seed: int, epoch: int, batch: int) -> list[list[int]]:
    """0 to `length` - 1 in an order drawn from (seed, epoch, length), in batches, the last one possibly smaller."""
    order = np.random.default_rng((seed, epoch, length)).permutation(length).tolist()
    return [order[start : start + batch] for start in range(0, length, batch)]


def training_batches(
    dataset: TrainingSet, epoch: int, batches: Sequence[Sequence[int]], share: Share, workers: int
) -> DataLoader:
    """The parts, images [B, 3, S, S] and targets [B, 1, S, S], of this share of some batches of an epoch.

    An empty part is replaced by one image, which the caller does not count: all processes must take part in a step.
    """
    parts = [part or batch[:1] for batch in batches for part in share.deal(batch)]
    keys = [[(epoch, index) for index in part] for part in parts]
    pinned = torch.cuda.is_available()
    return DataLoader(dataset, batch_sampler=keys, num_workers=workers, pin_memory=pinned, worker_init_fn=_apart)


def _apart(worker: int) -> None:
    """Leave the process group, whose signals (Ctrl-C, torchrun's SIGTERM) would end this worker before the step is."""
    os.setpgrp()


def evaluation_images(split: PackedSplit, numbers: Sequence[int]) -> torch.Tensor:
    """float32 [B, 3, S, S] in 0..1 of the samples with these numbers."""
    return torch.stack([_float_image(split.image(number)) for number in numbers])


def augment(
    image: torch.Tensor, target: torch.Tensor, generator: np.random.Generator, quarter_turns: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn image [3, S, S] and target [1, S, S] alike by a random angle, black where nothing is; jitter the colours.

    The angle is at most 15 degrees to either side, with `quarter_turns` plus a random multiple of 90; both in one
    resampling.
    """
    angle = (90.0 * generator.integers(4) if quarter_turns else 0.0) + generator.uniform(-TILT, TILT)
    turned = rotate(torch.cat([image, target])[None], angle)[0]
    image, target = turned[:3], turned[3:]
    if generator.random() < JITTER_SHARE:
        image = _jitter(image, generator)
    return image, target


def rotate(maps: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turn maps [B, C, S, S] anticlockwise as seen on the screen, about the centre; bilinear, zero outside."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    source = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], dtype=maps.dtype, device=maps.device)
    grid = F.affine_grid(source.expand(len(maps), -1, -1), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


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


def _float_image(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
