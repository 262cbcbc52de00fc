"""Prompts: semantic-aware prompt grouping (SAPG, paper section 3.2) and the kinds it is compared with.

The prompts are drawn once, before training, and then live in the checkpoint.
"""

import csv
import random
import string
from io import StringIO
from pathlib import Path

import numpy as np

from pipeline.errors import ParamsError
from pipeline.params import PromptParams
from pipeline.params.choices import PromptKind
from pipeline.params.project import located

RELEASED_SEED = 41  # the default of the released code's --seed


def chosen(params: PromptParams, seed: int) -> list[str]:
    """The M prompts that the parameters ask for. Raises ParamsError."""
    if params.kind == "file":
        return read_prompts(params.file, "prompts.file")  # type: ignore[arg-type]  # load_params asks for one
    vocabulary = []
    if params.kind in ("sapg", "released", "objects_25"):
        vocabulary = read_vocabulary(params.vocabulary, distinct=params.kind != "released")
    return draw(params.kind, params.count, params.words, vocabulary, seed)


def draw(kind: PromptKind, count: int, words: int, vocabulary: list[str], seed: int) -> list[str]:
    """The prompts, a list of M strings; empty for `none`.

    `sapg`: `count` prompts of `words` entries each, drawn uniformly from `vocabulary`, without replacement within a
    prompt. `released`: the same by the released code's generator and default seed. `random_letters`: `words` single
    letters a prompt, those of the released code for the same seed. `objects_25`: one prompt of 25 entries.
    """
    if kind == "none":
        return []
    if kind == "reflection_axis":
        return ["reflection axis"]
    if kind == "symmetry_axes":
        return ["symmetry axes in the image"]
    if kind == "random_letters":
        letters = random.Random(seed)
        return [" ".join(letters.choices(string.ascii_lowercase, k=words)) for _ in range(count)]
    if kind == "objects_25":
        count, words = 1, 25
    if words > len(vocabulary):
        raise ParamsError(f"a prompt of {words} different words needs as many; the vocabulary has {len(vocabulary)}")
    if kind == "released":  # what DataFrame.sample does after numpy.random.seed
        released = np.random.RandomState(RELEASED_SEED)
        drawn = (released.choice(len(vocabulary), words, replace=False) for _ in range(count))
        return [" ".join(vocabulary[number] for number in numbers) for numbers in drawn]
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(vocabulary, words, replace=False)) for _ in range(count)]


def read_prompts(path: Path, key: str) -> list[str]:
    """The lines of a file that are not blank, at least one; `key` names the parameter in errors: ParamsError."""
    prompts = list(filter(None, map(str.strip, _text(path, key).splitlines())))
    if not prompts:
        raise ParamsError(f"{path}: it is empty; expected one prompt a line ({key})")
    return prompts


def read_vocabulary(path: Path | None, distinct: bool = True) -> list[str]:
    """The words of a file, each once or as often as it holds them: one entry a line, the first column of a CSV.

    Without a file the categories of COCO and ImageNet, whose names ship with torchvision. The released `objects.csv`
    comes with the published data. Raises ParamsError.
    """
    if path is None:
        return _torchvision_categories()
    rows = csv.reader(StringIO(_text(path, "prompts.vocabulary")))
    try:
        words = list(filter(None, (row[0].strip() for row in rows if row)))
    except csv.Error as error:  # a quote that nothing closes
        raise ParamsError(f"{path}: not CSV, at line {rows.line_num}: {error} (prompts.vocabulary)") from None
    if not words:
        raise ParamsError(f"{path}: it is empty; expected one entry a line (prompts.vocabulary)")
    return list(dict.fromkeys(words)) if distinct else words


def _text(path: Path, key: str) -> str:
    """The content of a text file that a parameter names."""
    path = located(path)
    try:
        return path.read_text("utf-8-sig")  # some editors begin a file with a mark
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; name a text file with one entry a line ({key})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: expected a text file in UTF-8 with one entry a line ({key}): {error}") from None


def _torchvision_categories() -> list[str]:
    from torchvision.models import ResNet50_Weights
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    coco = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    imagenet = ResNet50_Weights.DEFAULT.meta["categories"]
    return list(dict.fromkeys(word for word in [*coco, *imagenet] if word not in ("__background__", "N/A")))
