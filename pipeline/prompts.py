"""Prompts: semantic-aware prompt grouping (SAPG, paper section 3.2) and the kinds it is compared with.

The prompts are drawn once, before training, and then live in the checkpoint.
"""

import csv
import string
from pathlib import Path

import numpy as np

from pipeline.errors import ParamsError
from pipeline.names import PromptKind
from pipeline.project import located


def draw(kind: PromptKind, count: int, words: int, vocabulary: list[str], seed: int) -> list[str]:
    """The prompts, a list of M strings; empty for `none`.

    `sapg`: `count` prompts of `words` entries each, drawn uniformly from `vocabulary`, without replacement within a
    prompt. `random_letters`: the same shape of meaningless words. `objects_25`: one prompt of 25 entries.
    """
    generator = np.random.default_rng(seed)
    if kind == "none":
        return []
    if kind == "reflection_axis":
        return ["reflection axis"]
    if kind == "symmetry_axes":
        return ["symmetry axes in the image"]
    if kind == "random_letters":
        return [" ".join(_letters(generator) for _ in range(words)) for _ in range(count)]
    if kind == "objects_25":
        count, words = 1, 25
    if words > len(vocabulary):
        raise ParamsError(f"a prompt of {words} different words needs as many; the vocabulary has {len(vocabulary)}")
    return [" ".join(generator.choice(vocabulary, words, replace=False)) for _ in range(count)]


def read_vocabulary(path: Path | None) -> list[str]:
    """The distinct words of a file: one entry a line, the first column of a CSV.

    Without a file the categories of COCO and ImageNet, whose names ship with torchvision. The released `objects.csv`
    comes with the published data.
    """
    if path is None:
        return _torchvision_categories()
    path = located(path)
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            words = [row[0].strip() for row in csv.reader(lines) if row]
    except FileNotFoundError:
        raise ParamsError(f"{path}: vocabulary not found (params.yaml: prompts.vocabulary)") from None
    return list(dict.fromkeys(filter(None, words)))


def _torchvision_categories() -> list[str]:
    from torchvision.models import ResNet50_Weights
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    coco = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    imagenet = ResNet50_Weights.DEFAULT.meta["categories"]
    return list(dict.fromkeys(word for word in [*coco, *imagenet] if word not in ("__background__", "N/A")))


def _letters(generator: np.random.Generator) -> str:
    return "".join(generator.choice(list(string.ascii_lowercase), generator.integers(3, 9)))
