"""Evaluation, figures, tables and the report, on a model that knows the answer."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.prepare import pack
from pipeline.evaluation.evaluate import evaluate, gallery
from pipeline.figures import pictures as figures
from pipeline.figures.tables import to_markdown
from pipeline.reporting.tables import main_table

SIZE = 96


class RedFinder(torch.nn.Module):
    """Calls red pixels an axis."""

    device = torch.device("cpu")

    def forward(self, images):
        red = images[:, :1] - images[:, 1:2]
        return 20 * (red - 0.5)


def packed(folder, task, annotations):
    """A split of 96 x 72 pictures, black, with a red line down the middle column 48."""
    samples = []
    for number, annotation in enumerate(annotations):
        pixels = np.zeros((72, 96, 3), np.uint8)
        pixels[:, 46:50, 0] = 255
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(f"picture-{number}", path, annotation))
    pack(samples, task, SIZE, folder / "somewhere" / "test.safetensors", "test")
    return PackedSplit(folder / "somewhere" / "test.safetensors", task)


def test_a_model_that_knows(tmp_path):
    split = packed(tmp_path, "reflection", [Annotation(axes=(ReflectionAxis(48, 0, 48, 71),))] * 5)
    found = evaluate(RedFinder(), [split], batch=2)
    summary = found.summary(validation_threshold=0.5)
    assert summary["images"] == 5 and summary["max_f1"] > 0.85
    assert summary["f1_at_validation_threshold"] <= summary["max_f1"]
    assert summary["validation_threshold"] == pytest.approx(0.5, abs=0.006)


def test_the_curve_holds_every_threshold(tmp_path):
    split = packed(tmp_path, "reflection", [Annotation(axes=(ReflectionAxis(48, 0, 48, 71),))])
    found = evaluate(RedFinder(), [split], batch=2)
    curve = found.curve()
    assert len(curve) == 100 and curve["threshold"].is_monotonic_increasing
    np.testing.assert_allclose(curve["f1"].max(), found.summary(0.5)["max_f1"])


def test_without_ground_truth_there_is_no_f1(tmp_path):
    split = packed(tmp_path, "rotation", [Annotation(axes=(ReflectionAxis(48, 0, 48, 71),))])
    found = evaluate(RedFinder(), [split], batch=2)
    assert found.summary(0.5) == {"images": 1, "max_f1": None}
    assert evaluate(RedFinder(), [], 2).summary(0.5) == {"images": 0, "max_f1": None}


def test_rotation_is_scored_at_centres(tmp_path):
    split = packed(tmp_path, "rotation", [Annotation(centres=(RotationCentre(48, 36, 4),))])
    found = evaluate(RedFinder(), [split], batch=2)
    summary = found.summary(0.5)
    assert 0 < summary["precision"] < 0.3 and summary["recall"] == 1
    assert found.detections.each[0].told_at_marks == [(4, 2)]  # a line through it is the same after half a turn


def test_the_gallery_goes_from_the_best_image_to_the_worst(tmp_path):
    """The line is at column 48: marked there, beside it, far from it, nowhere."""
    marked = [Annotation(axes=(ReflectionAxis(column, 0, column, 71),)) for column in (30, 48, 38)]
    split = packed(tmp_path, "reflection", [*marked, Annotation()])
    found = evaluate(RedFinder(), [split], batch=2)
    shown = found.spread(2, 0.5)
    assert list(found.spread(9, 0.5)) == [1, 2, 0] and list(shown) == [1, 0]
    assert shown[1] > 0.85 and shown[0] < 0.1
    pictures = gallery(RedFinder(), [split.excerpt([0]), split.excerpt([1, 2])], 2, shown)
    assert list(pictures) == ["picture-1", "picture-0"]
    width = 96 * figures.LARGE // 72
    assert all(p.shape == (figures.LARGE + figures.LINE, 2 * width + figures.GAP, 3) for p in pictures.values())
    captions = [picture[: figures.LINE, :width] for picture in pictures.values()]
    assert all((caption < 128).any() for caption in captions) and (captions[0] != captions[1]).any()


def test_overlay_shows_the_marks_of_the_task_and_heat_in_colour():
    image, heat = np.full((20, 30, 3), 90, np.uint8), np.zeros((20, 30), np.float32)
    heat[5, 5] = 1
    disc = ReflectionDisc(((10, 10), (10, 4), (10, 16), (4, 10), (16, 10)))
    marks = Annotation((ReflectionAxis(25, 2, 25, 18),), (disc,), (RotationCentre(20, 10, 0),))
    shown = {task: figures.overlay(image, heat, marks, task, "name", 40) for task in ("reflection", "rotation")}

    def colour(task, x, y):
        return tuple(shown[task][figures.LINE + 2 * y, 2 * x])

    assert colour("reflection", 25, 10) == figures.TRUTH and colour("rotation", 25, 10) == (90, 90, 90)
    assert colour("reflection", 10, 4) == figures.DISC and colour("reflection", 10, 10) == (90, 90, 90)  # an outline
    assert colour("rotation", 20, 10) == figures.CENTRE and colour("reflection", 20, 10) == (90, 90, 90)
    right = shown["reflection"][figures.LINE :, 60 + figures.GAP :]
    assert right[11, 11].max() > 150 and right[0, 0].max() < 40


def test_contact_sheet_places_every_picture():
    pictures = [np.full((10, 20, 3), shade, np.uint8) for shade in (0, 60, 120)]
    sheet = np.asarray(figures.contact_sheet(pictures, height=20, width=100))
    assert sheet.shape == (2 * (20 + figures.GAP), 100, 3)
    assert [sheet[5, 5, 0], sheet[5, 55, 0], sheet[30, 5, 0], sheet[30, 55, 0]] == [0, 60, 120, 255]


def test_each_curve_is_drawn_in_its_colour(tmp_path):
    curve = pd.DataFrame({"precision": [0, 0.5, 1], "recall": [0, 0.5, 0.1], "f1": [0, 0.5, 0.18]})
    lines = set()
    for number in (1, 2):
        figures.save_curves({f"model {k}": curve * 0.8**k for k in range(number)}, tmp_path / "pr.png", "test")
        colours = np.asarray(Image.open(tmp_path / "pr.png").convert("RGB")).reshape(-1, 3)
        lines |= {tuple(colour) for colour, count in zip(*np.unique(colours, axis=0, return_counts=True)) if count > 99}
        assert {(31, 119, 180), (255, 127, 14)} & lines == {(31, 119, 180), (255, 127, 14)} if number == 2 else True


def test_tables_put_the_published_figure_beside_ours():
    summary = {
        "images": 3, "max_f1": 0.5123, "f1_at_validation_threshold": 0.4,
        "shipped": {"max_f1": 0.61, "f1_at_validation_threshold": 0.3},
    }  # fmt: skip
    untrained = {name: {"max_f1": 0.25} for name in ("classical", "centre map", "random map")}
    beside = {name: {"rotation": untrained, "reflection": untrained} for name in ("dendi", "photos")}
    summaries = {"dendi": {"rotation": summary}, "sdrw": {"rotation": {"images": 0, "max_f1": None}}}
    found = main_table(summaries, beside, comparable=True)
    assert found["model"].tolist() == ["this run", "shipped weights", *untrained]
    assert set(found["test set"]) == {"dendi"} and found["max F1"].tolist() == [51.23, 61, 25, 25, 25]
    assert found["published CLIPSym"].fillna(0).tolist() == [25.1, 0, 0, 0, 0]
    assert "51.2" in to_markdown(found)
    photos = main_table({"photos": {"reflection": summary}}, beside, comparable=True)
    assert to_markdown(photos).rstrip(" |").endswith("-")
    embedded = main_table({"dendi": {"rotation": summary}}, beside, comparable=False)
    assert not [name for name in embedded if "published" in name]
