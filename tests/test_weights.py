"""From a folder of photographs to weights as the package's, and to images over photographs with axes found before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pipeline import load
from pipeline.data.formats.labelme import own
from pipeline.errors import CheckpointError, UserError
from pipeline.inference.detector import Detector, parse_view
from pipeline.inference.network import Graph
from stages import label, ship, synthesize, weights
from tests.project import PROJECT

CHANGES = (
    "backbones.lite.input_size=64", "decoder.width=16", "decoder.layers=2", "prompts.kind=none", "train.epochs=1",
    "train.datasets=[own]", "train.batch=4", "train.warmup=0", "train.validate_every=1", "synthetic.images=8",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with photographs, images that are made of them, and a model that is trained on these."""
    folder = tmp_path_factory.mktemp("trained")
    photographs = folder / "data" / "photographs"
    photographs.mkdir(parents=True)
    for number in range(20):
        whole = (data.astronaut(), data.chelsea(), data.coffee())[number % 3]
        Image.fromarray(whole[number : number + 200, number : number + 280]).save(photographs / f"{number}.png")
    shutil.copy(PROJECT / "params.yaml", folder)
    (folder / "weights").mkdir()
    shutil.copy(PROJECT / "weights/marked.json", folder / "weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(synthesize, "VALIDATION_IMAGES", 12)
        synthesize.main("first", "reflection", *CHANGES)
        weights.main("first", "task=reflection", *CHANGES)
    return folder


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """A copy of it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthesize, "VALIDATION_IMAGES", 12)
    monkeypatch.setattr(ship, "SHIPPED", tmp_path / "shipped")
    return tmp_path


def axes(project, name):
    """How many axes each training image has."""
    samples = own.samples(project / "data" / "synthetic" / name / "images", [], "train", "reflection", ())
    return [len(sample.annotation.axes) for sample in samples]


def test_weights_and_what_they_teach(project):
    ship.main("first", "reflection", "64", "48:mirrored")
    detector = load("reflection", project / "shipped" / "lite_reflection.safetensors", "cpu")
    assert detector.views == ((64, False), (48, True)) and 0 <= detector.threshold <= 1 and detector.record.portable
    assert detector.detect(data.rocket()).heatmap.shape == data.rocket().shape[:2]
    graph = Graph(project / "shipped" / "lite_reflection.safetensors")
    ours = Detector(graph, graph.header).heat_maps([data.rocket()])[0]
    np.testing.assert_allclose(ours, detector.heat_maps([data.rocket()])[0], rtol=0, atol=1e-5)
    label.main("first", "axes.json", "64", "48:mirrored")
    found = json.loads(Path("axes.json").read_text())
    assert len(found) == 19 and all(len(axis) == 5 for one in found.values() for axis in one["axes"])
    Path("axes.json").write_text(
        json.dumps({name: {"axes": [], "centres": []} for name in found})
    )  # so little trained it may find anything
    more = [*CHANGES, "synthetic.images=20"]
    synthesize.main("alone", "reflection", *more)
    synthesize.main("taught", "reflection", *more, "synthetic.marks=axes.json")
    assert len(axes(project, "first")) == 8
    assert axes(project, "taught").count(0) > axes(project, "alone").count(0) + 2  # whole photographs without axes


def test_a_wrong_view():
    with pytest.raises(UserError, match="64:upright: expected a view as SIZE or SIZE:mirrored"):
        parse_view("64:upright")


def test_views_that_the_graph_cannot_take(project):
    with pytest.raises(UserError, match=r"views of \[70\] pixels: expected multiples of 16"):
        ship.main("first", "reflection", "70")
    assert not (project / "shipped").exists()


def test_axes_are_labelled_by_a_reflection_model_only(project):
    synthesize.main("turned", "rotation", *CHANGES)
    weights.main("turned", "task=rotation", *CHANGES)
    with pytest.raises(CheckpointError, match="its task is rotation, not reflection"):
        label.main("turned", "axes.json")
    assert not Path("axes.json").exists()
