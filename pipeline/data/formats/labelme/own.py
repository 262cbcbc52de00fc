"""A researcher's own images: NAME.jpg (or another format) with LabelMe's NAME.json beside it."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from pipeline.annotations import Annotation, Sample
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.data.reading.files import annotation_files, visible
from pipeline.data.reading.findings import LEFT_OUT, Finding, sound
from pipeline.data.reading.pairing import Images
from pipeline.errors import DataError
from pipeline.params.choices import Task


def samples(root: Path, findings: list[Finding], split: str, task: Task, labels: Collection[str]) -> list[Sample]:
    """The images of `split`; none where none were found. `labels`: those of symmetry marks, all where there is none.

    Malformed annotations become faults in `findings`. Raises DataError where nothing in a split for training is a
    symmetry mark.
    """
    folder, images = root / split, Images()
    strange: Counter[str] = Counter()

    def sample(path: Path) -> Sample:
        drawing = labelme.read_drawing(path, labels)
        image = images.choose(path, drawing.image, findings)
        if drawing.left_out:
            strange.update(drawing.left_out)
            findings.append(Finding("repair", LEFT_OUT, f"{path}: {_listed(Counter(drawing.left_out))}", str(image)))
        name = "--".join(path.relative_to(folder).with_suffix("").parts)  # a gallery has no folders
        return Sample(name, image, drawing.annotation, drawing.size)

    found = sound(annotation_files(visible(folder, [])), sample, findings)
    if split == "train" and found and strange and all(sample.annotation == Annotation() for sample in found):
        raise DataError(
            f"{folder}: no shape is a symmetry mark by its kind and its label: {_listed(strange)}; "
            f"params.yaml, own.labels: {', '.join(labels)}"
        )
    return found


def _listed(shapes: Counter) -> str:
    """Shapes in words, the most frequent first."""
    return ", ".join(f"{shape} x {count}" for shape, count in shapes.most_common())
