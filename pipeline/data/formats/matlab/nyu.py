"""NYU: training images with one (S) or several (M) reflection axes, one .mat of segments an image."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.data.formats.matlab.file import read_matlab, segments
from pipeline.data.reading.findings import Finding
from pipeline.data.reading.pairing import annotated_images
from pipeline.params.choices import Task


def samples(
    root: Path,
    findings: list[Finding],
    split: str = "train",
    task: Task = "reflection",
    labels: Collection[str] = (),
) -> list[Sample]:
    """All images (they serve training only); `root` holds `NYU/S` and `NYU/M`, each `I001.png`, `I001.mat` and so on.

    A malformed annotation, or one without an image, becomes a fault in `findings`.
    """
    return [
        replace(sample, name=f"{kind}-{sample.name}")
        for kind in ("S", "M")
        for sample in annotated_images(root / "NYU" / kind, "*.mat", _axes, findings)
    ]


def _axes(path: Path) -> Annotation:
    marks = read_matlab(path, ["segments"])["segments"]
    return Annotation(axes=tuple(ReflectionAxis(*mark) for mark in segments(path, marks)))
