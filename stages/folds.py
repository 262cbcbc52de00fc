"""Stage `folds` of weights/dvc.yaml: the network that tells the fold of a rotation centre, as the package's weights.

Its examples are the surroundings of the centres of composites, and discs with pictures inside, whose fold is 0.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from sklearn.neural_network import MLPClassifier

from pipeline.annotations import Sample
from pipeline.data.formats.labelme import own
from pipeline.data.reading.images import read_photograph
from pipeline.data.synthesis.discs import discs, framed, seen
from pipeline.detection.folds import FOLDS, WEIGHTS, probabilities, ring_powers
from pipeline.errors import DataError
from pipeline.runtime.files import atomic_file
from pipeline.runtime.process import on_all_cores
from stages.command import run_stage

logger = logging.getLogger(__name__)

COMPOSITES = Path("data/synthetic/folds/images")
HIDDEN, DECAY, EPOCHS = 64, 1.0, 60
VIEWS = 2  # of each centre, beside the composite as it is
FRAMED, DISCS = 0.5, 1.0  # for a centre, for an image: the share that lends one to a disc
OFF = 0.01  # of the longer side: how far from their centres places are validated

Example = tuple[np.ndarray, int]  # ring powers, and the fold


def main() -> None:
    """Write pipeline/weights/folds.npz, and say how well it does on composites of other photographs."""
    powers, folds = _examples(_for_training, "train")
    if lacking := set(FOLDS) - set(folds.tolist()):
        raise DataError(f"{COMPOSITES / 'train'}: expected centres of all folds, found none of {sorted(lacking)}")
    mean, deviation = powers.mean(0), powers.std(0) + 1e-6
    network = MLPClassifier((HIDDEN,), alpha=DECAY, max_iter=EPOCHS, random_state=0)
    network.fit((powers - mean) / deviation, folds)
    hidden, out = network.coefs_
    layers = {"mean": mean, "deviation": deviation, "hidden_weight": hidden, "hidden_bias": network.intercepts_[0]}
    layers |= {"out_weight": out, "out_bias": network.intercepts_[1]}
    with atomic_file(WEIGHTS) as part:
        np.savez(part, **{name: layer.astype(np.float32) for name, layer in layers.items()})
    for how in (_as_they_are, _off, _discs):
        powers, folds = _examples(how, "val")
        told = np.array(FOLDS)[probabilities(powers).argmax(-1)]
        table = pd.crosstab(pd.Series(folds, name="fold"), pd.Series(told, name="told"))
        logger.info("%s: %.3f are right\n%s", how.__name__.strip("_"), (told == folds).mean(), table)


def _examples(
    how: Callable[[Generator, Sample, list[Path]], list[Example]], split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Ring powers, float [n, features], and folds, int [n], of what is made of each composite of a split."""
    samples = own.samples(COMPOSITES, [], split, "rotation", ())
    made = on_all_cores(partial(_of_one, how, [sample.image for sample in samples]), list(enumerate(samples)))
    powers, folds = zip(*(example for examples in made for example in examples))
    return np.array(powers), np.array(folds)


def _of_one(how: Callable, paths: list[Path], numbered: tuple[int, Sample]) -> list[Example]:
    number, sample = numbered
    return how(np.random.default_rng((0, number)), sample, paths)


def _for_training(rng: Generator, sample: Sample, others: list[Path]) -> list[Example]:
    image, examples = _read(sample.image), _as_they_are(rng, sample, others)
    for centre in sample.annotation.centres:
        place = centre.x, centre.y
        examples += [(ring_powers(*seen(rng, image, *place)), centre.fold) for _ in range(VIEWS)]
        if centre.fold and rng.random() < FRAMED:
            view = framed(rng, image, *place, _another(rng, others))
            examples.append((ring_powers(*seen(rng, *view)), centre.fold))
    return examples + (_discs(rng, sample, others) if rng.random() < DISCS else [])


def _as_they_are(rng: Generator, sample: Sample, others: list[Path]) -> list[Example]:
    image = _read(sample.image)
    return [(ring_powers(image, centre.x, centre.y), centre.fold) for centre in sample.annotation.centres]


def _off(rng: Generator, sample: Sample, others: list[Path]) -> list[Example]:
    image, examples = _read(sample.image), []
    for centre in sample.annotation.centres:
        angle, away = rng.uniform(0, 2 * np.pi), OFF * max(image.shape)
        x, y = centre.x + away * np.cos(angle), centre.y + away * np.sin(angle)
        examples.append((ring_powers(image, x, y), centre.fold))
    return examples


def _discs(rng: Generator, sample: Sample, others: list[Path]) -> list[Example]:
    image, ((x, y, _), *_) = discs(rng, _another(rng, others), [_another(rng, others) for _ in range(4)])
    return [(ring_powers(*seen(rng, image, x, y)), 0)]


def _another(rng: Generator, paths: list[Path]) -> np.ndarray:
    return _read(paths[rng.integers(len(paths))])


def _read(path: Path) -> np.ndarray:
    return read_photograph(path).turned()


if __name__ == "__main__":
    run_stage(main)
