"""Packed splits give back what went in; images that cannot be read are named."""

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.errors import DataError
from pipeline.geometry import Letterbox
from pipeline.packing import PackedSplit, pack, packed_splits, read_image
from pipeline.targets import mask, native_target, normalised

SIZE = 64
COLOUR = (204, 51, 102)
SHAPES = {"wide": (50, 90), "tall": (131, 77), "small": (20, 20), "bare": (64, 64), "narrow": (1, 40)}
MARKS = Annotation(
    axes=(ReflectionAxis(3.7, 1.2, 30.5, 18.9), ReflectionAxis(0, 9, 19, 9)),
    discs=(ReflectionDisc(((10.5, 2), (11, 8), (8, 5), (13, 5.25))),),
    centres=(RotationCentre(12.5, 7.1, 5), RotationCentre(2, 3, 0), RotationCentre(300, 3, 4)),
)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def samples(tmp_path):
    """Images of noise, all marked but `bare`."""
    rng = np.random.default_rng(0)
    return [
        Sample(
            name,
            save(tmp_path / "images" / f"{name}.png", rng.integers(0, 256, (*shape, 3), np.uint8)),
            Annotation() if name == "bare" else MARKS,
        )
        for name, shape in SHAPES.items()
    ]


def packed(folder, samples, task="reflection", size=SIZE):
    pack(samples, task, size, folder, "test")
    return PackedSplit(folder, task)


@pytest.mark.parametrize("task", ["reflection", "rotation"])
def test_round_trip(tmp_path, samples, task):
    split = packed(tmp_path / "packed" / "dendi" / "train", samples, task)
    assert (len(split), split.size, split.dataset, split.task) == (len(samples), SIZE, "dendi", task)
    assert [split.name(number) for number in range(len(split))] == list(SHAPES)
    for number in reversed(range(len(split))):
        sample, shape = samples[number], SHAPES[split.name(number)]
        letterbox, marked = Letterbox(*shape, SIZE), mask(sample.annotation, task, *shape)
        assert split.letterbox(number) == letterbox
        assert split.image(number).dtype == np.uint8
        np.testing.assert_array_equal(split.image(number), letterbox.image(np.array(Image.open(sample.image))))
        target = normalised(letterbox.target(native_target(marked, task)))
        assert split.target(number).dtype == target.dtype == np.float32
        np.testing.assert_array_equal(split.target(number), target)
        assert split.mask(number).dtype == bool
        np.testing.assert_array_equal(split.mask(number), marked)
        assert marked.any() == target.any() == (sample.name not in ("bare", "narrow"))


def test_arrays_on_disk(tmp_path, samples):
    split = packed(tmp_path / "train", samples)
    arrays = {name: np.load(tmp_path / "train" / f"{name}.npy") for name in ("images", "where", "values", "starts")}
    types = {"images": np.uint8, "where": np.int32, "values": np.float32, "starts": np.int64}
    assert {name: array.dtype for name, array in arrays.items()} == types
    counts = [np.count_nonzero(split.target(number)) for number in range(len(split))]
    np.testing.assert_array_equal(np.diff(arrays["starts"]), counts)
    assert arrays["starts"][0] == 0 and len(arrays["where"]) == len(arrays["values"]) == sum(counts)
    assert (arrays["values"] > 0).all()


def test_what_is_returned_can_be_written_to(tmp_path, samples):
    split = packed(tmp_path / "train", samples)
    for take in (split.image, split.target):
        before = take(0).copy()
        array = take(0)
        array += 1
        np.testing.assert_array_equal(take(0), before)


def test_packing_again_replaces_everything(tmp_path, samples):
    packed(tmp_path / "train", samples)
    split = packed(tmp_path / "train", samples[2:3], "rotation", 32)
    assert (len(split), split.size, split.name(0)) == (1, 32, "small")
    assert split.image(0).shape == (32, 32, 3) and split.target(0).shape == (32, 32)


def test_splits_without_images_or_marks(tmp_path, samples):
    empty = packed(tmp_path / "sdrw" / "val", [])
    assert len(empty) == 0 and empty.size == SIZE
    bare = packed(tmp_path / "ldrs" / "val", samples[3:4])
    assert len(bare) == 1 and not bare.target(0).any() and not bare.mask(0).any()


def test_packed_splits(tmp_path, samples):
    packed(tmp_path / "dendi" / "val", samples)
    packed(tmp_path / "sdrw" / "val", [])
    packed(tmp_path / "ldrs" / "val", samples[:2])
    packed(tmp_path / "ldrs" / "test", samples[:1])
    found = packed_splits(tmp_path, ["ldrs", "nyu", "sdrw", "dendi"], "val", "reflection")
    assert [(split.dataset, len(split), split.task) for split in found] == [
        ("ldrs", 2, "reflection"),
        ("dendi", len(samples), "reflection"),
    ]
    assert packed_splits(tmp_path, ["nyu", "sdrw"], "val", "reflection") == []


@pytest.mark.parametrize("shape", [(120, 90), (60, 100), (33, 33)])
def test_native_image_is_close_to_the_original(tmp_path, shape):
    rows, columns = np.indices(shape) / np.array(shape)[:, None, None]
    smooth = np.stack([255 * rows, 255 * columns, 127 + 60 * np.sin(6 * rows + 4 * columns)], axis=2).astype(np.uint8)
    sample = Sample("smooth", save(tmp_path / "smooth.png", smooth), MARKS)
    native = packed(tmp_path / "train", [sample], size=96).native_image(0)
    assert native.shape == (*shape, 3) and native.dtype == np.uint8
    difference = np.abs(native.astype(int) - smooth)[2:-2, 2:-2]  # the region may begin or end in a black bar
    assert difference.mean() < 2 and difference.max() < 8


@pytest.mark.parametrize(
    ("mode", "suffix", "colour"),
    [
        ("RGB", ".png", COLOUR),
        ("L", ".png", (77, 77, 77)),
        ("L", ".jpg", (77, 77, 77)),
        ("1", ".png", (255, 255, 255)),
        ("P", ".png", COLOUR),
        ("P", ".gif", COLOUR),
        ("RGBA", ".png", COLOUR),
        ("LA", ".png", (77, 77, 77)),
        ("CMYK", ".jpg", COLOUR),
        ("CMYK", ".tif", COLOUR),
    ],
)
def test_modes_become_rgb(tmp_path, mode, suffix, colour):
    image = Image.new("RGB", (7, 5), colour).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(100)  # transparency has no meaning here
    image.save(tmp_path / f"image{suffix}")
    with Image.open(tmp_path / f"image{suffix}") as opened:
        assert opened.mode == mode
    found = read_image(tmp_path / f"image{suffix}")
    assert found.shape == (5, 7, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found, np.broadcast_to(colour, (5, 7, 3)), atol=3 if suffix == ".jpg" else 0)


def bad_image(folder, kind, suffix):
    path = folder / f"bad{suffix}"
    if kind != "missing":
        save(path, np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8))
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>"}[kind])
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["missing", "cut", "empty", "text"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, samples, kind, suffix):
    path = bad_image(tmp_path, kind, suffix)
    with pytest.raises(DataError, match="not found" if kind == "missing" else "cannot be decoded") as caught:
        pack([*samples, Sample("bad", path, MARKS)], "reflection", SIZE, tmp_path / "train", "test")
    assert str(path) in str(caught.value)


def test_an_image_of_absurd_size_is_named(samples, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="wide.png"):
        read_image(samples[0].image)
