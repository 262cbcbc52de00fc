"""The heat maps of a model on packed images, and their F1 counts: each process makes those of its shard."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pipeline.data.packed.split import PackedSplit, evaluation_images
from pipeline.model.base import Model
from pipeline.processes import ALL, Shard
from pipeline.scoring.f1 import F1Counts, count


@torch.no_grad()
def heat_maps(
    model: Model, split: PackedSplit, batch: int, description: str, shard: Shard = ALL
) -> Iterator[tuple[int, np.ndarray]]:
    """Pairs of a sample's number and its heat map, float32 [height, width] in 0..1 at native size.

    The model must be in evaluation mode; it is used on the device where it lies. Processes share whole batches, so
    that every image stays in the same company, and its heat map the same to the last bit.
    """
    starts = range(0, len(split), batch)[shard.rank :: shard.world_size]
    quiet: dict[str, Any] = {"disable": True} if shard.rank else {}  # else TQDM_DISABLE decides
    total = sum(min(batch, len(split) - start) for start in starts)
    with tqdm(total=total, desc=description, unit="image", leave=False, **quiet) as bar:
        for start in starts:
            numbers = range(start, min(start + batch, len(split)))
            squares = model(evaluation_images(split, numbers).to(model.device)).sigmoid().float().cpu()
            for number, square in zip(numbers, squares[:, 0]):
                yield number, split.letterbox(number).native(square).numpy()
                bar.update()


def score(
    model: Model, splits: Sequence[PackedSplit], batch: int, description: str, shard: Shard = ALL
) -> list[F1Counts]:
    """The F1 counts of each sample of these splits, or of a shard of them."""
    return [
        count(heat_map, split.mask(number))
        for split in splits
        for number, heat_map in heat_maps(model, split, batch, description, shard)
    ]
