"""The data report tells what is in the data, what was wrong, and which images occur twice."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage import data as photographs

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.data.packed.split import SUFFIX
from pipeline.data.preparation.catalogue import SPLITS
from pipeline.data.preparation.prepare import pack
from pipeline.data.reading.findings import Finding
from pipeline.data.report.duplicates import fingerprint, pairs
from pipeline.data.report.page import write_data_report
from pipeline.data.report.survey import survey


def picture(name, size=(150, 120)):
    return Image.fromarray(getattr(photographs, name)()).convert("RGB").resize(size)


def worn(image, quality=40, scale=0.7):
    """The same photograph, smaller, brighter and compressed."""
    small = image.resize((round(image.width * scale), round(image.height * scale)))
    return Image.fromarray(np.clip(np.asarray(small) * 1.15 + 5, 0, 255).astype(np.uint8))


NAMES = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins")


def test_copies_are_found_and_other_photographs_are_not():
    originals = [picture(name) for name in NAMES]
    flat = [Image.new("RGB", (100, 80), colour) for colour in ("white", "black")]
    images = originals + [worn(image) for image in originals] + flat
    found = pairs([fingerprint(np.asarray(image)) for image in images])
    assert found == [(n, n + len(NAMES)) for n in range(len(NAMES))]


def test_pairs_of_none_and_of_many():
    assert pairs([]) == []
    one = fingerprint(np.asarray(picture("coffee")))
    assert len(pairs([one] * 300)) == 300 * 299 / 2  # more than are compared at a time


MARKS = Annotation(
    (ReflectionAxis(20, 10, 30, 90), ReflectionAxis(40, 10, 50, 90)),
    (ReflectionDisc(((60, 60), (60, 40), (60, 80), (40, 60), (80, 60))),),
    (RotationCentre(60, 60, 0), RotationCentre(30, 30, 5)),
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """DENDI with an image of its test set among those of training, LDRS with one of DENDI's; the other sets empty."""
    folder = tmp_path_factory.mktemp("data")
    content = {
        ("dendi", "train"): [("astronaut", MARKS), ("chelsea", Annotation()), ("coins", MARKS)],
        ("dendi", "test"): [("coffee", MARKS), ("astronaut", Annotation(MARKS.axes))],
        ("ldrs", "val"): [("camera", Annotation(MARKS.axes[:1])), ("coffee", Annotation(MARKS.axes[:1]))],
    }
    for dataset, splits in SPLITS.items():
        found = {}
        for split in splits:
            samples = []
            for number, (name, marks) in enumerate(content.get((dataset, split), [])):
                path = folder / "raw" / dataset / split / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = picture(name) if split != "test" else worn(picture(name), scale=1)
                (image.convert("L") if name == "camera" else image).save(path)
                samples.append(Sample(f"{number}-{name}", path, marks))
            found[split] = pack(samples, "reflection", 96, folder / dataset / f"{split}{SUFFIX}", "test")
        if dataset == "ldrs":
            found["train"].append(Finding("fault", "malformed annotation", "LDRS/train/x.json: expected JSON"))
            found["none"] = [Finding("note", "image in no split", "LDRS/y.jpg: no annotation names it")]
        content_of_file = {split: [vars(finding) for finding in entries] for split, entries in found.items()}
        (folder / dataset / "findings.json").write_text(json.dumps(content_of_file))
    return folder


def test_counts(packed):
    counts = survey(packed, "reflection").counts().set_index(["dataset", "split"])
    columns = ["images", "marked", "axes", "discs", "centres", "fault", "repair", "note", "leaks"]
    expected = {
        ("dendi", "train"): [3, 2, 4, 2, 4, 0, 0, 1, 1],
        ("dendi", "test"): [2, 2, 4, 1, 2, 0, 0, 0, 2],
        ("ldrs", "train"): [0, 0, 0, 0, 0, 1, 0, 0, 0],
        ("ldrs", "val"): [2, 2, 2, 0, 0, 0, 0, 1, 1],
        ("ldrs", "none"): [0, 0, 0, 0, 0, 0, 0, 1, 0],
    }
    pd.testing.assert_frame_equal(
        counts,
        pd.DataFrame(
            expected.values(), columns=columns, index=pd.MultiIndex.from_tuples(expected, names=counts.index.names)
        ),
    )


def test_copies_across_splits_and_data_sets(packed):
    copies = survey(packed, "reflection").copies
    ends = [(f"{r.dataset}/{r.split}/{r.name_1}", f"{r.dataset_2}/{r.split_2}/{r.name_2}", r.leak) for r in
            copies.rename(columns={"name": "name_1"}).itertuples()]  # fmt: skip
    assert ends == [
        ("dendi/train/0-astronaut", "dendi/test/1-astronaut", True),
        ("dendi/test/0-coffee", "ldrs/val/1-coffee", True),
    ]


def test_folds_and_images(packed):
    found = survey(packed, "reflection")
    assert found.folds["fold"].value_counts().to_dict() == {0: 3, 5: 3}
    assert found.images[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[150, 120]]
    assert len(found.images) == 7 and found.images["file"].map(lambda file: file.endswith(".png")).all()


def test_the_report_shows_all_of_it(packed, tmp_path):
    found = survey(packed, "reflection")
    write_data_report(found, packed, "reflection", seed=0, folder=tmp_path)
    text, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    for line in ("2 pairs of images in different splits", "LDRS/train/x.json: expected JSON", "Note: not RGB"):
        assert line in text and line in page
    assert page.startswith("<!doctype html>") and "<table>" in page and "|:--" not in page
    pictures = {path.name for path in tmp_path.glob("*.png")}
    named = {word.split(")")[0] for word in text.split("](")[1:]}
    assert pictures == named and "copies.png" in named and {"random-dendi.png", "random-ldrs.png"} <= named
    assert all(f'src="{name}"' in page for name in named)
    for name, rows in (("images", 7), ("findings", 4), ("copies", 2)):
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == rows


def test_marks_are_drawn_where_they_are(packed, tmp_path):
    write_data_report(survey(packed, "reflection"), packed, "reflection", seed=0, folder=tmp_path)
    sheet = np.asarray(Image.open(tmp_path / "random-ldrs.png")).astype(int)
    green = np.abs(sheet - (60, 230, 90)).sum(-1) < 20
    rows, columns = np.nonzero(green[:, :230])
    scale = 190 / 120
    assert rows.min() == pytest.approx(12 + 10 * scale, abs=2) and rows.max() == pytest.approx(12 + 90 * scale, abs=2)
    assert columns.min() == pytest.approx(20 * scale, abs=2) and columns.max() == pytest.approx(30 * scale, abs=2)


def test_the_report_on_nothing(tmp_path):
    for dataset, splits in SPLITS.items():
        for split in splits:
            pack([], "rotation", 32, tmp_path / dataset / f"{split}{SUFFIX}", "test")
        (tmp_path / dataset / "findings.json").write_text(json.dumps({split: [] for split in splits}))
    found = survey(tmp_path, "rotation")
    write_data_report(found, tmp_path, "rotation", seed=0, folder=tmp_path / "report")
    assert "Nothing." in (tmp_path / "report" / "report.md").read_text() and found.counts().empty
