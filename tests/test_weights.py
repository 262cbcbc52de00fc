"""From a folder of photographs to weights as the package's, and from these to images over labelled photographs."""

import shutil
from types import SimpleNamespace

import pytest
from PIL import Image
from skimage import data

from pipeline import load
from pipeline.annotations import ReflectionAxis
from pipeline.datasets import own
from pipeline.datasets.backdrops import Backdrops
from pipeline.detection import DetectedAxis
from pipeline.errors import UserError
from pipeline.params import load_params
from stages import ship, synthesize, weights
from tests.project import PROJECT

CHANGES = (
    "backbones.lite.input_size=64", "decoder.width=16", "decoder.group=C4", "prompts.kind=none", "train.epochs=1",
    "train.datasets=[own]", "train.batch=4", "train.warmup=0", "train.validate_every=1", "synthetic.images=8",
)  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with photographs, of which few images are made."""
    photographs = tmp_path / "data" / "photographs"
    photographs.mkdir(parents=True)
    for number in range(20):
        whole = (data.astronaut(), data.chelsea(), data.coffee())[number % 3]
        Image.fromarray(whole[number : number + 200, number : number + 280]).save(photographs / f"{number}.png")
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthesize, "VALIDATION_IMAGES", 4)
    monkeypatch.setattr(ship, "SHIPPED", tmp_path / "shipped")
    return tmp_path


def axes(project, name):
    """How many axes each training image has."""
    samples = own.samples(project / "data" / "synthetic" / name / "images", "train", [])
    return [len(sample.annotation.axes) for sample in samples]


def test_weights_and_what_they_teach(project):
    synthesize.main("first", "reflection", *CHANGES)
    weights.main("first", "reflection", *CHANGES)
    ship.main("first", "reflection", "64", "48:mirrored")
    shipped = project / "shipped" / "lite_reflection.safetensors"
    detector = load("reflection", shipped, "cpu")
    assert detector.views == [(64, False), (48, True)] and 0 <= detector.threshold <= 1 and detector.record.portable
    assert detector.detect(data.rocket()).heatmap.shape == data.rocket().shape[:2]
    alone, taught = ["synthetic.images=20"], ["synthetic.images=20", f"synthetic.teacher={shipped}"]
    synthesize.main("alone", "reflection", *CHANGES, *alone)
    synthesize.main("taught", "reflection", *CHANGES, *taught)
    assert len(axes(project, "first")) == 8
    assert axes(project, "taught").count(0) > axes(project, "alone").count(0) + 2  # it found nothing in photographs


def test_only_photographs_that_the_teacher_is_sure_about(monkeypatch):
    axes = [[0.9], [0.45], [0.9, 0.45], [], [0.39]]  # scores

    class Teacher:
        def stream(self, photographs, threshold):
            for number in photographs:
                found = [DetectedAxis(1, 2, 3, 4 + number, score) for score in axes[number] if score >= threshold]
                yield SimpleNamespace(axes=found)

    monkeypatch.setattr(synthesize, "load", lambda task, path: Teacher())
    params = load_params(PROJECT / "params.yaml", ["synthetic.teacher=t", "synthetic.least=0.5"]).synthetic
    assert synthesize._sure(params, range(5)) == Backdrops([0, 3, 4], [[ReflectionAxis(1, 2, 3, 4)], [], []])
    params = load_params(PROJECT / "params.yaml").synthetic
    assert synthesize._sure(params, range(5)) is None


def test_a_wrong_view():
    with pytest.raises(UserError, match="64:upright: expected a view as SIZE or SIZE:mirrored"):
        ship._view("64:upright")
