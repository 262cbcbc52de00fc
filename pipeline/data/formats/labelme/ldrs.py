"""LDRS: reflection axes of landscapes and objects, one LabelMe JSON an image."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.data.reading.files import point, read_json
from pipeline.data.reading.findings import Finding
from pipeline.data.reading.pairing import annotated_images
from pipeline.errors import DataError
from pipeline.params.choices import Task


def samples(root: Path, findings: list[Finding], split: str, task: Task, labels: Collection[str]) -> list[Sample]:
    """The images of `split` (train, val, test); `root` holds `LDRS/SPLIT/NAME.json` and `NAME.jpg`.

    A malformed annotation, or one without an image, becomes a fault in `findings`.
    """
    drawn: dict[str, tuple[int, int] | None] = {}

    def axes(path: Path) -> Annotation:
        content = read_json(path)
        try:
            segments = [shape["points"] for shape in content["shapes"]]
            drawn[path.stem] = labelme.size(content)
            return Annotation(axes=tuple(ReflectionAxis(*point(start), *point(end)) for start, end in segments))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected LabelMe JSON, shapes of two points each, got {error!r}") from None

    samples = annotated_images(root / "LDRS" / split, "*.json", axes, findings)
    return [replace(sample, drawn=drawn[sample.name]) for sample in samples]
