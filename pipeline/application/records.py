"""What was found in an image as text: a table for people, a line of JSON, rows of CSV."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.detection.axes import DetectedAxis
    from pipeline.detection.centres import DetectedCentre
    from pipeline.inference.detection import Detection

FIELDS = ("image", "task", "kind", "x1", "y1", "x2", "y2", "x", "y", "fold", "score")
NOTHING = "nothing"  # the kind of the only row of an image in which a task found nothing


def table(image: Path, detections: "Sequence[Detection]") -> str:
    """For people: the image and its size, then the axes and the centres with their scores, coordinates in pixels."""
    height, width = detections[0].heatmap.shape
    lines = [f"{image}  {width} x {height}"]
    for found in detections:
        kind, coordinates = ("axis", ("x1", "y1", "x2", "y2")) if found.task == "reflection" else ("centre", ("x", "y"))
        if not found.symmetric:
            lines.append(f"  no {kind}: the best score is {found.score:.2f}, the threshold {found.threshold:.2f}")
            continue
        lines.append(f"  {kind:<6}  score" + "".join(f"{name:>9}" for name in coordinates))
        marks: list[DetectedAxis | DetectedCentre] = [*found.axes, *found.centres]
        for number, mark in enumerate(marks, start=1):
            places = "".join(f"{getattr(mark, name):9.1f}" for name in coordinates)
            lines.append(f"  {number:>6}  {mark.score:5.2f}{places}  {getattr(mark, 'turns', '')}".rstrip())
    return "\n".join(lines) + "\n"


def json_line(image: Path, detections: "Sequence[Detection]") -> str:
    """`image`, and under each task `Detection.to_dict`."""
    found = {detection.task: detection.to_dict() for detection in detections}
    return json.dumps({"image": str(image), **found}, allow_nan=False) + "\n"


def csv_rows(image: Path, detections: "Sequence[Detection]") -> str:
    """A row for each axis and centre, and one of kind `nothing` where a task found none."""
    text = ""
    for found in detections:
        rows = [{"kind": "axis", **axis._asdict()} for axis in found.axes]
        rows += [{"kind": "centre", **centre._asdict()} for centre in found.centres]
        for row in rows or [{"kind": NOTHING}]:
            text += _csv_row({"image": str(image), "task": found.task, **row})
    return text


def _csv_row(values: dict[str, Any]) -> str:
    row = io.StringIO()
    csv.DictWriter(row, FIELDS, lineterminator="\r\n").writerow(values)  # else a name's own \r is not quoted on 3.11
    return row.getvalue().removesuffix("\r\n") + "\n"


Form = Callable[[Path, "Sequence[Detection]"], str]
FORMS: dict[str, tuple[str, Form]] = {  # what stands above all records, and what writes those of an image
    "table": ("", table),
    "jsonl": ("", json_line),
    "csv": (",".join(FIELDS) + "\n", csv_rows),
}
