"""What was found, as text for people and for programs."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.application.records import FORMS, csv_rows, json_line, table
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.inference.detection import Detection

IMAGE = np.zeros((30, 40, 3), np.uint8)
AXES = Detection(
    "reflection", IMAGE[..., 0].astype(np.float32),
    (DetectedAxis(10.25, 0.5, 12.5, 29.0, 0.83), DetectedAxis(1, 2, 30, 4, 0.6)), (), 0.83, 0.5, IMAGE,
)  # fmt: skip
CENTRES = Detection(
    "rotation", AXES.heatmap, (), (DetectedCentre(20.5, 15.26, 0.7), DetectedCentre(8, 9, 0.6, 5)), 0.7, 0.5, IMAGE
)
NOTHING = Detection("rotation", AXES.heatmap, (), (), 0.31, 0.5, IMAGE)


def test_a_table_for_people():
    assert table(Path("a b.jpg"), [AXES, CENTRES]).splitlines() == [
        "a b.jpg  40 x 30",
        "  axis    score       x1       y1       x2       y2",
        "       1   0.83     10.2      0.5     12.5     29.0",
        "       2   0.60      1.0      2.0     30.0      4.0",
        "  centre  score        x        y",
        "       1   0.70     20.5     15.3",
        "       2   0.60      8.0      9.0  5-fold",
    ]
    assert table(Path("a.jpg"), [NOTHING]) == (
        "a.jpg  40 x 30\n  no centre: the best score is 0.31, the threshold 0.50\n"
    )


def test_what_any_turn_leaves_as_it_is_has_no_number_of_turns():
    assert table(Path("a.jpg"), [replace(CENTRES, centres=(DetectedCentre(8, 9, 0.6, 0),))]).endswith("9.0  any turn\n")


def test_lines_of_json():
    line = json_line(Path("a.jpg"), [AXES, NOTHING])
    assert line.count("\n") == 1 and line.endswith("\n")
    assert json.loads(line) == {"image": "a.jpg", "reflection": AXES.to_dict(), "rotation": NOTHING.to_dict()}


def test_rows_of_csv():
    """A name with commas, quotes and ends of lines is one field; what does not apply is empty."""
    header, _ = FORMS["csv"]
    text = header + csv_rows(Path('a,"b".jpg'), [AXES, CENTRES]) + csv_rows(Path("c\rd\r\n.jpg"), [NOTHING])
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["image"] for row in rows] == ['a,"b".jpg'] * 4 + ["c\rd\r\n.jpg"]
    given = [{key: value for key, value in row.items() if value and key != "image"} for row in rows]
    assert given[0] == {
        "task": "reflection", "kind": "axis", "x1": "10.25", "y1": "0.5", "x2": "12.5", "y2": "29.0", "score": "0.83"
    }  # fmt: skip
    assert given[3] == {"task": "rotation", "kind": "centre", "x": "8", "y": "9", "fold": "5", "score": "0.6"}
    assert given[4] == {"task": "rotation", "kind": "nothing"}
