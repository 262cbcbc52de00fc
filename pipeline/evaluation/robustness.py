"""A model on turned and mirrored test images: its F1, and how far it commutes with the transformation.

Robustness is the F1 of docs/method.md where image and ground truth are transformed alike. The letterboxed square
turns about its centre, what leaves it is lost; the native image is padded to a square for it, and compared at that
size. As padding takes part, the F1 of `identity` can differ a little from that of the evaluation: the rows are to be
compared with each other.

Consistency compares T model(x) with model(T x), and T decoder(f) with decoder(T f), f being the image tower's
features on their grid (not of EquiSym); a class token stays as it is, and products are in float32. What is fed in is
black outside the inscribed disc, which T maps onto itself, and compared within it, so that nothing but the model makes
a difference. It is measured at the output's own size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pipeline.data.packed.split import PackedSplit, evaluation_images
from pipeline.evaluation.transformations import TRANSFORMATIONS, disc, tilt, transformed, transformed_mask
from pipeline.geometry import Letterbox
from pipeline.model.base import Model
from pipeline.model.equisym.model import EquiSym
from pipeline.scoring.consistency import ConsistencySums, compare
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count

# Pixels inside the disc's edge that interpolation reaches; a cell of the features' grid is 16 pixels of the output.
MODEL_MARGIN, DECODER_MARGIN = 2, 16

Maps = list[torch.Tensor]


@dataclass(frozen=True)
class Robustness:
    """Sums over all images under one transformation."""

    f1: F1Counts
    model: ConsistencySums
    decoder: ConsistencySums

    @classmethod
    def zero(cls) -> "Robustness":
        """The sums over no image at all."""
        return cls(F1Counts.zero(), ConsistencySums.zero(), ConsistencySums.zero())

    def __add__(self, other: "Robustness") -> "Robustness":
        return Robustness(self.f1 + other.f1, self.model + other.model, self.decoder + other.decoder)

    def summary(self, threshold: float) -> dict[str, float | None]:
        """The numbers that Git keeps, all in 0..1; F1 is None where there is no ground truth."""
        best, chosen = self.f1.best, int(np.abs(THRESHOLDS - threshold).argmin())
        return {
            "max_f1": None if best is None else float(self.f1.f1[best]),
            "f1_at_threshold": None if best is None else float(self.f1.f1[chosen]),
            "model_mean_difference": self.model.mean_difference,
            "model_disagreement": self.model.disagreement,
            "decoder_mean_difference": self.decoder.mean_difference,
            "decoder_disagreement": self.decoder.disagreement,
        }


@torch.no_grad()
def robustness(
    model: Model, splits: list[PackedSplit], batch: int, threshold: float, seed: int
) -> dict[str, Robustness]:
    """The sums over all samples of these splits, by transformation.

    The model must be in evaluation mode; it is used on the device where it lies. Heat maps are thresholded for their
    consistency at `threshold`.
    """
    total: dict[str, Robustness] = dict.fromkeys(TRANSFORMATIONS, Robustness.zero())
    for split in splits:
        with tqdm(total=len(split), desc=f"{split.dataset}, robustness", unit="image", leave=False) as bar:
            for start in range(0, len(split), batch):
                numbers = range(start, min(start + batch, len(split)))
                images = evaluation_images(split, numbers).to(model.device)
                truths, degrees = [framed(split.mask(n)) for n in numbers], [tilt(seed, n) for n in numbers]
                f1 = robust_counts(model, images, truths, degrees)
                whole = consistency(lambda maps: model(*maps), [images], degrees, MODEL_MARGIN, threshold)
                decoded = {}
                if not isinstance(model, EquiSym):  # whose features have directions, which turn with them
                    decoded = consistency(*decoder_alone(model, images), degrees, DECODER_MARGIN, threshold)
                for name in TRANSFORMATIONS:
                    total[name] += Robustness(f1[name], whole[name], decoded.get(name, ConsistencySums.zero()))
                bar.update(len(numbers))
    return total


def framed(mask: np.ndarray) -> np.ndarray:
    """bool [height, width] -> bool [N, N]: a native mask in the middle of a square of the longer side, N."""
    height, width = mask.shape
    return Letterbox(height, width, max(height, width)).placed(mask)


def robust_counts(
    model: Model, images: torch.Tensor, truths: list[np.ndarray], degrees: Sequence[float]
) -> dict[str, F1Counts]:
    """By transformation, the counts of a batch, images [B, 3, S, S] and for each its truth, bool [N, N]."""
    counts: dict[str, F1Counts] = {}
    for name in TRANSFORMATIONS:
        squares = model(transformed(images, name, degrees)).sigmoid().float().cpu()[:, 0]
        counts[name] = F1Counts.zero()
        for square, truth, angle in zip(squares, truths, degrees):
            heat_map = Letterbox(len(truth), len(truth), len(square)).native(square).numpy()
            counts[name] += count(heat_map, transformed_mask(truth, name, angle))
    return counts


def consistency(
    function: Callable[[Maps], torch.Tensor], maps: Maps, degrees: Sequence[float], margin: float, threshold: float
) -> dict[str, ConsistencySums]:
    """By transformation, how far a function from maps [B, C, h, w] to logits [B, 1, H, H] commutes with it."""
    maps = [part * disc(part.shape[-1]).to(part) for part in maps]
    straight = function(maps).sigmoid().float()
    sums: dict[str, ConsistencySums] = {}
    region = disc(straight.shape[-1], margin).numpy()
    for name in TRANSFORMATIONS:
        first, second = straight, transformed(straight, name, degrees)
        if name != "identity":
            first = function([transformed(part, name, degrees) for part in maps]).sigmoid().float()
        pairs = zip(first[:, 0].cpu().numpy(), second[:, 0].cpu().numpy())
        sums[name] = sum((compare(*pair, region, threshold) for pair in pairs), ConsistencySums.zero())
    return sums


def decoder_alone(model: Model, images: torch.Tensor) -> tuple[Callable[[Maps], torch.Tensor], Maps]:
    """The decoder as a function of maps [B, C, h, w], and the features of images [B, 3, S, S] as such maps."""
    clipsym: Any = model  # or what has such a tower and a decoder
    features, (height, width) = clipsym.image_tower(images)
    cells = height * width

    def decode(maps: Maps) -> torch.Tensor:
        """[B, C, h, w] -> logits [B, 1, 16 h, 16 w]."""
        tokens = [part.flatten(2).transpose(1, 2) for part in maps]
        whole = [torch.cat([feature[:, :-cells], part], 1) for feature, part in zip(features, tokens)]
        return clipsym.decoder(whole, clipsym.text_embeddings, (height, width))

    return decode, [f[:, -cells:].transpose(1, 2).unflatten(2, (height, width)) for f in features]
