"""Image files of all kinds become RGB bytes; those that cannot be trusted are named."""

import ast
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from pipeline.data.reading import images
from pipeline.data.reading.images import pixels_of_array, pixels_of_image, read_photograph
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
        ("RGB", ".avif", COLOUR),
        ("RGB", ".ppm", COLOUR),
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


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_absurd_size_is_not_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "wide.png", Image.new("1", (20_000, 5_001)))
    with pytest.raises(DataError, match="wide.png: expected at most 100000000 pixels, got 20000 x 5001"):
        read_photograph(path)
    monkeypatch.setattr(images, "LARGEST_IMAGE", 20_000 * 5_001)
    assert read_photograph(path).pixels.shape == (5_001, 20_000, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("guard", "got"), [(1024**3 // 4 // 3, "900000000"), (None, "30000 x 30000")])
def test_a_header_of_absurd_size_is_refused_before_anything_is_decoded(guard, got, tmp_path, monkeypatch):
    """30,000 x 30,000 pixels, of which the file holds none. Other libraries turn Pillow's own limit off."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", guard)
    save(tmp_path / "huge.png", Image.new("1", (8, 8)))
    content = bytearray((tmp_path / "huge.png").read_bytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(content)
    with pytest.raises(DataError, match=f"huge.png: expected at most 100000000 pixels, got {got}$"):
        read_photograph(tmp_path / "huge.png")
    with Image.open(save(tmp_path / "wide.png", Image.new("1", (20_000, 5_001)))) as image:
        with pytest.raises(DataError, match="the PIL image: expected at most 100000000 pixels, got 20000 x 5001"):
            pixels_of_image(image)


DEEP = np.linspace(0, 65535, 7 * 5).astype(np.uint16).reshape(5, 7)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_their_upper_eight_whatever_they_come_as(tmp_path, suffix):
    path = save(tmp_path / f"deep{suffix}", Image.fromarray(DEEP))
    expected = np.repeat((DEEP >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_photograph(path).pixels, expected)
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels_of_image(image), expected)
    for array in (DEEP, DEEP[..., None], DEEP.astype(">u2"), np.dstack([DEEP] * 3)):
        np.testing.assert_array_equal(pixels_of_array(array), expected)


def test_sixteen_bits_of_a_colour_file_are_those_of_the_array(tmp_path):
    colours = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    head = (7).to_bytes(4, "big") + (5).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(len(c).to_bytes(4, "big") + n + c + zlib.crc32(n + c).to_bytes(4, "big") for n, c in chunks)
    )
    np.testing.assert_array_equal(read_photograph(tmp_path / "deep.png").pixels, pixels_of_array(colours))


def test_twelve_bits_of_a_tiff_are_scaled_by_their_own_range(tmp_path):
    entries = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    packed = bytes([0xFF, 0xF8, 0x00])  # 4095, 2048
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    content = b"II*\0" + struct.pack("<I", 12) + packed + b"\0" + struct.pack("<H", len(entries)) + tags + bytes(4)
    (tmp_path / "twelve.tif").write_bytes(content)
    np.testing.assert_array_equal(read_photograph(tmp_path / "twelve.tif").pixels[0, :, 0], [255, 128])


@pytest.mark.parametrize("rows", [2, 3000])  # of the second, strips are decoded
@pytest.mark.parametrize(("kind", "sample"), [("u1", 1), ("<u2", 1), ("<f4", 3)])
def test_a_tiff_in_which_zero_is_white(tmp_path, monkeypatch, kind, sample, rows):
    monkeypatch.setattr("pipeline.data.reading.images.STRIP", 1000)
    black = np.ones(2 * rows, kind) * (1 if sample == 3 else np.iinfo(kind).max)
    write_tiff(tmp_path / "a.tif", black * np.resize([0, 1], 2 * rows).astype(kind), rows, sample)
    pixels = read_photograph(tmp_path / "a.tif").pixels
    assert pixels.shape == (rows, 2, 3) and (pixels[:, 0] == 255).all() and (pixels[:, 1] == 0).all()


def test_a_camera_raw_of_another_name_is_told(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros(4, "u1"), 2, 1, (50706, 0x0401))
    with pytest.raises(DataError, match="a.tif: camera raw, which is not read"):
        read_photograph(tmp_path / "a.tif")


def write_tiff(path, values, rows, sample, *more):
    """Grey of two columns, of which 0 is white, in a TIFF of one strip."""
    bits = 8 * values.itemsize
    entries = [(256, 2), (257, rows), (258, bits), (259, 1), (262, 0), (273, 8), (277, 1), (278, rows)]
    entries += [(279, values.nbytes), (339, sample), *more]
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + values.nbytes)
    path.write_bytes(head + values.tobytes() + struct.pack("<H", len(entries)) + tags + bytes(4))


def test_premultiplied_grey_in_memory():
    grey = Image.new("LA", (2, 2), (90, 255))
    assert (pixels_of_image(grey.convert("La")) == 90).all()


def test_floats_are_shares_of_one_whatever_they_come_as(tmp_path):
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    image = Image.fromarray(values)
    found = read_photograph(save(tmp_path / "float.tif", image)).pixels
    for other in (pixels_of_image(image), pixels_of_array(values)):
        np.testing.assert_array_equal(found, other)
    with pytest.raises(DataError, match="wide.tif: expected floats in 0..1, got 0 to 2"):
        read_photograph(save(tmp_path / "wide.tif", Image.fromarray(2 * values)))


def test_whole_numbers_of_no_known_range_are_refused_whatever_they_come_as(tmp_path):
    image = Image.new("I", (5, 5))
    with pytest.raises(DataError, match="deep.tif: expected 8 or 16 bits a channel"):
        read_photograph(save(tmp_path / "deep.tif", image))
    with pytest.raises(DataError, match="the PIL image: expected 8 or 16 bits a channel"):
        pixels_of_image(image)
    with pytest.raises(DataError, match="expected uint8, uint16, bool or floats"):
        pixels_of_array(np.zeros((5, 5), np.int32))


def logo(ink):
    """A disc of `ink` on nothing, RGBA."""
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse([5, 5, 34, 34], fill=(*ink, 255))
    return image


WAYS = {  # file name -> the picture that is saved as it, and options
    "rgba.png": lambda i: (i, {}),
    "rgba.webp": lambda i: (i, {"lossless": True}),
    "rgba.tif": lambda i: (i, {}),
    "rgba.gif": lambda i: (i, {}),
    "palette.png": lambda i: (i.quantize(8, method=Image.Quantize.FASTOCTREE), {}),
    "grey.png": lambda i: (i.convert("LA"), {}),
    "key.png": lambda i: (opaque(i, (1, 2, 3)), {"transparency": (1, 2, 3)}),
    "grey-key.png": lambda i: (opaque(i, (9, 9, 9)).convert("L"), {"transparency": 9}),
    "deep-key.png": lambda i: (deep(opaque(i, (9, 9, 9))), {"transparency": 9 * 256}),
}


def opaque(image, ground):
    return Image.composite(image, Image.new("RGBA", image.size, (*ground, 255)), image.getchannel("A")).convert("RGB")


def deep(image):
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(("ink", "ground"), [((0, 0, 0), 255), ((255, 255, 255), 0)])
def test_what_is_transparent_becomes_a_ground_on_which_the_rest_shows(tmp_path, name, ink, ground):
    expected = np.asarray(opaque(logo(ink), (ground,) * 3))
    image, options = WAYS[name](logo(ink))
    path = save(tmp_path / name, image, **options)
    with Image.open(path) as opened:
        for found in (read_photograph(path).pixels, pixels_of_image(opened)):
            np.testing.assert_allclose(found, expected, atol=1)


def test_opacity_of_arrays_and_of_images_in_memory():
    image = logo((200, 30, 60))
    expected = np.asarray(opaque(image, (255, 255, 255)))
    array = np.asarray(image)
    for found in (array, array / 255, array.astype(np.uint16) * 257):
        np.testing.assert_array_equal(pixels_of_array(found), expected)
    for found in (image, image.convert("RGBa")):
        np.testing.assert_array_equal(pixels_of_image(found), expected)
    half = np.dstack([np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 51, np.uint8)])
    assert (pixels_of_array(half) == 204).all()


def test_strips_change_nothing(tmp_path, monkeypatch):
    pictures = [logo((10, 200, 30)), logo((0, 0, 0)).quantize(8, method=2), Image.fromarray(DEEP)]
    pictures.append(Image.new("CMYK", (7, 9), (10, 20, 30, 40)))
    whole = [pixels_of_image(picture) for picture in pictures]
    monkeypatch.setattr(images, "STRIP", 45)
    for picture, expected in zip(pictures, whole):
        np.testing.assert_array_equal(pixels_of_image(picture), expected)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("CMYK", ".jpg"), ("L", ".jpg"), ("P", ".png"), ("1", ".tif"), ("LAB", ".tif")]
)
def test_files_and_pil_images_give_the_same_bytes(tmp_path, mode, suffix):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    source = noise if mode != "LAB" else Image.merge("LAB", noise.split())
    path = save(tmp_path / f"image{suffix}", source if mode == "LAB" else source.convert(mode))
    expected = read_photograph(path).pixels
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels_of_image(image), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(read_photograph(file).pixels, expected)


@pytest.mark.parametrize("name", ["page.jpg", "page.png", "page.eps"])
def test_postscript_is_not_run(tmp_path, monkeypatch, name):
    """Pillow would start Ghostscript on it, whatever its name."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=f"{name}: PostScript, which is not read"):
        read_photograph(tmp_path / name)
    with (tmp_path / name).open("rb") as file, pytest.raises(DataError, match="the picture: PostScript"):
        read_photograph(file)
    assert not (tmp_path / "called").exists()


def test_every_image_is_opened_with_a_list_of_formats():
    """Pillow's own list holds PostScript, and grows with each version and plugin."""
    project = Path(__file__).parents[3]
    files = [
        file for folder in ("pipeline", "stages", "benchmarks") for file in sorted((project / folder).rglob("*.py"))
    ]
    calls = [
        (file.name, call)
        for file in files for call in ast.walk(ast.parse(file.read_text())) if isinstance(call, ast.Call)
        if ast.unparse(call.func) in ("Image.open", "PIL.Image.open")
    ]  # fmt: skip
    assert calls and [name for name, call in calls if "formats" not in [word.arg for word in call.keywords]] == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (bytes.fromhex("00000018") + b"ftypheic" + bytes(40), "HEIC"),
        (bytes.fromhex("00000018") + b"ftypmif1" + bytes(40), "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"II\xbc\x01" + bytes(40), "JPEG XR"),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nENDHDR\n1", "PAM"),
    ],
)
def test_a_kind_that_is_not_read_is_named_with_what_to_do(tmp_path, content, kind):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=f"a.jpg: {kind}, which is not read; convert it to JPEG or PNG"):
        read_photograph(tmp_path / "a.jpg")


def test_a_link_to_nothing_says_so(tmp_path):
    (tmp_path / "a.jpg").symlink_to("/annex/gone.jpg")
    with pytest.raises(DataError, match="a.jpg: a link to /annex/gone.jpg, which is not there"):
        read_photograph(tmp_path / "a.jpg")


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
@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".png", {}), (".webp", {"lossless": True}), (".tif", {}), (".tif", {"compression": "tiff_lzw"}),
     (".avif", {"quality": 100, "subsampling": "4:4:4"}), (".jpg", {"quality": 100, "subsampling": 0})],
)  # fmt: skip
def test_orientation_is_applied_once_whoever_applies_it(tmp_path, orientation, suffix, options):
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"turned{suffix}", Image.fromarray(pixels), exif=exif, **options)
    found = read_photograph(path)
    assert found.orientation == orientation
    np.testing.assert_allclose(found.pixels, pixels, atol=6)
    np.testing.assert_array_equal(found.turned(), TURNS[orientation](found.pixels))
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels_of_image(image), found.turned())
        np.testing.assert_array_equal(pixels_of_image(image), found.turned())  # decoded before


DAMAGED = [
    b"no exif at all",
    bytes(40),
    b"\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01",
    b"",
    b"II*\0\xff\xff\xff\x7f",
    b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04six\0",  # a word for a number
    b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",  # 9
]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", DAMAGED)
@pytest.mark.parametrize(
    ("suffix", "options"), [(".jpg", {}), (".jpg", {"dpi": (72, 72)}), (".png", {}), (".webp", {})]
)
def test_exif_that_cannot_be_read_leaves_the_picture_upright(tmp_path, exif, suffix, options):
    path = save(tmp_path / f"a{suffix}", Image.new("RGB", (6, 4), COLOUR), exif=b"Exif\0\0" + exif, **options)
    found = read_photograph(path)
    assert found.orientation == 1 and found.pixels.shape == (4, 6, 3)
    with Image.open(path) as image:
        assert pixels_of_image(image).shape == (4, 6, 3)


def test_damaged_exif_of_an_avif(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    path = save(tmp_path / "a.avif", Image.new("RGB", (6, 4), COLOUR), exif=exif)
    path.write_bytes(path.read_bytes().replace(b"MM\0*", bytes(4)))
    with path.open("rb") as file:
        for source in (path, file):
            found = read_photograph(source)
            assert found.orientation == 1 and found.pixels.shape == (4, 6, 3)


def test_damaged_exif_in_a_text_of_a_png(tmp_path):
    info = PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n      20\nnot hexadecimal\n")
    path = save(tmp_path / "a.png", Image.new("RGB", (6, 4)), pnginfo=info)
    assert read_photograph(path).orientation == 1


def test_the_format_is_that_of_the_content(tmp_path):
    assert read_photograph(save(tmp_path / "called.jpg", Image.new("RGB", (3, 3)), format="PNG")).format == "PNG"
