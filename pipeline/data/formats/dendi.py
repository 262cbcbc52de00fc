"""DENDI: split files in torch's format, one JSON of figures an image."""

from collections.abc import Collection
from io import BytesIO
from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.data.reading.files import point, read_bytes, read_json
from pipeline.data.reading.findings import Finding, sound
from pipeline.data.reading.pairing import inside
from pipeline.errors import DataError
from pipeline.params.choices import Task


def samples(root: Path, findings: list[Finding], split: str, task: Task, labels: Collection[str]) -> list[Sample]:
    """The images of `split` (train, val, test) of DENDI's split for `task`.

    `root` holds `reflection_split.pt` and `rotation_split.pt`. A malformed annotation becomes a fault in `findings`.
    Raises DataError, which names the file, where the split itself cannot be read.
    """
    path = root / f"{task}_split.pt"
    if not path.is_file():
        raise DataError(f"{path}: not found; the root of DENDI holds reflection_split.pt and rotation_split.pt")
    import torch  # here, since only one of the data sets needs it

    try:
        names = torch.load(BytesIO(read_bytes(path)), weights_only=True)
        images, annotations = ([inside(root, name) for name in names[key]] for key in (f"{split}_img", f"{split}_ann"))
    except Exception as error:  # of many kinds for a damaged pickle
        raise DataError(
            f"{path}: expected lists {split}_img and {split}_ann of paths in torch's format: {error!r}"
        ) from None
    if len(images) != len(annotations):
        raise DataError(f"{path}: {len(images)} entries in {split}_img but {len(annotations)} in {split}_ann")
    return sound(
        zip(images, annotations), lambda pair: Sample(pair[0].stem, pair[0], read_annotation(pair[1])), findings
    )


def read_annotation(path: Path) -> Annotation:
    """The figures of one annotation file; axes in the order of the file, two-point circles among them."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("figures"), list):
        raise DataError(f"{path}: expected JSON with a list `figures`")
    axes, discs, centres = [], [], []
    for number, figure in enumerate(content["figures"]):
        try:
            label, points = figure["label"], [point(pair) for pair in figure["shape"]["coordinates"]]
            if label == "reflection" or (label == "reflection-circle" and len(points) == 2):
                axes += [ReflectionAxis(*start, *end) for start, end in zip(points, points[1:])]
            elif label == "reflection-circle":
                discs.append(ReflectionDisc(tuple(points)))
            elif label in ("rotation-polygon", "rotation-circle"):
                centres.append(RotationCentre(*points[0], fold=abs(int(figure["attributes"][0]["value"]))))
            else:
                raise ValueError(f"unknown label {label!r}")
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise DataError(f"{path}: figure {number}: {error!r}") from None
    return Annotation(tuple(axes), tuple(discs), tuple(centres))
