"""The embedded data: published formats as plain loaders see them, reproducible bytes, pools that do not mix."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat

from pipeline.data.synthesis import embedded
from pipeline.errors import DataError

IMAGES = 8  # for training, DENDI 16; test has 4 and, where there is one, val has 2
DATASETS = "dendi", "sdrw", "ldrs", "nyu"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    for dataset in DATASETS:
        embedded.write(dataset, folder / dataset, IMAGES, seed=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_axis(image: Path, row):
    """Non-zero length, and at least nine tenths inside the image."""
    x1, y1, x2, y2 = map(float, row)
    with Image.open(image) as opened:
        width, height = opened.size
    assert 200 <= min(width, height) and max(width, height) <= 400
    x, y = (np.linspace(start, end, 100) for start, end in ((x1, x2), (y1, y2)))
    assert np.hypot(x2 - x1, y2 - y1) > 20
    assert np.mean((-1 < x) & (x < width) & (-1 < y) & (y < height)) >= 0.9


def test_dendi(root):
    splits = [torch.load(root / "dendi" / f"{task}_split.pt", weights_only=True) for task in ("reflection", "rotation")]
    assert splits[0] == splits[1]
    names = splits[0]
    assert [len(names[f"{split}_img"]) for split in ("train", "val", "test")] == [16, 2, 4]
    for kind in ("img", "ann"):
        assert names["all"][kind] == sum((names[f"{split}_{kind}"] for split in ("train", "val", "test")), [])
    turned = 0
    for image, annotation in zip(names["all"]["img"], names["all"]["ann"], strict=True):
        figures = json.loads((root / "dendi" / annotation).read_text())["figures"]
        turned += any(figure["label"].startswith("rotation") for figure in figures)
        for figure in figures:
            assert figure.keys() == {"label", "shape", "attributes"}
            points, label = figure["shape"]["coordinates"], figure["label"]
            if label == "reflection" or (label == "reflection-circle" and len(points) == 2):
                for start, end in zip(points, points[1:], strict=False):
                    check_axis(root / "dendi" / image, start + end)
            elif label == "reflection-circle":
                assert len(points) in (4, 5)
            else:
                value = figure["attributes"][0]["value"]
                assert isinstance(value, str)
                assert (label == "rotation-circle") == (value == "0")
    assert turned == len(names["all"]["img"]) // 2


def test_dendi_writes_every_kind_of_figure():
    annotations = [embedded._draw("dendi", "train", "", number, seed=1)[1] for number in range(20)]
    figures = [figure for number, marks in enumerate(annotations) for figure in embedded._figures(marks, number)]
    kinds = {(figure["label"], len(figure["shape"]["coordinates"])) for figure in figures}
    circles = {("reflection-circle", count) for count in (2, 4, 5)}
    assert kinds == circles | {("reflection", 2), ("reflection", 3), ("rotation-polygon", 2), ("rotation-circle", 2)}
    assert not embedded._figures(annotations[19], 19)  # one image in twenty holds no symmetry


def test_round_things_teach_and_are_not_tested():
    """Images 17 and 18 of twenty; marked alike as discs and as centres."""
    numbers = [number for number in range(120) if number % 20 in (17, 18)]
    for part in ("train", "val", "test"):
        drawn = [embedded._draw("dendi", part, "", number, seed=1)[1] for number in numbers]
        if part == "test":
            assert max(len(marks.discs) for marks in drawn) <= 2
        else:
            assert max(len(marks.discs) for marks in drawn) > 4
            assert all(len(marks.discs) == len(marks.centres) and not marks.axes for marks in drawn)


def test_sdrw_training(root):
    folder = root / "sdrw" / "SDRW" / "reflection_training"
    for kind, axes in (("single", {1}), ("multiple", {2, 3})):
        truth = loadmat(folder / f"{kind}GT_training" / f"{kind}GT_training.mat")["gt"]
        assert truth.shape == (4, 1)
        assert len({entry["name"][0] for entry in truth[:, 0]}) == 4
        for entry in truth[:, 0]:
            assert entry["ax"].shape[1] == 4 and len(entry["ax"]) in axes
            for row in entry["ax"]:
                check_axis(folder / f"{kind}_training" / entry["name"][0].strip(), row)


def test_sdrw_testing(tmp_path):
    embedded.write("sdrw", tmp_path, 48, seed=2)
    truth = loadmat(tmp_path / "SDRW" / "reflectionTestGt2013.mat")
    blanks, misnamed = 0, 0
    for kind, key in (("single", "gtS"), ("multiple", "gtM")):
        names, rows = list(truth[key][0, 0])[:2]  # the fields by position, as the released code takes them
        assert len(names) == len(rows) and rows.shape[1] == 4
        assert len({name[0][0] for name in names}) == 6
        assert (len(names) == 6) == (kind == "single")
        for (name,), row in zip(names, rows, strict=True):
            blanks += name[0] != name[0].strip()
            path = tmp_path / "SDRW" / "reflection_testing" / f"{kind}_testing" / name[0].strip()
            assert path.suffix == ".jpg"
            misnamed += not path.exists()
            check_axis(path if path.exists() else path.with_suffix(".png"), row)
    assert blanks and misnamed == 3


def test_ldrs(root):
    for split, count in (("train", 8), ("val", 2), ("test", 4)):
        paths = list((root / "ldrs" / "LDRS" / split).glob("*.json"))
        assert len(paths) == count
        for path in paths:
            content = json.loads(path.read_text())
            assert {"version", "flags", "shapes", "imagePath", "imageHeight", "imageWidth"} < content.keys()
            assert content["imageData"] is None and content["shapes"]
            image = path.parent / content["imagePath"]
            with Image.open(image) as opened:
                assert opened.size == (content["imageWidth"], content["imageHeight"])
            for shape in content["shapes"]:
                assert shape["shape_type"] == "line"
                check_axis(image, shape["points"][0] + shape["points"][1])


def test_nyu(root):
    counts = {"S": 3, "M": 1}
    for kind, count in counts.items():
        for number in range(1, count + 1):
            path = root / "nyu" / "NYU" / kind / f"I{number:03d}.png"
            (segments,) = loadmat(path.with_suffix(".mat"))["segments"]
            assert len(segments) == 1 if kind == "S" else len(segments) > 1
            for segment in segments:
                check_axis(path, segment.ravel())
    assert len(list((root / "nyu").rglob("*.png"))) == sum(counts.values())


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_seed_decides_every_byte(root, tmp_path, dataset):
    embedded.write(dataset, tmp_path / "same", IMAGES, seed=1)
    assert contents(tmp_path / "same") == contents(root / dataset)
    embedded.write(dataset, tmp_path / "other", 2, seed=2)
    first, other = contents(root / dataset), contents(tmp_path / "other")
    assert all(first.get(name) != other[name] for name in other if name.endswith((".jpg", ".png")))


def test_images_do_not_depend_on_their_number(root, tmp_path):
    embedded.write("ldrs", tmp_path, 3, seed=1)
    fewer, more = contents(tmp_path), contents(root / "ldrs")
    assert fewer.items() <= more.items()


def test_pools_do_not_mix():
    assert not set(embedded.TRAINING) & set(embedded.TEST)
    assert set(embedded.NO_BACKDROP) < set(embedded.TRAINING) | set(embedded.TEST)
    for test, pool in ((False, embedded.TRAINING), (True, embedded.TEST)):
        photographs, backdrops = embedded._photographs(test)
        assert len(photographs) == len(pool) and len(backdrops) == len(set(pool) - embedded.NO_BACKDROP)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="dendi, sdrw, ldrs, nyu as the data set, got 'coco'"):
        embedded.write("coco", Path("nowhere"), 8, seed=1)
    with pytest.raises(ValueError, match="2 training images or more, got 1"):
        embedded.write("dendi", Path("nowhere"), 1, seed=1)
    with pytest.raises(DataError, match="nothing.png: not found; expected this photograph"):
        embedded._load("skimage/data/nothing.png", None)
