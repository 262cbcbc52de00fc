"""The readers on hand-written trees in the published formats, and what they say of damaged ones."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.data.download.packages import MARKS, copy_from_packages
from pipeline.data.formats import dendi, photos
from pipeline.data.formats.labelme import ldrs
from pipeline.data.formats.matlab import nyu, sdrw
from pipeline.data.preparation.catalogue import SPLITS, read
from pipeline.errors import DataError

TASKS = "reflection", "rotation"
ROW, OTHER = np.array([1, 2, 3, 4.5]), np.array([5, 6, 7, 8.0])


def touch(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def dump(path, content):
    return touch(path, json.dumps(content).encode())


def matlab(path, **variables):
    savemat(touch(path), variables)
    return path


def cells(*values, shape=None):
    """A cell array: a row, or of `shape`."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape or (1, -1))


def axes(*rows):
    return Annotation(axes=tuple(ReflectionAxis(*row) for row in rows))


def sound(reader, root, split, task="reflection"):
    """The samples; nothing may be wrong with them."""
    samples = reader.samples(root, findings := [], split, task, ())
    assert not [finding for finding in findings if finding.kind == "fault"]
    return samples


def assert_fault(path, reader, root, split, task="reflection"):
    """The text of the only fault, which names `path`; the other samples are read."""
    samples = reader.samples(root, findings := [], split, task, ())
    (fault,) = [finding for finding in findings if finding.kind == "fault"]
    assert str(path) in fault.text and not fault.image and all(isinstance(s, Sample) for s in samples)
    return fault.text


def assert_fails(path, reader, root, split, task="reflection"):
    """The message of the DataError, which names `path`: there is no going on."""
    with pytest.raises(DataError) as caught:
        reader.samples(root, [], split, task, ())
    assert str(path) in str(caught.value)
    return str(caught.value)


# DENDI


def figure(label, *points, value=None):
    attributes = [] if value is None else [{"value": value}]
    return {"label": label, "shape": {"coordinates": [list(point) for point in points]}, "attributes": attributes}


def dendi_tree(root, figures=(), task="reflection"):
    """One image for training and one for validation, of which the first has `figures`; none for testing."""
    dump(root / "ann" / "a.json", {"figures": list(figures)})
    dump(root / "ann" / "b.json", {"figures": []})
    images = {"train_img": ["img/a.jpg"], "val_img": ["img/b.png"], "test_img": []}
    marks = {"train_ann": ["ann/a.json"], "val_ann": ["ann/b.json"], "test_ann": []}
    torch.save(images | marks | {"all": {"img": [], "ann": []}}, root / f"{task}_split.pt")
    return root


def test_dendi(tmp_path):
    four, five = [(5, 0), (5, 8), (0, 4), (9, 4)], [(5, 4), (5, 0), (5, 8), (0, 4), (9, 4)]
    figures = [
        figure("reflection", (1, 2), (3.5, 4), (5, 6)),
        figure("rotation-polygon", (7.9, 8), (1, 1), (2, 2), value="-6"),
        figure("reflection-circle", (9, 8), (7, 6)),
        figure("reflection-circle", *four),
        figure("rotation-circle", (1, 2), (3, 4), value="0"),
        figure("reflection-circle", *five),
        figure("rotation-polygon", (3, 3), value=13),
        figure("reflection", (0, 0), (0, 9)),
    ]
    for task in TASKS:
        root = dendi_tree(tmp_path, figures, task)
        (sample,) = sound(dendi, root, "train", task)
        assert (sample.name, sample.image) == ("a", root / "img" / "a.jpg")
        assert sample.annotation == Annotation(
            axes((1, 2, 3.5, 4), (3.5, 4, 5, 6), (9, 8, 7, 6), (0, 0, 0, 9)).axes,
            (ReflectionDisc(tuple(four)), ReflectionDisc(tuple(five))),
            (RotationCentre(7.9, 8, 6), RotationCentre(1, 2, 0), RotationCentre(3, 3, 13)),
        )
        assert [(s.name, s.annotation) for s in sound(dendi, root, "val", task)] == [("b", Annotation())]
        assert sound(dendi, root, "test", task) == []


@pytest.mark.parametrize(
    "broken",
    [
        figure("reflection-circle", (1, 1), (2, 2), (3, 3)),
        figure("rotation-polygon", (1, 1)),
        figure("rotation-polygon", value="4"),
        figure("rotation-circle", (1, 1), value="many"),
        figure("reflection", (1, 1), (2, 2, 2)),
        figure("reflection", (1, 1), ("left", 2)),
        figure("mirror", (1, 1), (2, 2)),
        {"label": "reflection"},
        {},
        "reflection",
    ],
)
def test_dendi_names_the_figure(tmp_path, broken):
    root = dendi_tree(tmp_path, [figure("reflection", (1, 1), (2, 2)), broken])
    assert "figure 1" in assert_fault(root / "ann" / "a.json", dendi, root, "train")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"figures": 7}', b'{"figures": null}', b"\xff\xfe"])
def test_dendi_annotation_that_is_none(tmp_path, content):
    path = touch(dendi_tree(tmp_path) / "ann" / "a.json", content)
    assert "JSON" in assert_fault(path, dendi, tmp_path, "train")


def test_dendi_missing_files(tmp_path):
    assert_fails(tmp_path / "rotation_split.pt", dendi, dendi_tree(tmp_path), "train", "rotation")
    (tmp_path / "ann" / "b.json").unlink()
    assert_fault(tmp_path / "ann" / "b.json", dendi, tmp_path, "val")


@pytest.mark.parametrize("lists", [{}, {"val_img": []}, {"val_img": ["a", "b"], "val_ann": ["a"]}, [1, 2]])
def test_dendi_split_file_with_other_content(tmp_path, lists):
    torch.save(lists, tmp_path / "reflection_split.pt")
    assert "val_ann" in assert_fails(tmp_path / "reflection_split.pt", dendi, tmp_path, "val")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 cut off"])
def test_dendi_split_file_that_is_none(tmp_path, content):
    assert_fails(touch(tmp_path / "reflection_split.pt", content), dendi, tmp_path, "val")


# SDRW


def sdrw_training(root, kind, *entries, shape=None):
    """The ground truth, a struct array of (name, rows), and an image for every name."""
    folder, truth = root / "SDRW" / "reflection_training", np.empty(len(entries), [("name", object), ("ax", object)])
    truth[:] = list(entries)
    for name, _ in entries:
        touch(folder / f"{kind}_training" / name.strip())
    return matlab(folder / f"{kind}GT_training" / f"{kind}GT_training.mat", gt=truth.reshape(shape or (-1, 1)))


def sdrw_testing(root, single=(), multiple=(), files=()):
    """The ground truth, two lists of (name, row); `files` are the images."""
    truth = {
        key: {"name": cells(*(name for name, _ in rows), shape=(-1, 1)), "ax": np.array([row for _, row in rows])}
        for key, rows in (("gtS", single), ("gtM", multiple))
    }
    for file in files:
        touch(root / "SDRW" / "reflection_testing" / file)
    return matlab(root / "SDRW" / "reflectionTestGt2013.mat", **truth)


def test_sdrw_training(tmp_path):
    sdrw_training(tmp_path, "single", ("a.jpg  ", ROW), (" b.png", OTHER[None]))
    sdrw_training(tmp_path, "multiple", ("a.jpg", np.stack([ROW, OTHER])), ("c.jpg", OTHER))
    found, folder = sound(sdrw, tmp_path, "train"), tmp_path / "SDRW" / "reflection_training"
    assert [s.name for s in found] == ["single-a", "single-b", "multiple-a", "multiple-c"]
    files = ["single_training/a.jpg", "single_training/b.png", "multiple_training/a.jpg", "multiple_training/c.jpg"]
    assert [s.image for s in found] == [folder / file for file in files]
    assert [s.annotation for s in found] == [axes(ROW), axes(OTHER), axes(ROW, OTHER), axes(OTHER)]


@pytest.mark.parametrize("shape", [(1, 1), (1,)])
def test_sdrw_single_struct(tmp_path, shape):
    for kind in ("single", "multiple"):
        sdrw_training(tmp_path, kind, ("a.jpg", ROW[None]), shape=shape)
    assert [s.annotation for s in sound(sdrw, tmp_path, "train")] == [axes(ROW)] * 2


def test_sdrw_names_that_repeat_in_training_are_one_image(tmp_path):
    sdrw_training(tmp_path, "single", ("a.jpg", ROW))
    sdrw_training(tmp_path, "multiple", ("a.jpg", ROW), ("a.jpg ", OTHER))
    assert [s.annotation for s in sound(sdrw, tmp_path, "train")[1:]] == [axes(ROW, OTHER)]


def test_sdrw_testing(tmp_path):
    single = [("one.jpg", ROW), ("two.v2.jpg", OTHER), ("three.jpg ", ROW)]
    multiple = [("four.jpg", ROW), ("five.jpg", OTHER), (" four.jpg ", OTHER)]
    files = ["single_testing/" + name for name in ("one.jpg", "two.v2.png", "three.jpg", "three.png")]
    sdrw_testing(tmp_path, single, multiple, files + ["multiple_testing/four .png", "multiple_testing/five.jpg"])
    found = sound(sdrw, tmp_path, "test")
    assert [s.image.name for s in found] == ["one.jpg", "two.v2.png", "three.jpg", "four .png", "five.jpg"]
    assert len({s.name for s in found}) == 5
    assert [s.annotation for s in found] == [axes(ROW), axes(OTHER), axes(ROW), axes(ROW, OTHER), axes(OTHER)]


def test_sdrw_lists_of_one(tmp_path):
    sdrw_testing(tmp_path, [("a.jpg", ROW)], [("a.jpg", OTHER)], ["single_testing/a.jpg", "multiple_testing/a.jpg"])
    assert [s.annotation for s in sound(sdrw, tmp_path, "test")] == [axes(ROW), axes(OTHER)]


@pytest.mark.parametrize("files", [[], ["single_testing/a.png", "single_testing/a.bmp"], ["multiple_testing/a.jpg"]])
def test_sdrw_image_missing_or_ambiguous(tmp_path, files):
    path = sdrw_testing(tmp_path, [("a.jpg", ROW)], [], files)
    assert "'a.jpg'" in assert_fault(path, sdrw, tmp_path, "test")


@pytest.mark.parametrize(
    "truth",
    [
        {},
        {"gtS": np.ones(4), "gtM": np.ones(4)},
        {"gtS": {"name": "a.jpg"}, "gtM": {"name": "a.jpg"}},
        {"gtS": {"name": cells("a.jpg", "b.jpg"), "ax": np.ones((3, 4))}, "gtM": {"name": "a.jpg", "ax": np.ones(4)}},
    ],
)
def test_sdrw_damaged_ground_truth_of_the_test_images(tmp_path, truth):
    assert_fails(matlab(tmp_path / "SDRW" / "reflectionTestGt2013.mat", **truth), sdrw, tmp_path, "test")


@pytest.mark.parametrize("truth", [{}, {"gt": 3}, {"gt": {"name": "a"}}])
def test_sdrw_damaged_ground_truth_of_the_training_images(tmp_path, truth):
    path = sdrw_training(tmp_path, "single", ("a.jpg", np.ones(4)))
    assert_fails(matlab(path, **truth), sdrw, tmp_path, "train")


def test_sdrw_goes_on_without_a_malformed_entry(tmp_path):
    for kind in ("single", "multiple"):
        path = sdrw_training(tmp_path, kind, ("a.jpg", ROW), ("b.jpg", ROW[:3]), ("c.jpg", OTHER), ("b.jpg", OTHER))
    found = sdrw.samples(tmp_path, findings := [], "train", "reflection", ())
    assert [s.name for s in found] == ["single-a", "single-c", "multiple-a", "multiple-c"]  # not half of b's axes
    assert len(findings) == 2 and "b.jpg" in findings[1].text and str(path) in findings[1].text
    single = [("a.jpg", ROW), ("gone.jpg", OTHER), ("../a.jpg", OTHER)]
    sdrw_testing(tmp_path, single, [], ["single_testing/a.jpg"])
    found = sdrw.samples(tmp_path, findings := [], "test", "reflection", ())
    assert [s.name for s in found] == ["single-a"]
    assert [f.what for f in findings] == ["annotation without an image"] * 2 and "inside" in findings[1].text


def test_sdrw_tells_what_it_mended(tmp_path):
    sdrw_testing(tmp_path, [("a.jpg ", ROW), ("b.jpg", OTHER)], [], ["single_testing/a.jpg", "single_testing/b.png"])
    sdrw.samples(tmp_path, findings := [], "test", "reflection", ())
    assert [(f.kind, f.what) for f in findings] == [
        ("repair", "blanks around a name"),
        ("repair", "wrong extension in an annotation"),
    ]
    assert findings[1].image == str(tmp_path / "SDRW" / "reflection_testing" / "single_testing" / "b.png")


# LDRS


def test_ldrs(tmp_path):
    folder = tmp_path / "LDRS" / "val"
    shapes = [{"points": [[1, 2], [3.5, 4]], "label": "x"}, {"points": [[5, 6], [7, 8]]}]
    dump(folder / "b.json", {"shapes": shapes})
    dump(folder / "a.v1.json", {"shapes": []})
    touch(folder / "a.v1.jpg"), touch(folder / "b.jpg"), touch(folder / "b.png"), touch(folder / ".b.json")
    found = sound(ldrs, tmp_path, "val")
    assert [(s.name, s.image) for s in found] == [("a.v1", folder / "a.v1.jpg"), ("b", folder / "b.jpg")]
    assert [s.annotation for s in found] == [axes(), axes((1, 2, 3.5, 4), (5, 6, 7, 8))]
    assert_fails(tmp_path / "LDRS" / "test", ldrs, tmp_path, "test")


NOT_TWO_POINTS = [[[1, 2]], [[1], [2]], [1, 2], "ab", None]


@pytest.mark.parametrize("content", [{}, [], {"shapes": 7}, *({"shapes": [{"points": p}]} for p in NOT_TWO_POINTS)])
def test_ldrs_damaged(tmp_path, content):
    path = dump(tmp_path / "LDRS" / "train" / "a.json", content)
    touch(path.with_suffix(".jpg"))
    assert "LabelMe" in assert_fault(path, ldrs, tmp_path, "train")
    path.write_bytes(b'{"shapes": [')
    assert_fault(path, ldrs, tmp_path, "train")
    path.with_suffix(".jpg").unlink()
    assert "no image" in assert_fault(path, ldrs, tmp_path, "train")


# NYU


def nyu_tree(root, segments):
    """An image with one axis under S, one with `segments` under M."""
    for kind, value in (("S", np.array([[1, 2, 3, 4]])), ("M", segments)):
        touch(root / "NYU" / kind / "I001.png")
        path = matlab(root / "NYU" / kind / "I001.mat", segments=value)
    return path


@pytest.mark.parametrize(
    ("segments", "rows"),
    [
        (ROW, [ROW]),
        (ROW[:, None], [ROW]),
        (ROW.reshape(2, 2), [ROW]),
        (np.stack([ROW, OTHER]), [ROW, OTHER]),
        (np.stack([ROW, OTHER, ROW, OTHER, OTHER]), [ROW, OTHER, ROW, OTHER, OTHER]),
        (cells(ROW[None]), [ROW]),
        (cells(ROW[None], OTHER[None]), [ROW, OTHER]),
        (cells(ROW.reshape(2, 2), OTHER.reshape(2, 2), shape=(2, 1)), [ROW, OTHER]),
        (cells(ROW[:, None], OTHER.astype(np.uint8).reshape(2, 2), ROW), [ROW, OTHER, ROW]),
        (np.empty((0, 0)), []),
        (cells(), []),
    ],
)
def test_nyu(tmp_path, segments, rows):
    nyu_tree(tmp_path, segments)
    found = sound(nyu, tmp_path, "train")
    assert [(s.name, s.image) for s in found] == [(f"{k}-I001", tmp_path / "NYU" / k / "I001.png") for k in "SM"]
    assert [s.annotation for s in found] == [axes((1, 2, 3, 4)), axes(*rows)]


@pytest.mark.parametrize(
    "segments",
    [np.ones(3), np.ones((4, 3)), np.ones((4, 2)), ROW * np.nan, "four", {"x": 1}, cells("abcd", ROW)],
)
def test_nyu_segments_of_another_shape(tmp_path, segments):
    assert_fault(nyu_tree(tmp_path, segments), nyu, tmp_path, "train")


def test_nyu_damaged(tmp_path):
    path = nyu_tree(tmp_path, ROW)
    whole = path.read_bytes()
    for length in range(0, len(whole), 20):  # cut off in the header, in a tag, in the data
        path.write_bytes(whole[:length])
        assert_fault(path, nyu, tmp_path, "train")
    path.write_bytes(b"<html>sign in</html>" * 20)
    assert_fault(path, nyu, tmp_path, "train")
    assert "got ['axes']" in assert_fault(matlab(path, axes=ROW), nyu, tmp_path, "train")
    path.with_suffix(".png").unlink()
    assert "no image" in assert_fault(path, nyu, tmp_path, "train")
    path.unlink()
    assert_fails(tmp_path / "NYU" / "M", nyu, tmp_path, "train")


# Photographs and the catalogue


def test_photos(tmp_path):
    copy_from_packages(tmp_path)
    entries = json.loads((tmp_path / "photos.json").read_text())
    assert entries.keys() == json.loads(MARKS.read_text()).keys()
    assert max(side for entry in entries.values() for side in entry["size"]) == 512
    found = {task: {s.name: s for s in sound(photos, tmp_path, "test", task)} for task in TASKS}
    assert found["reflection"].keys() | found["rotation"].keys() == entries.keys()
    for task, samples in found.items():
        assert samples and all(sample.annotation.serves(task) for sample in samples.values())
    for name, sample in (found["reflection"] | found["rotation"]).items():
        with Image.open(sample.image) as image:
            assert list(image.size) == entries[name]["size"]
        marks = sample.annotation
        points = [end for axis in marks.axes for end in axis.ordered_ends()]
        points += [point for disc in marks.discs for point in disc.points] + [(c.x, c.y) for c in marks.centres]
        assert len(points) >= 1 and ((0, 0) <= np.array(points)).all() and (np.array(points) < image.size).all()
        assert all(centre.fold >= 0 for centre in marks.centres)


def test_marks_of_large_photographs_are_scaled(tmp_path):
    copy_from_packages(tmp_path)
    before, after = (json.loads(path.read_text()) for path in (MARKS, tmp_path / "photos.json"))
    assert before["laser_beam"]["size"] == [1600, 1200] and after["laser_beam"]["size"] == [512, 384]
    ((x, y, fold),), ((x_after, y_after, fold_after),) = (marks["laser_beam"]["centres"] for marks in (before, after))
    assert (x_after, y_after) == pytest.approx((0.32 * (x + 0.5) - 0.5, 0.32 * (y + 0.5) - 0.5)) and fold_after == fold
    old, new = (np.array(marks["laser_beam"]["discs"][0]) for marks in (before, after))
    assert new == pytest.approx(0.32 * (old + 0.5) - 0.5)
    old, new = (np.array(marks["quokka"]["axes"]) for marks in (before, after))
    assert new == pytest.approx(512 / 960 * (old + 0.5) - 0.5)
    assert after["cannon"] == before["cannon"]  # 512 x 512: with its folds of 12, as it is


def sdrw_names(root, split, validation, seed):
    return [s.name for s in read("sdrw", root, "reflection", split, validation, seed, [])]


def test_catalogue_holds_out_sdrw_training_images(tmp_path):
    sdrw_training(tmp_path, "single", *((f"{number}.jpg", np.ones(4)) for number in range(12)))
    sdrw_training(tmp_path, "multiple", *((f"{number}.jpg", np.ones((2, 4))) for number in range(8)))
    sdrw_testing(tmp_path, [("a.jpg", ROW)], [], ["single_testing/a.jpg"])
    whole = [s.name for s in sound(sdrw, tmp_path, "train")]
    apart = {seed: sdrw_names(tmp_path, "val", "held_out", seed) for seed in range(5)}
    for seed, names in apart.items():
        rest = sdrw_names(tmp_path, "train", "held_out", seed)
        assert len(names) == 3 and not set(names) & set(rest) and sorted(names + rest) == sorted(whole)
        assert names == sdrw_names(tmp_path, "val", "held_out", seed)
    assert len(set(map(tuple, apart.values()))) > 1
    for split, validation in (("test", "held_out"), ("test", "released"), ("val", "released")):
        assert sdrw_names(tmp_path, split, validation, 0) == ["single-a"]
    assert sdrw_names(tmp_path, "train", "released", 0) == whole


def test_catalogue_without_a_split_or_marks_for_the_task(tmp_path):
    for dataset in ("sdrw", "ldrs", "nyu"):
        for split in SPLITS[dataset]:
            assert read(dataset, tmp_path, "rotation", split, "held_out", 0, []) == []
    for dataset, split in (("nyu", "val"), ("nyu", "test"), ("photos", "train"), ("photos", "val")):
        assert read(dataset, tmp_path, "reflection", split, "held_out", 0, []) == []


def test_catalogue_reads_every_data_set(tmp_path):
    dendi_tree(tmp_path, [figure("rotation-polygon", (1, 1), value="4")], "rotation")
    touch(dump(tmp_path / "LDRS" / "test" / "a.json", {"shapes": []}).with_suffix(".jpg"))
    nyu_tree(tmp_path, ROW)
    copy_from_packages(tmp_path)
    assert read("dendi", tmp_path, "rotation", "train", "held_out", 0, []) == sound(
        dendi, tmp_path, "train", "rotation"
    )
    assert read("ldrs", tmp_path, "reflection", "test", "held_out", 0, []) == sound(ldrs, tmp_path, "test")
    assert read("nyu", tmp_path, "reflection", "train", "held_out", 0, []) == sound(nyu, tmp_path, "train")
    for task in TASKS:
        assert read("photos", tmp_path, task, "test", "held_out", 0, []) == sound(photos, tmp_path, "test", task)


@pytest.mark.parametrize(("validation", "seed"), [("held_out", None), (None, 0)])
def test_sdrw_is_never_split_without_a_seed(tmp_path, validation, seed):
    with pytest.raises(ValueError, match=f"got {validation} and {seed}"):
        read("sdrw", tmp_path, "reflection", "val", validation, seed, [])
