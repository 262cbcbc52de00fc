"""The embedded data: miniature DENDI, SDRW, LDRS and NYU in their published on-disk formats.

The images are composites of photographs that packages install with themselves. No photograph serves both training and
test. Every file follows from the seed alone, and image i does not depend on how many images are asked for.
"""

import io
import json
from collections.abc import Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image
from scipy.io import savemat
from tqdm import tqdm

from pipeline.annotations import Annotation, Point
from pipeline.data.reading.images import FORMATS
from pipeline.data.synthesis.backdrops import Backdrops
from pipeline.data.synthesis.composites import QUALITY, Recipe, compose, source
from pipeline.errors import DataError
from pipeline.runtime.files import save_image
from pipeline.runtime.process import on_all_cores

TRAINING = (
    *(f"skimage/data/{name}.png" for name in ("brick", "grass", "gravel", "camera", "cell", "ihc", "moon")),
    *(f"skimage/data/{name}.png" for name in ("motorcycle_left", "page", "text", "clock_motion")),
    "skimage/data/hubble_deep_field.jpg",
    *(f"foolbox/data/imagenet_{name}.jpg" for name in ("03_990", "04_949", "05_853", "11_630")),  # chestnut burrs,
    *(f"foolbox/data/imagenet_{name}.jpg" for name in ("14_129", "15_99", "16_251", "18_317")),  # berries, animals
)
TEST = {  # photograph -> left, top, right, bottom of a part where nothing is symmetric, as nobody would have marked it
    "sklearn/datasets/images/china.jpg": (330, 0, 640, 427),  # a lake and trees
    "imgaug/quokka.jpg": (560, 340, 960, 643),  # sand
    "foolbox/data/imagenet_00_243.jpg": (310, 0, 512, 512),  # grass and a leg
    "foolbox/data/imagenet_06_609.jpg": (0, 320, 512, 512),  # a road
    "nikola/data/samplesite/galleries/demo/tesla_lightning1_lg.jpg": (0, 0, 399, 288),  # all of it, a laboratory
    "nikola/data/samplesite/galleries/demo/tesla_lightning2_lg.jpg": (270, 60, 445, 324),  # sparks
}
# As a backdrop these would bring round things that nobody has marked; they lend content to objects.
NO_BACKDROP = {
    *(f"skimage/data/{name}.png" for name in ("cell", "clock_motion")),
    *(f"foolbox/data/imagenet_{name}.jpg" for name in ("03_990", "04_949")),
}
MISNAMED = {"single": 5, "multiple": 0}  # SDRW test images that are PNG files but are called .jpg in the ground truth
LONGEST_IMAGE = (300, 400)  # pixels; with the aspects below the shorter side is 200 at least
TWICE = "dendi"  # has twice as many images as the others, as it has the most kinds of marks

_TURNED = Recipe(mirrors=(0, 0, 1), rotations=(1, 1, 2), continuous=0.25, extent=(0.4, 0.75))
_MIRRORED = Recipe(mirrors=(1, 1, 2, 3), scenes=0.15, upright=0.4, extent=(0.4, 0.75))
_ROUND = Recipe(round=1.0)
_DIHEDRAL = Recipe(rotations=(1,), folds=(2, 3), dihedral=1.0, extent=(0.5, 0.75))
_PAIR = Recipe(mirrors=(2,), upright=0.6, extent=(0.4, 0.65))
_SEVERAL = Recipe(mirrors=(2, 3), upright=0.6, extent=(0.4, 0.65))
RECIPES = {  # image i of a part follows recipe i modulo their number
    "dendi": (_TURNED, _MIRRORED) * 8 + (_TURNED, _ROUND, _ROUND, Recipe()),
    # F1 sums over pixels: the many marks of a heap of round things would outweigh those of all other test images.
    "dendi/test": (_TURNED, _MIRRORED) * 9 + (_TURNED, Recipe()),
    "sdrw/single": (Recipe(mirrors=(1,), scenes=0.2, water=0.2, upright=0.8, extent=(0.55, 0.85)),),
    "sdrw/multiple": (_PAIR, _SEVERAL, _SEVERAL, _DIHEDRAL),
    "ldrs": (Recipe(mirrors=(1, 2), scenes=0.6, water=0.65, upright=0.6, extent=(0.5, 0.8)),),
    "nyu/S": (Recipe(mirrors=(1,), scenes=0.1, upright=0.6, extent=(0.4, 0.8)),),
    "nyu/M": (Recipe(mirrors=(2, 3, 4), upright=0.6, extent=(0.3, 0.6)), _DIHEDRAL),
}
ASPECTS = {  # width / height
    "dendi": (4 / 3, 3 / 2, 1, 3 / 4, 2 / 3),
    "sdrw": (4 / 3, 1, 3 / 4, 2 / 3),
    "ldrs": (4 / 3, 3 / 2, 3 / 2, 1),
    "nyu": (4 / 3, 1, 3 / 4),
}

Drawn = dict[tuple[str, str], list[tuple[Path, Annotation]]]  # (split, kind) -> image files and what is marked in them


def write(dataset: str, root: Path, images: int, seed: int) -> None:
    """Write the miniature of `dataset` (dendi, sdrw, ldrs, nyu) under `root`, for the readers beside this file.

    `images` is the number of training images, 2 at least, of DENDI twice as many; val has an eighth and test a quarter
    of that. SDRW has no val; NYU has training images alone, an eighth as many, as it is a small set. The same arguments
    give the same bytes. Raises ValueError for another data set or fewer images, DataError where an installed package
    lacks a photograph.
    """
    annotate = {"dendi": _annotate_dendi, "sdrw": _annotate_sdrw, "ldrs": _annotate_ldrs, "nyu": _annotate_nyu}
    if dataset not in annotate:
        raise ValueError(f"expected one of {', '.join(annotate)} as the data set, got {dataset!r}")
    if images < 2:
        raise ValueError(f"expected 2 training images or more, got {images}")
    parts = _parts(dataset, images)
    drawn: Drawn = {part: [] for part in parts}
    jobs = [(*part, number) for part, count in parts.items() for number in range(count)]
    for folder in {_image_path(dataset, *job).parent for job in jobs}:
        (Path(root) / folder).mkdir(parents=True, exist_ok=True)
    made = on_all_cores(partial(_write, dataset, Path(root), seed), jobs)
    for (split, kind, _), image in zip(jobs, tqdm(made, dataset, len(jobs), unit="image")):
        drawn[split, kind].append(image)
    annotate[dataset](Path(root), drawn)


def _parts(dataset: str, images: int) -> dict[tuple[str, str], int]:
    """Images per (split, kind); three quarters are of the kind with one axis, as in NYU, or half, as in SDRW."""
    images *= 2 if dataset == TWICE else 1
    train, val, test = images, max(2, images // 8), max(4, images // 4)
    if dataset == "sdrw":
        halves = {split: (count - count // 2, count // 2) for split, count in (("train", train), ("test", test))}
        return {
            (s, kind): n for s, pair in halves.items() for kind, n in zip(("single", "multiple"), pair, strict=True)
        }
    if dataset == "nyu":
        total = max(4, images // 8)
        return {("train", "S"): total - total // 4, ("train", "M"): total // 4}
    return {("train", ""): train, ("val", ""): val, ("test", ""): test}


def _image_path(dataset: str, split: str, kind: str, number: int) -> Path:
    if dataset == "dendi":
        return Path(f"images/{split}_{number:04d}.jpg")
    if dataset == "ldrs":
        return Path(f"LDRS/{split}/{number:04d}.jpg")
    if dataset == "nyu":
        return Path(f"NYU/{kind}/I{number + 1:03d}.png")
    folder = {"train": "training", "test": "testing"}[split]
    suffix = "png" if split == "test" and number == MISNAMED[kind] else "jpg"
    return Path(f"SDRW/reflection_{folder}/{kind}_{folder}/{kind}_{number + 1:03d}.{suffix}")


def _write(dataset: str, root: Path, seed: int, job: tuple[str, str, int]) -> tuple[Path, Annotation]:
    """Make one image; its file and what is marked in it."""
    path = root / _image_path(dataset, *job)
    pixels, annotation = _draw(dataset, *job, seed)
    save_image(Image.fromarray(pixels), path, quality=QUALITY)
    return path, annotation


def _draw(dataset: str, split: str, kind: str, number: int, seed: int) -> tuple[np.ndarray, Annotation]:
    rng = np.random.default_rng([seed, crc32(f"{dataset}/{split}/{kind}".encode()), number])
    photographs, backdrops = _photographs(split == "test")
    keys = f"{dataset}/{split}", f"{dataset}/{kind}", dataset
    recipes = next(RECIPES[key] for key in keys if key in RECIPES)
    longest, aspect = rng.integers(*LONGEST_IMAGE, endpoint=True), rng.choice(ASPECTS[dataset])
    size = round(longest / max(aspect, 1)), round(longest * min(aspect, 1))
    return compose(rng, photographs, Backdrops(backdrops), size, recipes[number % len(recipes)])


@cache
def _photographs(test: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pool's photographs, and those among them that serve as backdrops: uint8 [height, width, 1 or 3]."""
    pool = {name: _load(name, box) for name, box in (TEST if test else dict.fromkeys(TRAINING)).items()}
    return list(pool.values()), [photograph for name, photograph in pool.items() if name not in NO_BACKDROP]


def _load(name: str, box: tuple[int, int, int, int] | None) -> np.ndarray:
    package, _, file = name.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name}: expected the package {package}; install it with requirements*.txt")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise DataError(f"{path}: not found; expected this photograph in the installed {package}: reinstall it")
    with Image.open(path, formats=FORMATS) as image:
        return source(image.convert("L" if image.mode == "L" else "RGB").crop(box))


def _annotate_dendi(root: Path, drawn: Drawn) -> None:
    import torch  # here, since only one of the data sets needs it

    (root / "annotations").mkdir(exist_ok=True)
    lists: dict[str, list[str]] = {}
    for (split, _), images in drawn.items():
        for number, (path, annotation) in enumerate(images):
            (root / "annotations" / f"{path.stem}.json").write_text(
                json.dumps({"figures": _figures(annotation, number)})
            )
        lists[f"{split}_img"] = [f"images/{path.name}" for path, _ in images]
        lists[f"{split}_ann"] = [f"annotations/{path.stem}.json" for path, _ in images]
    total = {kind: [name for split, _ in drawn for name in lists[f"{split}_{kind}"]] for kind in ("img", "ann")}
    for task in ("reflection", "rotation"):
        torch.save({**lists, "all": total}, root / f"{task}_split.pt")


def _figures(annotation: Annotation, number: int) -> list[dict]:
    """DENDI's figures; image `number` settles which of the equivalent ways to write an axis or a disc is taken."""
    figures = []
    for order, axis in enumerate(annotation.axes, start=number):
        start, end = (axis.x1, axis.y1), (axis.x2, axis.y2)
        middle = [((axis.x1 + axis.x2) / 2, (axis.y1 + axis.y2) / 2)] if order % 5 == 2 else []  # a bend of 0 degrees
        label = "reflection-circle" if order % 7 == 3 and not middle else "reflection"
        figures.append(_figure(label, [start, *middle, end]))
    for order, disc in enumerate(annotation.discs, start=number // 2):
        figures.append(_figure("reflection-circle", disc.points[order % 2 :]))
    for centre in annotation.centres:
        label = "rotation-polygon" if centre.fold else "rotation-circle"
        points = [(centre.x, centre.y), (centre.x, 0)]  # only the first point has a meaning here
        figures.append(_figure(label, points, [{"value": str(centre.fold)}]))
    return figures


def _figure(label: str, points: Sequence[Point], attributes: Sequence[dict] = ()) -> dict:
    coordinates = [[round(x, 2), round(y, 2)] for x, y in points]
    return {"label": label, "shape": {"coordinates": coordinates}, "attributes": list(attributes)}


def _annotate_sdrw(root: Path, drawn: Drawn) -> None:
    training = root / "SDRW" / "reflection_training"
    testing = {}
    for (split, kind), images in drawn.items():
        padded = (split, kind) != ("test", "multiple")  # the one list whose names the released code does not strip
        names = [path.with_suffix(".jpg").name + " " * (padded * number % 3) for number, (path, _) in enumerate(images)]
        if split == "train":
            entries = np.empty((len(images), 1), [("name", object), ("ax", object)])
            for number, (_, annotation) in enumerate(images):
                entries[number, 0] = names[number], np.array(_rows(annotation))
            (training / f"{kind}GT_training").mkdir(exist_ok=True)
            _save_matlab(training / f"{kind}GT_training" / f"{kind}GT_training.mat", {"gt": entries})
        else:
            rows = [
                (name, row) for name, (_, annotation) in zip(names, images, strict=True) for row in _rows(annotation)
            ]
            cells = np.array([[name] for name, _ in rows], object)
            testing[f"gt{kind[0].upper()}"] = {"name": cells, "ax": np.array([row for _, row in rows])}
    _save_matlab(root / "SDRW" / "reflectionTestGt2013.mat", testing)


def _annotate_ldrs(root: Path, drawn: Drawn) -> None:
    for path, annotation in (image for images in drawn.values() for image in images):
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
        shapes: list[dict] = [
            {"label": "axis", "points": [row[:2], row[2:]], "group_id": None, "shape_type": "line", "flags": {}}
            for row in _rows(annotation)
        ]
        content: dict = {
            "version": "4.5.6", "flags": {}, "shapes": shapes, "imagePath": path.name, "imageData": None,
            "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(content, indent=2))


def _annotate_nyu(root: Path, drawn: Drawn) -> None:
    for path, annotation in (image for images in drawn.values() for image in images):
        cells = np.empty((1, len(annotation.axes)), object)
        cells[0] = [np.array([row]) for row in _rows(annotation)]
        _save_matlab(path.with_suffix(".mat"), {"segments": cells})


def _rows(annotation: Annotation) -> list[list[float]]:
    """[[x1, y1, x2, y2], ...] in pixels, to the hundredth."""
    return [[round(value, 2) for value in (axis.x1, axis.y1, axis.x2, axis.y2)] for axis in annotation.axes]


def _save_matlab(path: Path, variables: dict) -> None:
    """scipy's savemat without the time of writing, so that the same content gives the same bytes."""
    buffer = io.BytesIO()
    savemat(buffer, variables)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:])
