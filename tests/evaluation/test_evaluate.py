"""Evaluation, figures, tables and the report, on a model that knows the answer."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre, Sample
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.prepare import pack
from pipeline.evaluation.evaluate import evaluate
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


def test_a_model_that_knows_beats_the_baselines(tmp_path):
    split = packed(tmp_path, "reflection", [Annotation(axes=(ReflectionAxis(48, 0, 48, 71),))] * 5)
    found = evaluate(RedFinder(), [split], batch=2, gallery=3, seed=0)
    summary = found.summary(validation_threshold=0.5)
    assert summary["images"] == 5 and summary["max_f1"] > 0.85
    assert summary["random_map_f1"] < 0.5 and summary["centre_map_f1"] > 0.85  # the axis is the centre line
    assert summary["f1_at_validation_threshold"] <= summary["max_f1"]
    assert summary["validation_threshold"] == pytest.approx(0.5, abs=0.006)
    assert list(found.pictures) == ["picture-0", "picture-2", "picture-4"]
    assert all(picture.shape == (72, 2 * 96 + figures.GAP, 3) for picture in found.pictures.values())


def test_the_curve_holds_every_threshold(tmp_path):
    split = packed(tmp_path, "reflection", [Annotation(axes=(ReflectionAxis(48, 0, 48, 71),))])
    found = evaluate(RedFinder(), [split], batch=2, gallery=0, seed=0)
    curve = found.curve()
    assert len(curve) == 100 and curve["threshold"].is_monotonic_increasing
    np.testing.assert_allclose(curve["f1"].max(), found.summary(0.5)["max_f1"])
    assert found.overlays == {}


def test_without_ground_truth_there_is_no_f1(tmp_path):
    split = packed(tmp_path, "rotation", [Annotation(axes=(ReflectionAxis(48, 0, 48, 71),))])
    found = evaluate(RedFinder(), [split], batch=2, gallery=1, seed=0)
    assert found.summary(0.5) == {"images": 1, "max_f1": None}
    assert evaluate(RedFinder(), [], 2, 8, 0).summary(0.5) == {"images": 0, "max_f1": None}


def test_rotation_is_scored_at_centres(tmp_path):
    split = packed(tmp_path, "rotation", [Annotation(centres=(RotationCentre(48, 36, 4),))])
    summary = evaluate(RedFinder(), [split], batch=2, gallery=0, seed=0).summary(0.5)
    assert 0 < summary["precision"] < 0.3 and summary["recall"] == 1


def test_overlay_shows_truth_in_green_and_heat_in_colour():
    image, heat, truth = np.full((20, 30, 3), 90, np.uint8), np.zeros((20, 30), np.float32), np.zeros((20, 30), bool)
    heat[5, 5], truth[10, 20] = 1, True
    picture = figures.overlay(image, heat, truth, "reflection")
    assert tuple(picture[10, 21]) == figures.TRUTH and tuple(picture[10, 22]) == (90, 90, 90)
    assert tuple(picture[10, 20]) == figures.TRUTH and tuple(picture[0, 0]) == (90, 90, 90)
    right = picture[:, 30 + figures.GAP :]
    assert right[5, 5].max() > 200 and right[0, 0].max() < 40


def test_contact_sheet_places_every_picture():
    pictures = [np.full((10, 20, 3), shade, np.uint8) for shade in (0, 60, 120)]
    sheet = np.asarray(figures.contact_sheet(pictures, height=20, width=100))
    assert sheet.shape == (2 * (20 + figures.GAP), 100, 3)
    assert [sheet[5, 5, 0], sheet[5, 55, 0], sheet[30, 5, 0], sheet[30, 55, 0]] == [0, 60, 120, 255]


def test_the_curve_is_drawn(tmp_path):
    curve = pd.DataFrame({"precision": [0, 0.5, 1], "recall": [0, 0.5, 0.1], "f1": [0, 0.5, 0.18]})
    figures.save_curve(curve, tmp_path / "pr.png", "test")
    assert len(np.unique(np.asarray(Image.open(tmp_path / "pr.png").convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_tables_put_the_published_figure_beside_ours():
    summary = {
        "images": 3, "max_f1": 0.5123, "f1_at_validation_threshold": 0.4,
        "random_map_f1": 0.1, "centre_map_f1": 0.2,
    }  # fmt: skip
    found = main_table(
        {"dendi": {"rotation": summary}, "sdrw": {"rotation": {"images": 0, "max_f1": None}}}, comparable=True
    )
    assert found["test set"].tolist() == ["dendi"] and found["published CLIPSym"].tolist() == [25.1]
    assert "51.2" in to_markdown(found)
    photos = main_table({"photos": {"reflection": summary}}, comparable=True)
    assert to_markdown(photos).rstrip(" |").endswith("-")
    embedded = main_table({"dendi": {"rotation": summary}}, comparable=False)
    assert not [name for name in embedded if "published" in name]
