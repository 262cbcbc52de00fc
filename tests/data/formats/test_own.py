"""A researcher's own images: LabelMe's shapes become marks, and a folder of them becomes splits."""

import base64
import io
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.data.download.own import SPLITS, bring
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


def photographs(folder, count, suffix=".png"):
    for number in range(count):
        labelled(folder / f"{number}.json", shape("line", (1, 2), (3, number)))
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"{number}{suffix}")
    return folder


def brought(folder, root, seed=0, needed=True):
    root.mkdir(parents=True)
    bring(folder, root, seed, needed)
    found = {split: own.samples(root, split, "reflection", LABELS, findings := []) for split in SPLITS}
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
        bring(tmp_path / "mine", tmp_path / "raw", 0, needed=True)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_to_split(tmp_path, count):
    with pytest.raises(DataError, match="three annotated images"):
        bring(photographs(tmp_path / "mine", count), tmp_path, 0, needed=False)


def names(root):
    """Of the images of all splits, sorted."""
    return sorted(s.image.name for split in SPLITS for s in own.samples(root, split, "reflection", LABELS, []))


def own_images(tmp_path, capsys, needed=True):
    """What is brought of `mine` and read: sorted names, and what was said."""
    (tmp_path / "raw").mkdir()
    bring(tmp_path / "mine", tmp_path / "raw", 0, needed)
    return names(tmp_path / "raw"), capsys.readouterr().out


def test_hidden_files_are_no_data_and_shift_no_split(tmp_path):
    plain = brought(photographs(tmp_path / "mine", 40), tmp_path / "a")
    for number in range(40):
        for suffix in ("json", "png"):
            (tmp_path / "mine" / f"._{number}.{suffix}").write_bytes(b"\0\5\x16\7" + bytes(60))
    for name in (".Trash", "@eaDir", "__MACOSX"):
        photographs(tmp_path / "mine" / name, 3)
    assert brought(tmp_path / "mine", tmp_path / "b") == plain


def test_folders_below_are_read(tmp_path, capsys):
    for day in ("day1", "day2/morning"):
        photographs(tmp_path / "mine" / day, 3)
    found, said = own_images(tmp_path, capsys)
    assert found == ["0.png", "0.png", "1.png", "1.png", "2.png", "2.png"] and not said
    samples = [s for split in SPLITS for s in own.samples(tmp_path / "raw", split, "reflection", LABELS, [])]
    assert {s.name for s in samples} == {f"{day}--{n}" for day in ("day1", "day2--morning") for n in range(3)}


def test_capitals_and_accents(tmp_path, capsys):
    for number in range(3):
        name = f"대칭-é{number}"
        labelled(tmp_path / "mine" / f"{unicodedata.normalize('NFC', name)}.JSON", shape("line", (1, 2), (3, 4)))
        Image.new("RGB", (9, 9)).save(tmp_path / "mine" / f"{unicodedata.normalize('NFD', name)}.JPG", "JPEG")
    labelled(tmp_path / "mine" / "P.json", shape("line", (1, 2), (3, 4)))
    Image.new("RGB", (9, 9)).save(tmp_path / "mine" / "p.png")
    found, said = own_images(tmp_path, capsys)
    assert len(found) == 4 and "p.png" in found and not said


def test_an_image_of_any_name_is_known_by_its_content(tmp_path, capsys):
    photographs(tmp_path / "mine", 3)
    for number, suffix in enumerate((".jfif", ".jpg_large", "")):
        (tmp_path / "mine" / f"{number}.png").unlink()
        Image.new("RGB", (9, 9)).save(tmp_path / "mine" / f"{number}{suffix}", "JPEG")
    (tmp_path / "mine" / "0.txt").write_text("P1: notes; BM, too")
    assert own_images(tmp_path, capsys) == (["0.jfif", "1.jpg_large", "2"], "")


def test_the_image_that_a_file_names(tmp_path, capsys):
    """Among several of one name; under another name; in another folder, as LabelMe writes it."""
    mine = tmp_path / "mine"
    photographs(mine, 4)
    for name in ("0.jpg", "other.png", "images/far.png"):
        (mine / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 5)).save(mine / name)
    for number, named in ((0, "0.png"), (1, "other.png"), (2, "..\\mine\\images\\far.png")):
        labelled(mine / f"{number}.json", shape("line", (1, 2), (3, 4)), imagePath=named)
    for number in (1, 2):
        (mine / f"{number}.png").unlink()
    found, said = own_images(tmp_path, capsys)
    assert found == ["0.png", "3.png", "far.png", "other.png"] and not said
    findings = []
    for split in SPLITS:
        own.samples(tmp_path / "raw", split, "reflection", LABELS, findings)
    (note,) = findings
    assert note.what == "two images of one name" and "0.jpg: not used" in note.text


def test_an_image_outside_the_folder_is_not_taken(tmp_path, capsys):
    photographs(tmp_path / "mine", 3)
    Image.new("RGB", (5, 5)).save(tmp_path / "secret.png")
    for named in ("../secret.png", str(tmp_path / "secret.png")):
        labelled(tmp_path / "mine" / "x.json", shape("line", (1, 2), (3, 4)), imagePath=named)
        (tmp_path / "raw").mkdir()
        bring(tmp_path / "mine", tmp_path / "raw", 0, needed=True)
        assert not list((tmp_path / "raw").rglob("secret.png"))
        findings = []
        for split in SPLITS:
            own.samples(tmp_path / "raw", split, "reflection", LABELS, findings)
        (fault,) = findings
        assert "x.json: there is no image of that name beside it, nor secret.png, which it names" in fault.text
        shutil.rmtree(tmp_path / "raw")


def test_what_is_passed_over_is_told(tmp_path, capsys):
    photographs(tmp_path / "mine" / "train", 2)
    photographs(tmp_path / "mine" / "Val", 2)
    photographs(tmp_path / "mine" / "more", 1)
    Image.new("RGB", (5, 5)).save(tmp_path / "mine" / "train" / "bare.png")
    (tmp_path / "mine" / "linked").symlink_to(tmp_path)
    found, said = own_images(tmp_path, capsys)
    assert len(found) == 4
    assert "linked: links to folders are not followed" in said and "3 files are not used, such as" in said


@pytest.mark.parametrize("name", ["0.png", "1.json"])
def test_links_to_nothing_are_named_all_at_once(tmp_path, name):
    mine = photographs(tmp_path / "mine", 4)
    for gone in (name, "3.png"):
        (mine / gone).unlink()
        (mine / gone).symlink_to("/annex/objects/gone")
    with pytest.raises(DataError) as caught:
        bring(mine, tmp_path / "raw", 0, needed=True)
    for gone in (name, "3.png"):
        assert f"{gone}: a link to /annex/objects/gone, which is not there" in str(caught.value)


def test_folders_and_pipes_called_like_files(tmp_path, capsys):
    mine = photographs(tmp_path / "mine", 3)
    (mine / "0.jpg").mkdir()
    (mine / "old.json").mkdir()
    assert own_images(tmp_path, capsys) == (["0.png", "1.png", "2.png"], "")
    os.mkfifo(mine / "1.jpg")
    with pytest.raises(DataError, match="1.jpg"):
        bring(mine, tmp_path / "raw2", 0, needed=True)


def test_shapes_that_are_left_out_are_listed(tmp_path):
    boxes = [shape("rectangle", (1, 2), (3, 4), label="car")] * 2 + [shape("mask", label="tree")]
    for number in range(3):
        labelled(tmp_path / "train" / f"{number}.json", *boxes, *([shape("line", (1, 2), (3, 4))] * (number == 0)))
        Image.new("RGB", (9, 9)).save(tmp_path / "train" / f"{number}.png")
    samples = own.samples(tmp_path, "train", "reflection", LABELS, findings := [])
    assert [len(s.annotation.axes) for s in samples] == [1, 0, 0] and not any(s.annotation.discs for s in samples)
    assert [(f.kind, f.what) for f in findings] == [("repair", LEFT_OUT)] * 3
    assert "0.json: 'car' (rectangle) x 2, 'tree' (mask) x 1" in findings[0].text
    (tmp_path / "train" / "0.json").unlink()
    with pytest.raises(DataError, match=r"'car' \(rectangle\) x 4, .* own.labels: axis, "):
        own.samples(tmp_path, "train", "reflection", LABELS, [])


def test_preprocess_says_what_own_labels_left_out(tmp_path, monkeypatch, capsys):
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for split in SPLITS:
        box, axis = shape("rectangle", (1, 2), (30, 40), label="car"), shape("line", (30, 2), (30, 38))
        labelled(tmp_path / "data/raw/own" / split / "a.json", box, axis, imageWidth=60, imageHeight=40)
        Image.new("RGB", (60, 40)).save(tmp_path / "data/raw/own" / split / "a.png")
    preprocess("own", "model")
    assert (
        "own: shapes that are no symmetry marks left out of 3 images (params.yaml: own.labels)"
        in capsys.readouterr().out
    )
    packed = PackedSplit(tmp_path / "data/packed/model/own/train.safetensors", "reflection")
    assert packed.annotation(0) == Annotation(axes=(ReflectionAxis(30, 2, 30, 38),))
    content = yaml.safe_load((tmp_path / "params.yaml").read_text())
    content["own"]["labels"].append("car")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    preprocess("own", "model")
    assert len(PackedSplit(packed.path, "reflection").annotation(0).discs) == 1
