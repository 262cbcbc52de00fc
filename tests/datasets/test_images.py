"""Image files of all kinds become RGB bytes; those that cannot be trusted are named."""

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import images
from pipeline.datasets.images import read_photograph
from pipeline.errors import DataError

COLOUR = (204, 51, 102)


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "suffix", "colour"),
    [
        ("RGB", ".png", COLOUR),
        ("RGB", ".webp", COLOUR),
        ("RGB", ".bmp", COLOUR),
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
    found = read_photograph(save(tmp_path / f"image{suffix}", image))
    assert found.pixels.shape == (5, 7, 3) and found.pixels.dtype == np.uint8 and found.mode == mode
    np.testing.assert_allclose(found.pixels, np.broadcast_to(colour, (5, 7, 3)), atol=4)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["missing", "cut", "empty", "text"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, kind, suffix):
    path = tmp_path / f"bad{suffix}"
    if kind != "missing":
        save(path, Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)))
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>"}[kind])
    with pytest.raises(DataError, match="not found" if kind == "missing" else "cannot be decoded") as caught:
        read_photograph(path)
    assert str(path) in str(caught.value)


def test_an_image_of_absurd_size_is_not_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "wide.png", Image.new("1", (20_000, 5_001)))
    with pytest.raises(DataError, match="wide.png: expected at most 100000000 pixels, got 20000 x 5001"):
        read_photograph(path)
    monkeypatch.setattr(images, "LARGEST_IMAGE", 20_000 * 5_001)
    assert read_photograph(path).pixels.shape == (5_001, 20_000, 3)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_a_channel_would_be_clipped(tmp_path, mode):
    path = save(tmp_path / "deep.tif", Image.new(mode, (5, 5)))
    with pytest.raises(DataError, match="deep.tif: expected 8 bits a channel"):
        read_photograph(path)


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "page.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="cannot be decoded"):
        read_photograph(tmp_path / "page.jpg")


TURNS = {  # orientation -> the stored picture turned or mirrored as it wants to be seen
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_photograph(save(tmp_path / "turned.png", Image.fromarray(pixels), exif=exif))
    assert found.orientation == orientation
    np.testing.assert_array_equal(found.pixels, pixels)
    np.testing.assert_array_equal(found.turned(), TURNS[orientation](pixels))


def test_the_format_is_that_of_the_content(tmp_path):
    assert read_photograph(save(tmp_path / "called.jpg", Image.new("RGB", (3, 3)), format="PNG")).format == "PNG"
