"""A researcher's own images: LabelMe's shapes become marks, and a folder of them becomes splits."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.datasets import own
from pipeline.datasets.labelme import read_annotation
from pipeline.errors import DataError


def shape(kind, *points, label="x"):
    return {"label": label, "shape_type": kind, "points": [list(point) for point in points], "flags": {}}


def labelled(path, *shapes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "5.5.0", "shapes": list(shapes), "imagePath": "x.jpg", "imageData": None}))
    return path


def test_lines(tmp_path):
    path = labelled(
        tmp_path / "a.json",
        shape("line", (1, 2), (3.5, 4)),
        shape("linestrip", (1, 1), (5, 5), (9, 1)),
        {"label": "old", "points": [[0, 0], [7, 7]]},  # before LabelMe wrote what kind a shape is
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
        shape("mask", (1, 2), (3, 4)),
        shape("polygon", (1, 2), (3, 4), (5, 6)),
        shape("line", (1, float("nan")), (3, 4)),
        shape("line", (1, 1e30), (3, 4)),
        shape("line", (1, 2, 3), (3, 4)),
        {"label": "x"},
        "line",
        None,
    ],
)
def test_a_malformed_shape_is_named(tmp_path, broken):
    path = labelled(tmp_path / "a.json", shape("line", (1, 2), (3, 4)), broken)
    with pytest.raises(DataError, match="a.json: shape 1: "):
        read_annotation(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"shapes": 3}', "[" * 100_000, '{"shapes": [' + "9" * 9999 + "]}"]
)
def test_what_is_not_labelme_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match="a.json: "):
        read_annotation(tmp_path / "a.json")


def photographs(folder, count, suffix=".png"):
    for number in range(count):
        labelled(folder / f"{number}.json", shape("line", (1, 2), (3, number)))
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"{number}{suffix}")
    return folder


def brought(folder, root, seed=0, needed=True):
    root.mkdir(parents=True)
    own.bring(folder, root, seed, needed)
    found = {split: own.samples(root, split, findings := []) for split in own.SPLITS}
    assert not findings
    return {split: [int(sample.name) for sample in samples] for split, samples in found.items()}


def test_one_folder_is_split_by_the_seed(tmp_path):
    folder = photographs(tmp_path / "mine", 40)
    first = brought(folder, tmp_path / "a")
    assert {split: len(names) for split, names in first.items()} == {"train": 28, "val": 6, "test": 6}
    assert sorted(sum(first.values(), [])) == list(range(40))
    assert brought(folder, tmp_path / "b") == first != brought(folder, tmp_path / "c", seed=1)
    assert (tmp_path / "a" / "test" / f"{first['test'][0]}.png").is_file()


def test_folders_named_after_the_splits_are_kept(tmp_path):
    for split, count in {"train": 3, "val": 2}.items():
        photographs(tmp_path / "mine" / split, count, ".jpg")
    assert brought(tmp_path / "mine", tmp_path / "raw") == {"train": [0, 1, 2], "val": [0, 1], "test": []}


def test_only_images_and_their_annotations_are_copied(tmp_path):
    folder = photographs(tmp_path / "mine", 3)
    (folder / "0.txt").write_text("notes")
    (folder / "1.sh").write_text("rm -rf")
    Image.new("RGB", (9, 9)).save(folder / "unmarked.png")
    brought(folder, tmp_path / "raw")
    copied = {path.name for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    assert copied == {f"{n}.{kind}" for n in range(3) for kind in ("json", "png")}


def test_no_own_data(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("put images here")
    assert brought(tmp_path / "mine", tmp_path / "raw", needed=False) == {"train": [], "val": [], "test": []}
    with pytest.raises(DataError, match="own.folder.*train.datasets"):
        own.bring(tmp_path / "mine", tmp_path / "raw", 0, needed=True)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_to_split(tmp_path, count):
    with pytest.raises(DataError, match="three annotated images"):
        own.bring(photographs(tmp_path / "mine", count), tmp_path, 0, needed=False)
