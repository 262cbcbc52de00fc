"""Photographs that installed packages carry, with marks made by hand for this project; for evaluation only."""

import json
from collections.abc import Collection
from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.data.reading.findings import Finding
from pipeline.params.choices import Task


def samples(root: Path, findings: list[Finding], split: str, task: Task, labels: Collection[str]) -> list[Sample]:
    """The photographs with marks for `task`; `root` holds them as NAME.png beside `photos.json`."""
    marks = json.loads((root / "photos.json").read_text())
    photographs = [Sample(name, root / f"{name}.png", _annotation(entry)) for name, entry in marks.items()]
    return [photo for photo in photographs if photo.annotation.serves(task)]


def _annotation(entry: dict) -> Annotation:
    return Annotation(
        axes=tuple(ReflectionAxis(*axis) for axis in entry["axes"]),
        discs=tuple(ReflectionDisc(tuple((x, y) for x, y in disc)) for disc in entry["discs"]),
        centres=tuple(RotationCentre(*centre) for centre in entry["centres"]),
    )
