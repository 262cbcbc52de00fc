"""Predictions as LabelMe's JSON: to labelme's own reader, and back as own data."""

import json
import resource
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre
from pipeline.application.labelme import annotate
from pipeline.data.download.own import bring
from pipeline.data.formats.labelme import own
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.errors import DataError
from pipeline.inference.detection import Detection
from pipeline.params import load_params
from tests.project import PROJECT

AXES = DetectedAxis(10.25, 0.5, 12.5, 29.0, 0.83), DetectedAxis(1, 2, 30, 4, 0.61)
CENTRES = DetectedCentre(20.5, 15.25, 0.7), DetectedCentre(8, 9, 0.6, 5), DetectedCentre(3, 4, 0.5, 0)
DRAWN = Annotation(
    (ReflectionAxis(10.25, 0.5, 12.5, 29.0), ReflectionAxis(1, 2, 30, 4)), (),
    (RotationCentre(20.5, 15.25, 1), RotationCentre(8, 9, 5), RotationCentre(3, 4, 0)),
)  # fmt: skip


@pytest.fixture(scope="module")
def label_file():
    """labelme's reader. The package imports the toolkit of its windows, which the reader does without."""
    windows = {f"PyQt5.{name}": MagicMock() for name in ("QtCore", "QtGui", "QtWidgets")}
    modules = {"PyQt5": MagicMock(), **windows, "imgviz": MagicMock(), "imgviz.io": MagicMock()}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        # labelme 6.3.1 sets it to None when it is imported, for the whole process: put back at the end.
        patch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        from labelme import LabelFile
    return LabelFile


def test_labelme_leaves_no_trace_in_pillow(label_file):
    """Tests of other files that run in this process count on it."""
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3


def found(axes=AXES, centres=CENTRES, height=30, width=40):
    """What both tasks found in an image."""
    heat, image = np.zeros((height, width), np.float32), np.zeros((height, width, 3), np.uint8)
    return [
        Detection("reflection", heat, tuple(axes), (), 0.83, 0.5, image),
        Detection("rotation", heat, (), tuple(centres), 0.7, 0.5, image),
    ]


def album(folder, count=1):
    """Pictures that a camera took upright: 30 x 40, to be turned."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        picture = Image.new("RGB", (30, 40), (50 * number, 90, 90))
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(folder / f"p{number}.jpg", exif=exif)
    return sorted(folder.glob("*.jpg"))


@pytest.mark.parametrize("where", ["p0.json", "found/labelme/p0.json"])
def test_labelme_reads_it(tmp_path, label_file, where):
    """It checks the size of the image, which it turns as we do, and the kind of every value."""
    (image,) = album(tmp_path)
    annotate(tmp_path / where, image, found())
    file = label_file(str(tmp_path / where))
    assert [(shape["shape_type"], shape["label"], shape["description"]) for shape in file.shapes] == [
        ("line", "axis", "score 0.83"), ("line", "axis", "score 0.61"), ("point", "rotation", "score 0.70"),
        ("point", "rotation 5", "score 0.60"), ("point", "rotation 0", "score 0.50"),
    ]  # fmt: skip
    assert file.shapes[0]["points"] == [[10.25, 0.5], [12.5, 29.0]] and file.shapes[2]["points"] == [[20.5, 15.25]]
    assert not any(shape["other_data"] for shape in file.shapes)


@pytest.mark.parametrize("where", ["{}.json", "found/labelme/{}.json"])
def test_corrected_in_labelme_it_comes_back_as_own_data(tmp_path, label_file, where):
    """Of four pictures: three as predicted; in one labelme took out a line and moved a point."""
    images, labels = album(tmp_path / "album", 4), load_params(PROJECT / "params.yaml").own.labels
    for image in images:
        annotate(image.parent / where.format(image.stem), image, found())
    path = str(images[0].parent / where.format("p0"))
    file = label_file(path)
    shapes = [{**shape, "mask": None} for shape in file.shapes]
    del shapes[1]
    shapes[1]["points"] = [[21.0, 16.0]]
    from labelme._label_file import write_label_file

    write_label_file(path, shapes=shapes, image_path=file.image_path, image_height=30, image_width=40)
    bring(tmp_path / "album", tmp_path / "own", seed=0, needed=True)
    findings, samples = [], {}
    for split in ("train", "val", "test"):
        some = own.samples(tmp_path / "own", findings, split, "reflection", labels)
        samples |= {sample.image.name: sample for sample in some}
    assert sorted(samples) == ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg"] and not findings
    assert all(samples[f"p{n}.jpg"].annotation == DRAWN and samples[f"p{n}.jpg"].drawn == (40, 30) for n in (1, 2, 3))
    moved = RotationCentre(21.0, 16.0, 1), *DRAWN.centres[1:]
    assert samples["p0.jpg"].annotation == Annotation(DRAWN.axes[:1], (), moved)


def test_what_is_there_is_never_touched(tmp_path):
    (image,) = album(tmp_path)
    path = tmp_path / "p0.json"
    path.write_text("drawn by hand")
    with pytest.raises(DataError, match="p0.json: there already, perhaps drawn or corrected by hand; left as it is"):
        annotate(path, image, found())
    assert path.read_text() == "drawn by hand"


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    """A file that is begun would be taken for one that somebody has corrected, for good."""
    monkeypatch.setattr(json, "dumps", lambda *_, **__: "a" * 10_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DataError, match="a.json: cannot be written: "):
            annotate(tmp_path / "a.json", tmp_path / "a.jpg", found())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not any(tmp_path.iterdir())
    with pytest.raises(DataError, match="json: cannot be written: .*name too long"):
        annotate(tmp_path / f"{'a' * 251}.json", tmp_path / "a.jpg", found())


def test_nothing_found_is_a_file_without_shapes(tmp_path, label_file):
    (image,) = album(tmp_path)
    annotate(tmp_path / "p0.json", image, found((), ()))
    assert (
        json.loads((tmp_path / "p0.json").read_text())["shapes"] == label_file(str(tmp_path / "p0.json")).shapes == []
    )
