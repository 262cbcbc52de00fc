"""The public entry: any image in, heat map at its size out, with what was found in it."""

import copy
import json
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import load
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre
from pipeline.detection.folds import with_folds
from pipeline.errors import CheckpointError, DataError
from pipeline.inference.detection import Detection
from pipeline.inference.detector import SHIPPED, Detector, pixels_of
from pipeline.model.checkpoint import load_model
from pipeline.model.kernels import line_matrix, spreading_kernel
from tests.detection.test_folds import dial
from tests.model.test_checkpoint import saved, small_lite, tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random model, whose heat maps are nothing to speak of."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    saved(path, tiny("none"))
    return path


@pytest.fixture(scope="module")
def detector(checkpoint):
    return load("reflection", checkpoint, "cpu")


def photograph(height=50, width=70, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def detection(axes=(), centres=(), task="reflection"):
    pixels = photograph()
    return Detection(task, np.zeros((50, 70), np.float32), tuple(axes), tuple(centres), 0.9, 0.5, pixels)


def test_every_kind_of_image_gives_the_same(detector, tmp_path):
    pixels = photograph()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = detector.detect(pixels)
    rgba = np.dstack([pixels, np.full((50, 70), 255, np.uint8)])
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels), pixels / 255, rgba):
        found = detector.detect(image)
        np.testing.assert_array_equal(found.image, pixels)
        np.testing.assert_array_equal(found.heatmap, expected.heatmap)
    assert expected.heatmap.shape == (50, 70) and expected.heatmap.dtype == np.float32
    assert 0 <= expected.heatmap.min() and expected.heatmap.max() <= 1


def test_grey_images():
    grey = photograph()[..., 0]
    for image in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(pixels_of(image), np.dstack([grey] * 3))


def test_photographs_are_turned_as_they_are_seen(tmp_path):
    image = Image.fromarray(photograph())
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(photograph(), -1)
    np.testing.assert_array_equal(pixels_of(tmp_path / "turned.png"), expected)
    np.testing.assert_array_equal(pixels_of(Image.open(tmp_path / "turned.png")), expected)


@pytest.mark.parametrize(
    "image, message",
    [
        (None, "expected a path, an open file, a PIL image or an array, got NoneType"),
        (np.zeros((3, 40, 50), np.uint8), "got shape [3, 40, 50]"),
        (np.zeros((0, 50), np.uint8), "got shape [0, 50]"),
        (np.zeros((4, 5), np.int64), "got int64"),
        (np.full((4, 5), 1.5), "expected floats in 0..1, got 1.5 to 1.5"),
        (np.full((4, 5), np.nan), "expected floats in 0..1"),
        ("nowhere.jpg", "nowhere.jpg: image not found"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(DataError) as error:
        pixels_of(image)
    assert message in str(error.value)


def test_the_mirror_image_has_the_mirrored_map(detector):
    pixels = photograph(60, 60)
    np.testing.assert_allclose(
        detector.detect(pixels[:, ::-1]).heatmap, detector.detect(pixels).heatmap[:, ::-1], atol=1e-5
    )


def test_a_heat_map_is_the_mean_over_the_views():
    views = (64, False), (48, True), (48, False)
    model, record = load_model(SHIPPED / "lite_reflection.safetensors")  # which takes any size
    together, *alone = (Detector(model, replace(record, views=some)) for some in (views, *((v,) for v in views)))
    expected = np.mean([detector.heat_maps([photograph()])[0] for detector in alone], axis=0)
    assert np.ptp([detector.heat_maps([photograph()])[0] for detector in alone], axis=0).max() > 1e-4
    np.testing.assert_allclose(together.heat_maps([photograph()])[0], expected, atol=1e-6)


def test_batches_and_threads_change_nothing(detector):
    images = [photograph(40 + n, 60 - 2 * n, seed=n) for n in range(7)]
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(detector.detect, images))
    for expected, batched, threaded in zip(alone, detector.stream(iter(images), batch=3), at_once, strict=True):
        np.testing.assert_allclose(batched.heatmap, expected.heatmap, atol=1e-5)
        np.testing.assert_array_equal(threaded.heatmap, expected.heatmap)
    assert list(detector.stream([])) == []


def test_results_do_not_change(detector):
    found = detector.detect(photograph())
    with pytest.raises(FrozenInstanceError):
        found.score = 1.0
    for array in (found.heatmap, found.image):
        with pytest.raises(ValueError):
            array[0, 0] = 0
    mine = photograph()
    detector.detect(mine)
    mine[0, 0] = 7  # the caller's array stays writable


def test_tables_and_json():
    axis, centre = DetectedAxis(1.5, 2, 3, 4, 0.9), DetectedCentre(5, 6, 0.7)
    found = detection(axes=[axis, DetectedAxis(0, 0, 1, 1, 0.6)])
    assert found.symmetric and found.above(0.8).axes == (axis,) and found.above(0.8).threshold == 0.8
    assert not found.above(0.95).symmetric and found.above(0.95).score == 0.9
    assert [(x1, y2, score) for x1, _, _, y2, score in found.axes] == [(1.5, 4, 0.9), (0, 1, 0.6)]
    content = json.loads(found.to_json())
    assert content["axes"][0] == {"x1": 1.5, "y1": 2, "x2": 3, "y2": 4, "score": 0.9}
    assert (content["width"], content["height"]) == (70, 50)
    table = found.to_pandas()
    assert list(table.columns) == ["kind", "x1", "y1", "x2", "y2", "score"] and len(table) == 2
    turned = detection(centres=[centre], task="rotation")
    assert [tuple(one) for one in turned.centres] == [(5, 6, 0.7, None)]
    assert turned.to_dict()["centres"] == [{"x": 5, "y": 6, "score": 0.7, "fold": None}]
    table = turned.to_pandas()
    assert list(table.iloc[0]) == ["centre", 5, 6, 0.7, None]
    assert list(detection().to_pandas().columns) == ["kind", "x1", "y1", "x2", "y2", "score"]


def test_large_pictures_are_worked_through_in_parts(tmp_path):
    """Bytes of arrays a pixel: the result and little more, where whole copies as floats would take 40."""
    pixels = 3000 * 2000
    path = tmp_path / "large.png"
    Image.new("RGBA", (3000, 2000), (200, 30, 60, 128)).save(path, compress_level=1)
    found = Detection("reflection", np.zeros((2000, 3000), np.float32), (), (), 0.0, 0.5, pixels_of(path))
    for work, allowed in ((lambda: pixels_of(path), 12), (found.overlay, 12)):
        tracemalloc.start()
        work()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < allowed * pixels


def test_threshold_and_task_come_from_the_checkpoint(detector, checkpoint):
    assert detector.threshold == 0.5  # none is stored
    assert detector.detect(photograph()).threshold == detector.threshold
    assert detector.info()["threshold"] == detector.threshold
    json.dumps(detector.info())
    with pytest.raises(CheckpointError, match="its task is reflection, not rotation"):
        load("rotation", checkpoint)
    with pytest.raises(CheckpointError, match="nowhere"):
        load("reflection", "nowhere.safetensors")


def test_precision(checkpoint, detector):
    half = load("reflection", checkpoint, "cpu", "bf16").detect(photograph())
    full = detector.detect(photograph())
    assert half.heatmap.dtype == np.float32
    assert 0 < np.abs(half.heatmap - full.heatmap).max() < 0.05


def test_native_size_decides_nothing_but_resolution(detector):
    """A large picture and its reduction have about the same heat map."""
    smooth = Image.fromarray(photograph(8, 8)).resize((900, 900), Image.Resampling.BICUBIC)
    large, small = (detector.detect(smooth.resize((side, side))).heatmap for side in (900, 64))
    reduced = torch.nn.functional.interpolate(torch.tensor(large)[None, None], size=(64, 64), mode="area")[0, 0]
    assert np.abs(reduced.numpy() - small).max() < 0.05


MODES = {"inference": torch.inference_mode, "no gradients": torch.no_grad, "gradients": torch.enable_grad}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shipped", [True, False])
def test_loading_in_any_mode_gives_the_same_model(checkpoint, mode, shipped):
    """It detects in any other mode, and learns."""
    spreading_kernel.cache_clear()
    line_matrix.cache_clear()
    with MODES[mode]():
        detector = load("reflection", None if shipped else checkpoint, "cpu", engine="torch")
        expected = detector.detect(photograph()).heatmap
    for other in MODES.values():
        with other():
            np.testing.assert_array_equal(detector.detect(photograph()).heatmap, expected)
    model, images = detector.model.train(), torch.rand(1, 3, 64, 64)
    model(images).square().mean().backward()
    gradients = [parameter.grad for parameter in model.decoder.parameters()]
    assert all(gradient is not None for gradient in gradients) and any(gradient.any() for gradient in gradients)


def by_pickle(detector, folder):
    return pickle.loads(pickle.dumps(detector))


def by_torch(detector, folder):
    torch.save(detector, folder / "detector.pt")
    return torch.load(folder / "detector.pt", weights_only=False)


@pytest.mark.parametrize("way", [by_pickle, by_torch, lambda detector, folder: copy.deepcopy(detector)])
@pytest.mark.parametrize("kind", ["shipped", "tiny", "lite", "text"])
def test_copies(tmp_path, way, kind):
    path = None if kind == "shipped" else tmp_path / "model.safetensors"
    if path:
        saved(path, {"tiny": lambda: tiny("none"), "lite": small_lite, "text": tiny}[kind]())
    detector = load("reflection", path, "cpu", engine="torch")
    expected, keys = detector.detect(photograph()).heatmap, list(detector.model.state_dict())
    twin = way(detector, tmp_path)
    np.testing.assert_array_equal(twin.detect(photograph()).heatmap, expected)
    assert twin.info() == detector.info() and list(twin.model.train().state_dict()) == keys
    with torch.no_grad():
        next(twin.model.decoder.upsampler.parameters()).add_(1)
    assert np.abs(twin.detect(photograph()).heatmap - expected).max() > 1e-6
    np.testing.assert_array_equal(detector.detect(photograph()).heatmap, expected)


def test_goes_to_another_process(detector):
    """Which imports the package for it."""
    image = photograph()
    expected = detector.detect(image)
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(detector.detect, (image,))
    np.testing.assert_array_equal(found.heatmap, expected.heatmap)
    assert found == expected


def test_a_heat_map_is_never_nan(detector):
    broken = copy.deepcopy(detector)
    with torch.no_grad():
        broken.model.decoder.decoder_linear_map.bias.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not finite in fp32"):
        broken.detect(photograph())


@pytest.mark.parametrize("padding", range(0, 256, 8))
def test_a_checkpoint_is_one_whatever_its_first_byte(checkpoint, tmp_path, padding):
    """The length of its header: a pickle may begin with the same."""
    content = checkpoint.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].ljust(length + padding)
    (tmp_path / "model.pt").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    assert load("reflection", tmp_path / "model.pt", "cpu").record.epoch == 7


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_centres_have_folds(engine):
    """Those of the picture itself, at whatever size; the one that is the dial's is told."""
    image = np.asarray(Image.fromarray(dial(5)).resize((600, 600), Image.Resampling.BICUBIC))
    found = load("rotation", engine=engine, device="cpu").detect(image, threshold=0)
    middle = min(found.centres, key=lambda centre: abs(centre.x - 299.5) + abs(centre.y - 299.5))
    assert abs(middle.x - 299.5) + abs(middle.y - 299.5) < 12 and middle.fold == 5
    assert list(found.centres) == with_folds(image, [centre._replace(fold=None) for centre in found.centres])
