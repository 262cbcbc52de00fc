"""DENDI: split files in torch's format, one JSON of figures an image."""

import json
from pathlib import Path

import torch

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.errors import DataError


def samples(root: Path, task: str, split: str) -> list[Sample]:
    """The images of `split` (train, val, test) of DENDI's split for `task` (reflection, rotation).

    `root` holds `reflection_split.pt` and `rotation_split.pt`. Raises DataError, which names the file.
    """
    path = root / f"{task}_split.pt"
    if not path.is_file():
        raise DataError(f"{path}: not found; the root of DENDI holds reflection_split.pt and rotation_split.pt")
    try:
        names = torch.load(path, weights_only=True)
        images, annotations = names[f"{split}_img"], names[f"{split}_ann"]
    except Exception as error:  # of many kinds for a damaged pickle
        raise DataError(f"{path}: expected lists {split}_img and {split}_ann in torch's format: {error!r}") from None
    if len(images) != len(annotations):
        raise DataError(f"{path}: {len(images)} entries in {split}_img but {len(annotations)} in {split}_ann")
    return [
        Sample(name=Path(image).stem, image=root / image, annotation=read_annotation(root / annotation))
        for image, annotation in zip(images, annotations)
    ]


def read_annotation(path: Path) -> Annotation:
    """The figures of one annotation file; axes in the order of the file, two-point circles among them."""
    try:
        figures = list(json.loads(path.read_text())["figures"])
    except FileNotFoundError:
        raise DataError(f"{path}: annotation file not found") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected JSON with a list `figures`, got {error!r}") from None
    axes, discs, centres = [], [], []
    for number, figure in enumerate(figures):
        try:
            label, points = figure["label"], [(float(x), float(y)) for x, y in figure["shape"]["coordinates"]]
            if label == "reflection" or (label == "reflection-circle" and len(points) == 2):
                axes += [ReflectionAxis(*start, *end) for start, end in zip(points, points[1:])]
            elif label == "reflection-circle":
                discs.append(ReflectionDisc(tuple(points)))
            elif label in ("rotation-polygon", "rotation-circle"):
                centres.append(RotationCentre(*points[0], fold=abs(int(figure["attributes"][0]["value"]))))
            else:
                raise ValueError(f"unknown label {label!r}")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{path}: figure {number}: {error!r}") from None
    return Annotation(tuple(axes), tuple(discs), tuple(centres))
