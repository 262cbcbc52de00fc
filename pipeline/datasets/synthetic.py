"""Training images from any folder of photographs: composites, with LabelMe's JSON beside each.

Photographs lend content and backdrops; what is marked comes from geometry, or was found in them before. Image i
follows from the seed, its part and i, whatever the number of processes. No photograph serves both training and
validation.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pipeline.datasets import labelme
from pipeline.datasets.backdrops import Backdrops
from pipeline.datasets.composites import QUALITY, Recipe, compose, source
from pipeline.datasets.files import IMAGES
from pipeline.datasets.images import read_photograph
from pipeline.errors import DataError
from pipeline.names import Task

FEWEST = 20  # photographs
VALIDATION = 0.05  # share of the photographs
BARE = 0.3  # share of images that are whole photographs, where their axes are known
ASPECTS = (1, 4 / 3, 3 / 2, 8 / 7)  # longer side / shorter side

# Backdrops are close crops, in which few whole things remain that are symmetric and not marked.
RECIPES: dict[Task, Recipe] = {
    "reflection": Recipe(
        mirrors=(0, 1, 1, 1, 1, 2, 2, 3, 4), rotations=(0, 0, 0, 0, 0, 0, 0, 1), dihedral=0.7,
        scenes=0.15, water=0.35, upright=0.75, extent=(0.15, 0.98), backdrop=(0.3, 0.75),
        profiles=0.45, silhouettes=0.35, aligned=0.6, feathered=0.25, bend=0.25, clutter=(0, 0, 1, 2, 3), styles=0.25,
    ),
    "rotation": Recipe(
        mirrors=(0, 0, 1), rotations=(0, 1, 1, 1, 1, 2, 2, 3), dihedral=0.5, continuous=0.25,
        upright=0.75, extent=(0.2, 0.98), backdrop=(0.3, 0.75),
        profiles=0.5, aligned=0.6, bend=0.1, clutter=(0, 0, 1, 2), styles=0.25,
    ),
}  # fmt: skip


def generate(
    photographs: list[np.ndarray],
    folder: Path,
    task: Task,
    count: int,
    size: int,
    seed: int,
    workers: int,
    backdrops: Backdrops | None = None,
) -> None:
    """Write `count` images, the longer side `size` pixels, and their marks into `folder`, which exists.

    `backdrops`: those photographs whose axes are known; then a share of the images are whole photographs. By default
    all, without axes.
    """
    recipe = replace(RECIPES[task], bare=BARE if backdrops else 0.0)
    backdrops = backdrops or Backdrops(photographs)
    images = _Composites(photographs, backdrops, folder, task, recipe, count, size, seed)
    for _ in tqdm(DataLoader(images, batch_size=None, num_workers=workers), desc=f"{task} {folder.name}", unit="image"):
        pass


def read_photographs(folder: Path, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The photographs in a folder and below, uint8 RGB, apart for training and validation.

    Raises DataError where there are fewer than 20, or one is damaged.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if len(paths) < FEWEST:
        raise DataError(f"{folder}: expected a folder of {FEWEST} photographs or more, found {len(paths)}")
    order = np.random.default_rng(seed).permutation(len(paths))
    apart = max(1, round(VALIDATION * len(paths)))
    read = (read_photograph(paths[n]).turned() for n in tqdm(order, desc="photographs", unit="image"))
    pixels = [source(Image.fromarray(photograph)) for photograph in read]
    return pixels[apart:], pixels[:apart]


@dataclass(frozen=True)
class _Composites(Dataset):
    photographs: Sequence[np.ndarray]
    backdrops: Backdrops
    folder: Path
    task: Task
    recipe: Recipe
    count: int
    size: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        rng = np.random.default_rng((self.seed, *f"{self.task}/{self.folder.name}".encode(), number))
        shape = [self.size, round(self.size / rng.choice(ASPECTS))]
        rng.shuffle(shape)
        pixels, annotation = compose(rng, self.photographs, self.backdrops, tuple(shape), self.recipe)
        path = self.folder / f"{number:06}.jpg"
        Image.fromarray(pixels).save(path, quality=QUALITY)
        content = labelme.content(annotation, path.name, shape[0], shape[1])
        path.with_suffix(".json").write_text(json.dumps(content) + "\n")
        return number
