"""Training images from any folder of photographs: composites, with LabelMe's JSON beside each.

Photographs lend content and backdrops; what is marked comes from geometry, or was known of them before. Image i
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

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.data.reading.files import image_files, read_json
from pipeline.data.reading.images import read_photograph
from pipeline.data.synthesis.backdrops import Backdrops
from pipeline.data.synthesis.composites import QUALITY, Recipe, compose, source
from pipeline.errors import DataError
from pipeline.params.choices import Task
from pipeline.runtime.files import save_image
from pipeline.runtime.process import start_method

Named = dict[str, np.ndarray]  # photographs, uint8 [height, width, 1 or 3], by their path within the folder

FEWEST = 20  # photographs
VALIDATION = 0.05  # share of the photographs
DOUBT = 0.8  # of the score from which a found axis counts; below, there is none
ASPECTS = (1, 4 / 3, 3 / 2, 8 / 7)  # longer side / shorter side

# Backdrops are close crops, in which few whole things remain that are symmetric and not marked.
RECIPES: dict[Task, Recipe] = {
    "reflection": Recipe(
        mirrors=(0, 1, 1, 1, 1, 2, 2, 3, 4), rotations=(0, 0, 0, 0, 0, 0, 0, 1), dihedral=0.7,
        scenes=0.15, water=0.35, upright=0.75, extent=(0.15, 0.98), backdrop=(0.3, 0.75),
        profiles=0.45, silhouettes=0.35, aligned=0.6, feathered=0.25, bend=0.25, clutter=(0, 0, 1, 2, 3), styles=0.4,
    ),
    "rotation": Recipe(
        mirrors=(0, 0, 1), rotations=(0, 1, 1, 1, 1, 2, 2, 3), dihedral=0.5, continuous=0.25, round=0.3,
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
    bare: float = 0.0,
    backdrops: Backdrops | None = None,
) -> None:
    """Write `count` images, the longer side `size` pixels, and their marks into `folder`, which exists.

    `bare`: share of images that are whole photographs; `backdrops`: those photographs whose marks are known; by default
    all, without marks.
    """
    recipe = replace(RECIPES[task], bare=bare)
    backdrops = backdrops or Backdrops(photographs)
    images = _Composites(photographs, backdrops, folder, task, recipe, count, size, seed)
    start = start_method(workers)
    made = DataLoader(images, batch_size=None, num_workers=workers, multiprocessing_context=start)
    for _ in tqdm(made, desc=f"{task} {folder.name}", unit="image"):
        pass


def read_photographs(folder: Path) -> tuple[Named, Named]:
    """The photographs in a folder and below, apart for training and validation, whatever the seed.

    Raises DataError where there are fewer than 20, or one is damaged.
    """
    refused: list[str] = []
    paths = image_files(folder, refused)
    if refused and folder.is_dir():
        raise DataError("\n".join(refused))
    if len(paths) < FEWEST:
        raise DataError(f"{folder}: expected a folder of {FEWEST} photographs or more, found {len(paths)}")
    shuffled = [paths[n] for n in np.random.default_rng(0).permutation(len(paths))]
    apart = max(1, round(VALIDATION * len(paths)))

    def read(some: list[Path]) -> Named:
        shown = tqdm(some, desc="photographs", unit="image")
        return {
            str(path.relative_to(folder)): source(Image.fromarray(read_photograph(path).turned())) for path in shown
        }

    return read(shuffled[apart:]), read(shuffled[:apart])


def read_marks(path: Path, photographs: Named, least: float) -> Backdrops:
    """The photographs that a JSON file names, {name: {"axes": [[x1, y1, x2, y2], ...], "centres": [[x, y], ...]}}.

    An axis that was found, not marked, has a fifth number, its score. It counts with `least` or more; photographs with
    one that is nearly as good are left out, as it is in doubt. "shares", beside "axes" and as long, says how many of
    those who mark the photograph draw each, in 0..1; by default all. Raises DataError where the file is not of this
    form, names none of the photographs, or all are in doubt.
    """
    known = read_json(path)
    try:
        told = {name: known[name] for name in photographs if name in known}
        axes = {name: [axis for axis in one["axes"] if score(axis) > DOUBT * least] for name, one in told.items()}
        sure = [name for name, some in axes.items() if all(score(axis) >= least for axis in some)]
        marks = [marked(axes[name], told[name]["centres"]) for name in sure]
        shares = [drawn_by(told[name].get("shares"), axes[name]) for name in sure]
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise DataError(
            f'{path}: expected {{photograph: {{"axes": [[x1, y1, x2, y2], ...], "centres": [[x, y], ...]}}}}, and '
            f'"shares" in 0..1, one for each axis, or none: {error!r}'
        ) from None
    if not told:
        raise DataError(f"{path}: names none of the {len(photographs)} photographs for training")
    if not sure:
        raise DataError(f"{path}: every photograph has an axis of a score between {DOUBT * least:g} and {least:g}")
    return Backdrops([photographs[name] for name in sure], marks, shares)


def drawn_by(shares: Sequence[float] | None, axes: Sequence[Sequence[float]]) -> list[float]:
    """How many of those who mark a photograph draw each of its axes; all, where the file does not say."""
    read = [1.0] * len(axes) if shares is None else [float(share) for share in shares]
    if len(read) != len(axes) or not all(0 <= share <= 1 for share in read):
        raise ValueError(f"shares {shares} of {len(axes)} axes")
    return read


def marked(axes: Sequence[Sequence[float]], centres: Sequence[Sequence[float]]) -> Annotation:
    """The marks of an entry of such a file; the fold of centres is not known and written as 0."""
    return Annotation(
        axes=tuple(ReflectionAxis(*map(float, axis[:4])) for axis in axes),
        centres=tuple(RotationCentre(float(x), float(y), 0) for x, y in centres),
    )


def score(axis: Sequence[float]) -> float:
    """Of an axis in such a file; 1 for one that a person marked."""
    return axis[4] if len(axis) > 4 else 1.0


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
        save_image(Image.fromarray(pixels), path, quality=QUALITY)
        content = labelme.content(annotation, path.name, shape[0], shape[1])
        path.with_suffix(".json").write_text(json.dumps(content) + "\n")
        return number
