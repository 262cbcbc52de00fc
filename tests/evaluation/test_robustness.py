"""Robustness and consistency on models that commute with the transformations, that do not, and that really decode."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre, Sample
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.prepare import pack
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.robustness import (
    DECODER_MARGIN,
    MODEL_MARGIN,
    Robustness,
    consistency,
    decoder_alone,
    framed,
    robustness,
)
from pipeline.evaluation.transformations import TRANSFORMATIONS, disc, tilt
from pipeline.model.backbones.catalogue import pretrained
from pipeline.model.clipsym import build_model
from pipeline.params import load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
SIZE = 96


class Pointwise:
    """A model, and a decoder alike, that looks at each pixel; its features are red and green in cells of 16 pixels.

    Its class token holds a number that no transformation may touch.
    """

    device, text_embeddings = torch.device("cpu"), torch.ones(1, 1)

    def __call__(self, images):
        return 10 * (images[:, :1] - images[:, 1:2]) - 5

    def image_tower(self, images):
        cells = F.avg_pool2d(images, 16)[:, :2]
        return [F.pad(cells.flatten(2).transpose(1, 2), (0, 0, 1, 0), value=7.0)], tuple(cells.shape[2:])

    def decoder(self, features, text_embeddings, grid):
        assert text_embeddings is self.text_embeddings and (features[0][:, 0] == 7).all()
        return self(F.interpolate(features[0][:, 1:].transpose(1, 2).unflatten(2, grid), scale_factor=16))


class LeftHalf(Pointwise):
    """Marks the left half of whatever it sees."""

    def __call__(self, images):
        left = torch.arange(images.shape[-1]) < images.shape[-1] // 2
        return torch.where(left, 40.0, -40.0).expand_as(images[:, :1])


def packed(folder, ends, shape=(90, 120), count=3, task="reflection", dataset="somewhere"):
    """A split of black pictures with a red line between two points, which is their axis; its first end is a centre."""
    samples, (height, width) = [], shape
    folder.mkdir(exist_ok=True)
    for number in range(count):
        picture = Image.new("RGB", (width, height))
        ImageDraw.Draw(picture).line(ends, fill=(255, 0, 0), width=5)
        picture.save(folder / f"{number}.png")
        centre = RotationCentre(*ends[:2], 2)
        annotation = Annotation(axes=(ReflectionAxis(*ends),), centres=(centre,))
        samples.append(Sample(str(number), folder / f"{number}.png", annotation))
    pack(samples, task, SIZE, folder / dataset / "test.safetensors", "test")
    return PackedSplit(folder / dataset / "test.safetensors", task)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("data"), (40, 20, 95, 60))


def summaries(model, splits, batch=2, threshold=0.5, seed=0):
    return {name: sums.summary(threshold) for name, sums in robustness(model, splits, batch, threshold, seed).items()}


def test_a_pointwise_model_commutes(split):
    found = summaries(Pointwise(), [split])
    assert list(found) == list(TRANSFORMATIONS)
    for name in ("identity", "quarter_turn", "flip"):
        assert all(found[name][f"{part}_mean_difference"] == 0 for part in ("model", "decoder"))
        assert all(found[name][f"{part}_disagreement"] == 0 for part in ("model", "decoder"))
    assert 0 < found["rotation"]["model_mean_difference"] < 0.01  # the line's edges, once interpolated before the model
    assert found["rotation"]["model_disagreement"] < 0.02


@pytest.mark.parametrize("ends", [(40, 20, 95, 60), (60, 10, 60, 80), (30, 70, 80, 30)])
@pytest.mark.parametrize("shape", [(90, 120), (100, 100), (131, 87)])
def test_truth_turns_with_the_image(tmp_path, ends, shape):
    split = packed(tmp_path, ends, shape)
    found = {name: row["max_f1"] for name, row in summaries(Pointwise(), [split]).items()}
    assert min(found.values()) > 0.85 and max(found.values()) - found["identity"] < 0.06
    assert found["identity"] == pytest.approx(evaluate(Pointwise(), [split], 2).summary(0.5)["max_f1"], abs=0.03)
    assert summaries(LeftHalf(), [split])["flip"]["max_f1"] < 0.5


def test_identity_and_exact_turns_have_equal_f1(tmp_path):
    found = summaries(Pointwise(), [packed(tmp_path, (40, 20, 95, 60), shape=(SIZE, SIZE))])
    for name in ("quarter_turn", "flip"):
        assert found[name] == pytest.approx(found["identity"])


def test_a_centre_turns_with_the_image(tmp_path):
    found = summaries(Pointwise(), [packed(tmp_path, (58, 40, 62, 40), task="rotation")])
    assert all(0.4 < row["max_f1"] < 1 for row in found.values())


def test_the_left_half_by_hand(split):
    found = summaries(LeftHalf(), [split])
    for part, margin in (("model", MODEL_MARGIN), ("decoder", DECODER_MARGIN)):
        assert found["identity"][f"{part}_mean_difference"] == 0
        assert found["flip"][f"{part}_mean_difference"] == pytest.approx(1)
        assert found["quarter_turn"][f"{part}_mean_difference"] == pytest.approx(0.5)
        angles = np.abs([tilt(0, number) for number in range(3)])
        assert found["rotation"][f"{part}_mean_difference"] == pytest.approx(angles.mean() / 180, rel=0.1)
        left = disc(SIZE, margin).numpy() & (np.arange(SIZE) < SIZE // 2)
        dilated = binary_dilation(left, np.hypot(*np.mgrid[-5:6, -5:6]) <= 5)
        for name, other in (("flip", dilated[:, ::-1]), ("quarter_turn", np.rot90(dilated))):
            expected = 1 - (dilated & other).sum() / dilated.sum()
            assert found[name][f"{part}_disagreement"] == pytest.approx(expected)


def test_batches_do_not_matter(split):
    first, second = (summaries(LeftHalf(), [split], batch=batch) for batch in (1, 3))
    assert all(first[name] == pytest.approx(second[name]) for name in TRANSFORMATIONS)


def test_sums_add_up_over_splits(split):
    other = PackedSplit(split.path, split.task, chosen=(2, 0))
    together, *alone = (robustness(LeftHalf(), splits, 2, 0.5, 0) for splits in ([split, other], [split], [other]))
    for name in TRANSFORMATIONS:
        assert together[name].summary(0.5) == pytest.approx((alone[0][name] + alone[1][name]).summary(0.5))
        assert together[name].model.pixels == 5 * disc(SIZE, MODEL_MARGIN).sum()


def test_the_seed_draws_the_angles(split):
    first, again, other = (summaries(LeftHalf(), [split], seed=seed) for seed in (0, 0, 1))
    assert first == again and first["rotation"] != other["rotation"] and first["flip"] == other["flip"]


def test_without_ground_truth_there_is_no_f1():
    row = Robustness.zero().summary(0.5)
    assert list(row) == [
        "max_f1", "f1_at_threshold",
        "model_mean_difference", "model_disagreement", "decoder_mean_difference", "decoder_disagreement",
    ]  # fmt: skip
    assert row["max_f1"] is None and row["f1_at_threshold"] is None and set(list(row.values())[2:]) == {None}


def test_a_framed_mask_lies_in_the_middle():
    frame = framed(np.ones((3, 7), bool))
    assert frame.shape == (7, 7) and frame[2:5].all() and frame.sum() == 21


def real(kind, group):
    """The tiny model with random weights."""
    entry = PARAMS.backbones["tiny"].model_copy(update={"input_size": SIZE})
    decoder = PARAMS.decoder.model_copy(update={"width": 8, "group": group, "layers": 2, "upsampler": kind})
    torch.manual_seed(0)
    backbone = pretrained(entry)
    text = backbone.embed(["cat", "tree"])
    return build_model(backbone.image_tower(), text, decoder, "fp32").eval()


@pytest.mark.parametrize(
    ("kind", "group", "exact"),
    [
        ("equivariant", "C4", ["quarter_turn"]),
        ("equivariant", "C8", ["quarter_turn"]),
        ("equivariant", "D4", ["quarter_turn", "flip"]),
        ("plain", "C4", []),
    ],
)
def test_the_decoder_commutes_as_its_group_does(kind, group, exact):
    model, images, degrees = real(kind, group), torch.rand(2, 3, SIZE, SIZE), [20.0, -30.0]
    with torch.no_grad():
        middle = float(model(images).sigmoid().median())  # both sides of the threshold are there
        alone = consistency(*decoder_alone(model, images), degrees, DECODER_MARGIN, middle)
        whole = consistency(lambda maps: model(*maps), [images], degrees, MODEL_MARGIN, middle)
    for name in TRANSFORMATIONS[1:]:
        assert (alone[name].mean_difference < 1e-5) == (name in exact)
        assert name not in exact or alone[name].disagreement < 1e-3
        assert whole[name].mean_difference > 1e-5  # the image tower does not commute


def test_the_decoder_alone_is_the_one_of_the_model(split):
    model, images = real("equivariant", "C4"), torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        decode, maps = decoder_alone(model, images)
        torch.testing.assert_close(decode(maps), model(images))  # as large as the images: nothing is resized
        found = summaries(model, [split])
    assert found["quarter_turn"]["decoder_mean_difference"] < 1e-5 < found["quarter_turn"]["model_mean_difference"]
