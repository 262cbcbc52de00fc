"""A researcher's own images: LabelMe's shapes become marks."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.data.download.own import SPLITS
from pipeline.data.formats.labelme import own
from pipeline.data.formats.labelme.shapes import read_drawing
from pipeline.data.packed.split import PackedSplit
from pipeline.data.reading.findings import LEFT_OUT
from pipeline.errors import DataError
from pipeline.params import load_params
from stages.preprocess import preprocess

PROJECT = Path(__file__).parents[3]
LABELS = load_params(PROJECT / "params.yaml").own.labels


def embedded(image):
    """An image as LabelMe keeps it in its own file."""
    image.save(file := io.BytesIO(), "PNG")
    return base64.b64encode(file.getvalue()).decode()


PICTURE = embedded(Image.new("RGB", (5, 4)))


def read_annotation(path):
    drawing = read_drawing(path, LABELS)
    assert not drawing.left_out
    return drawing.annotation


def shape(kind, *points, label="axis"):
    return {"label": label, "shape_type": kind, "points": [list(point) for point in points], "flags": {}}


def labelled(path, *shapes, **told):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.5.0", "shapes": list(shapes), "imagePath": "x.jpg", "imageData": None, **told}
    path.write_text(json.dumps(content))
    return path


def test_lines(tmp_path):
    path = labelled(
        tmp_path / "a.json",
        shape("line", (1, 2), (3.5, 4)),
        shape("linestrip", (1, 1), (5, 5), (9, 1)),
        {"label": "axis", "points": [[0, 0], [7, 7]]},  # before LabelMe wrote what kind a shape is
    )
    ends = [(1, 2, 3.5, 4), (1, 1, 5, 5), (5, 5, 9, 1), (0, 0, 7, 7)]
    assert read_annotation(path) == Annotation(axes=tuple(ReflectionAxis(*end) for end in ends))


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (shape("circle", (10, 20), (13, 24)), [(10, 20), (10, 15), (10, 25), (5, 20), (15, 20)]),
        (shape("rectangle", (2, 4), (10, 20)), [(6, 4), (6, 20), (2, 12), (10, 12)]),
        (shape("rectangle", (10, 20), (2, 4)), [(6, 20), (6, 4), (10, 12), (2, 12)]),
        (
            shape("oriented_rectangle", (5, 0), (10, 5), (5, 10), (0, 5)),
            [(7.5, 2.5), (2.5, 7.5), (2.5, 2.5), (7.5, 7.5)],
        ),
        (shape("polygon", (5, 0), (5, 8), (0, 4), (9, 4)), [(5, 0), (5, 8), (0, 4), (9, 4)]),
        (shape("polygon", (5, 4), (5, 0), (5, 8), (0, 4), (9, 4)), [(5, 4), (5, 0), (5, 8), (0, 4), (9, 4)]),
    ],
)
def test_ellipses(tmp_path, drawn, expected):
    (disc,) = read_annotation(labelled(tmp_path / "a.json", drawn)).discs
    assert disc == ReflectionDisc(tuple(expected))
    xs, ys = zip(*disc.polygon())
    points = np.array(drawn["points"])
    if drawn["shape_type"] == "rectangle":  # the ellipse touches its sides
        np.testing.assert_allclose([min(xs), max(xs)], sorted(points[:, 0]), atol=0.05)
        np.testing.assert_allclose([min(ys), max(ys)], sorted(points[:, 1]), atol=0.05)
    else:
        assert len(xs) == 120


@pytest.mark.parametrize(
    ("label", "fold"), [("rotation 5", 5), ("C12", 12), ("0", 0), ("centre", 1), (None, 1), (6, 6)]
)
def test_points(tmp_path, label, fold):
    found = read_annotation(labelled(tmp_path / "a.json", shape("point", (3.5, 4), label=label)))
    assert found == Annotation(centres=(RotationCentre(3.5, 4, fold),))


@pytest.mark.parametrize(
    "broken",
    [
        shape("line", (1, 2)),
        shape("point"),
        shape("line", (1, float("nan")), (3, 4)),
        shape("line", (1, 1e30), (3, 4)),
        shape("line", (1, 2, 3), (3, 4)),
        {"label": "axis"},
        "line",
        None,
    ],
)
def test_a_malformed_shape_is_named(tmp_path, broken):
    path = labelled(tmp_path / "a.json", shape("line", (1, 2), (3, 4)), broken)
    with pytest.raises(DataError, match="a.json: shape 1: "):
        read_annotation(path)


OUTLINE = [(2, 2), (8, 2), (8, 8), (2, 8)]  # one corner after the other


@pytest.mark.parametrize(
    ("strange", "told"),
    [
        (shape("rectangle", (1, 2), (3, 4), label="car"), "'car' (rectangle)"),
        (shape("rectangle", (1, 2), (3, 4), label="0"), "'0' (rectangle)"),
        (shape("rectangle", (1, 2), (3, 4), label=None), "None (rectangle)"),
        (shape("circle", (1, 2), (3, 4), label="wheel"), "'wheel' (circle)"),
        (shape("polygon", *OUTLINE, label="person"), "'person' (polygon)"),
        (shape("polygon", *OUTLINE, label="symmetry"), "'symmetry' (polygon)"),
        (shape("polygon", (5, 5), *OUTLINE, label="disc"), "'disc' (polygon)"),
        (shape("polygon", *OUTLINE, (1, 5), (2, 4), label="axis"), "'axis' (polygon)"),
        (shape("polygon", (1, 2), (3, 4), (5, 6), label="axis"), "'axis' (polygon)"),
        (shape("mask", (1, 2), (3, 4), label="axis"), "'axis' (mask)"),
        (shape("line", (1, 2), (3, 4), label="lane_marking"), "'lane_marking' (line)"),
        (shape("point", (1, 2), label="left eye 2"), "'left eye 2' (point)"),
        (shape("points", (1, 2), label="axis"), "'axis' (points)"),
        (shape("line", (1, float("nan")), (3, 4), label="car"), "'car' (line)"),
    ],
)
def test_what_is_no_symmetry_mark_by_shape_and_label_is_left_out_alone(tmp_path, strange, told):
    path = labelled(tmp_path / "a.json", strange, shape("line", (1, 2), (3, 4)))
    drawing = read_drawing(path, LABELS)
    assert drawing.annotation == Annotation(axes=(ReflectionAxis(1, 2, 3, 4),)) and drawing.left_out == (told,)


@pytest.mark.parametrize(
    ("kind", "label"),
    [("line", label) for label in ("axis", "Axis 2", "axis_1", "MIRROR line", "reflection-axis", "3", "", None)]
    + [("point", label) for label in ("rotation 5", "centre", "Center", "C4", "d8", "5-fold", 6, None)]
    + [("circle", "disc"), ("circle", "Ellipse 1")],
)
def test_labels_of_marks(tmp_path, kind, label):
    points = [(1, 2), (3, 4)][: 1 if kind == "point" else 2]
    assert read_annotation(labelled(tmp_path / "a.json", shape(kind, *points, label=label))) != Annotation()


def test_labels_are_a_parameter(tmp_path):
    path = labelled(
        tmp_path / "a.json", *(shape("line", (1, 2), (3, 4), label=n) for n in ("axis", "Spiegelachse", "轴"))
    )
    assert len(read_drawing(path, ["spiegelachse", "轴"]).annotation.axes) == 2
    assert len(read_drawing(path, []).annotation.axes) == 3


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"shapes": 3}', "[" * 100_000, '{"shapes": [' + "9" * 9999 + "]}"]
)
def test_what_is_not_labelme_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match="a.json: "):
        read_annotation(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"imageWidth": 40, "imageHeight": 30}, (40, 30)),
        ({"imageWidth": 40.0, "imageHeight": 30.0}, (40, 30)),
        *(
            ({"imageWidth": 40, "imageHeight": odd}, None)
            for odd in (None, 0, -3, "x", "", "inf", 10**400, True, 30.5, float("nan"), [30])
        ),
        ({}, None),
        ({"imageWidth": "40", "imageHeight": " 30.0"}, (40, 30)),
        ({"imageData": PICTURE}, (5, 4)),
        ({"imageWidth": 40, "imageHeight": None, "imageData": PICTURE}, (5, 4)),
        ({"imageWidth": 40, "imageHeight": 30, "imageData": PICTURE}, (40, 30)),
        ({"imageData": "no picture"}, None),
    ],
)
def test_sizes(tmp_path, told, expected):
    assert read_drawing(labelled(tmp_path / "a.json", **told), LABELS).size == expected


def test_shapes_that_are_left_out_are_listed(tmp_path):
    boxes = [shape("rectangle", (1, 2), (3, 4), label="car")] * 2 + [shape("mask", label="tree")]
    for number in range(3):
        labelled(tmp_path / "train" / f"{number}.json", *boxes, *([shape("line", (1, 2), (3, 4))] * (number == 0)))
        Image.new("RGB", (9, 9)).save(tmp_path / "train" / f"{number}.png")
    samples = own.samples(tmp_path, findings := [], "train", "reflection", LABELS)
    assert [len(s.annotation.axes) for s in samples] == [1, 0, 0] and not any(s.annotation.discs for s in samples)
    assert [(f.kind, f.what) for f in findings] == [("repair", LEFT_OUT)] * 3
    assert "0.json: 'car' (rectangle) x 2, 'tree' (mask) x 1" in findings[0].text
    (tmp_path / "train" / "0.json").unlink()
    with pytest.raises(DataError, match=r"'car' \(rectangle\) x 4, .* own.labels: axis, "):
        own.samples(tmp_path, [], "train", "reflection", LABELS)


def test_preprocess_says_what_own_labels_left_out(tmp_path, monkeypatch, caplog):
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for split in SPLITS:
        box, axis = shape("rectangle", (1, 2), (30, 40), label="car"), shape("line", (30, 2), (30, 38))
        labelled(tmp_path / "data/raw/own" / split / "a.json", box, axis, imageWidth=60, imageHeight=40)
        Image.new("RGB", (60, 40)).save(tmp_path / "data/raw/own" / split / "a.png")
    preprocess("own", "model")
    assert "own: shapes that are no symmetry marks left out of 3 images (params.yaml: own.labels)" in caplog.text
    packed = PackedSplit(tmp_path / "data/packed/model/own/train.safetensors", "reflection")
    assert packed.annotation(0) == Annotation(axes=(ReflectionAxis(30, 2, 30, 38),))
    content = yaml.safe_load((tmp_path / "params.yaml").read_text())
    content["own"]["labels"].append("car")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    preprocess("own", "model")
    assert len(PackedSplit(packed.path, "reflection").annotation(0).discs) == 1
