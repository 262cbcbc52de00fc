"""Pictures, decoded with limits, by one decoder whatever they come as: they come from strangers."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from pipeline.errors import DataError

# Told by the first bytes. Not EPS, for which Pillow runs Ghostscript. Those of `preinit` come first: to look for any
# other, Pillow imports all of its forty readers, which takes longer than to decode a picture.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "AVIF", "TIFF", "WEBP")
ADVICE = f"which is not read; convert it to JPEG or PNG (expected one of {', '.join(FORMATS)})"
LARGEST_IMAGE = 100_000_000  # pixels
ORIENTATION = 0x0112  # the EXIF tag: 1 is upright, 2 to 4 mirrored or upside down, 5 to 8 lying on a side
UPRIGHT, LYING = 1, (5, 6, 7, 8)
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO, DNG_VERSION = 258, 262, 0, 50706  # tags of TIFF, and one's value
STRIP = 2**20  # pixels that are converted at a time: Pillow and NumPy need several copies of what they convert
LIGHT = 191  # mean grey of what can be seen in a picture, above which it would hardly show on white
Layers = tuple[np.ndarray, Any]  # uint8 RGB [H, W, 3]; opacity, uint8 [H, W, 1], None where there is none

# What other files begin with -> what they are.
FOREIGN = {
    b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL", b"\xff\x0a": "JPEG XL",
    b"qoif": "QOI", b"gimp xcf": "GIMP", b"v/1\x01": "OpenEXR", b"P7\n": "PAM", b"II\xbc": "JPEG XR",
    b"%!PS": "PostScript", b"8BPS": "Photoshop", b"FUJIFILMCCD-RAW": "camera raw", b"<svg": "SVG",
}  # fmt: skip
RAW = {  # TIFF, most: of a thumbnail
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
}  # fmt: skip
BRANDS = {  # of ISO's container, at byte 8
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    b"crx ": "camera raw",
}


@dataclass(frozen=True)
class Photograph:
    """A decoded image as it is stored.

    `pixels`: uint8 RGB [H, W, 3], read-only, before any turn that `orientation` (EXIF, 1 to 8) asks for; `format`: of
    the file's content; `mode`: Pillow's name of what its pixels were (`L` is grey).
    """

    pixels: np.ndarray
    format: str | None
    mode: str
    orientation: int

    def turned(self) -> np.ndarray:
        """uint8 RGB [H', W', 3], read-only: the pixels as the EXIF orientation wants them seen."""
        return _locked(_turned(self.pixels, self.orientation))


def read_photograph(source: Path | BinaryIO) -> Photograph:
    """Decode an image file, by its content whatever its name.

    Raises DataError when it is missing, damaged, too large or of another kind.
    """
    name = source if isinstance(source, Path) else "the picture"
    if isinstance(source, Path) and source.suffix.lower() in RAW:
        raise DataError(f"{name}: camera raw, {ADVICE}")
    if isinstance(source, Path) and source.exists() and not source.is_file():  # a pipe would be waited for
        raise DataError(f"{name}: expected an image file, got {'a folder' if source.is_dir() else 'no file'}")
    try:
        with _opened(source) as image:
            orientation, kind, mode = _orientation(image), image.format, image.mode
            pixels = _decoded(image)
            if _orientation(image) != orientation:  # Pillow turns TIFF by itself while it decodes
                pixels = _turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))
            return Photograph(_locked(pixels), kind, mode, orientation)
    except FileNotFoundError:
        link = source.readlink() if isinstance(source, Path) and source.is_symlink() else None
        gone = f"a link to {link}, which is not there" if link else "image not found"
        raise DataError(f"{name}: {gone}") from None
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Image.DecompressionBombError as error:  # so far above our limit that Pillow refuses the header
        got = re.findall(r"\d+", str(error))[:1]
        raise DataError(f"{name}: expected at most {LARGEST_IMAGE} pixels, got {''.join(got)}") from None
    except Exception as error:  # of a dozen kinds for a damaged image
        raise DataError(f"{name}: {_reason(source, error)}") from None


def starts_as_image(path: Path) -> bool:
    """Whether a file's content begins like that of an image, one that is read or one that is not."""
    try:
        with path.open("rb") as file:
            if foreign(file.read(16)):
                return True
            file.seek(0)
            with Image.open(file, formats=FORMATS):
                return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # of a dozen kinds for what is none
        return False


def pixels_of_image(image: Image.Image) -> np.ndarray:
    """uint8 RGB [H, W, 3], read-only: a PIL image as it wants to be seen. Raises DataError."""
    try:
        pixels = _decoded(image)
    except DataError as error:
        raise DataError(f"the PIL image: {error}") from None
    except Exception as error:  # of a dozen kinds for one whose file is damaged
        raise DataError(f"the PIL image: cannot be decoded: {error}") from None
    return _locked(_turned(pixels, _orientation(image)))


def pixels_of_array(array: np.ndarray) -> np.ndarray:
    """uint8 RGB [H, W, 3], read-only, of an array [H, W] or [H, W, 1 or 3 or 4]; the fourth channel is opacity.

    It holds bool, uint8, uint16 (the upper eight bits count, as in a file) or floats in 0..1. Raises DataError.
    """
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise DataError(f"expected an array [H, W] or [H, W, 1 or 3 or 4], got shape {list(array.shape)}")
    array = _eight_bits(array).reshape(*array.shape[:2], channels)
    if channels == 4:
        return _locked(_on_ground(lambda: [(array[..., :3], array[..., 3:])], array.shape[:2]))
    if channels == 1:
        return _locked(np.repeat(array, 3, axis=2))
    return _locked(array.copy()) if array.flags.writeable else array  # which this module made


def foreign(head: bytes) -> str:
    """The kind of picture that is not read, by its first bytes, 16 at least; empty for all others."""
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "")
    return next((kind for start, kind in FOREIGN.items() if head.startswith(start)), "")


def _opened(source: Path | BinaryIO) -> Image.Image:
    """An image file whose header was read. Raises errors of a dozen kinds."""
    Image.preinit()
    try:
        return Image.open(source, formats=FORMATS)
    except ValueError as error:
        if "Invalid Exif" not in str(error):
            raise
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        file.seek(0)
        content = file.read()
    # AVIF's library refuses a picture for its EXIF, but not for a part of it whose name it does not know.
    return Image.open(BytesIO(content.replace(b"Exif", b"free", 1)), formats=FORMATS)


def _orientation(image: Image.Image) -> int:
    """What EXIF says, 1 to 8; upright where it says nothing, or nothing that can be read."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # of a dozen kinds for damaged EXIF
        return UPRIGHT
    return orientation if orientation in list(range(1, 9)) else UPRIGHT


def _reason(source: Path | BinaryIO, error: Exception) -> str:
    """Why an image cannot be decoded, and what to do where that is known."""
    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
            file.seek(0)
            kind = foreign(file.read(16))
    except OSError:
        kind = ""
    if kind:
        return f"{kind}, {ADVICE}"
    return f"cannot be decoded as an image: {error}"


def _decoded(image: Image.Image) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a PIL image, as Pillow decodes it. Raises DataError, without the image's name."""
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    if DNG_VERSION in getattr(image, "tag_v2", ()):  # whatever it is called: its first picture is a thumbnail
        raise DataError(f"camera raw, {ADVICE}")
    width, height = image.size
    if width * height > LARGEST_IMAGE:
        raise DataError(f"expected at most {LARGEST_IMAGE} pixels, got {width} x {height}")
    image.load()
    width, height = image.size
    bits, rows = _depth(image), max(1, STRIP // width)
    negative = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO  # which Pillow heeds up to 8 bits

    def strips() -> Iterator[Layers]:
        for top in range(0, height, rows):
            whole = rows >= height
            yield _layers(image if whole else image.crop((0, top, width, min(top + rows, height))), bits, negative)

    if image.has_transparency_data:
        return _on_ground(strips, (height, width))
    if rows >= height:
        return next(strips())[0]
    pixels, top = np.empty((height, width, 3), np.uint8), 0
    for colours, _ in strips():
        pixels[top : top + len(colours)] = colours
        top += len(colours)
    return pixels


def _depth(image: Image.Image) -> int:
    """Bits a channel; 32 stands for floats in 0..1. Raises DataError for whole numbers whose range is not known."""
    if image.mode == "F":
        return 32
    if image.mode.startswith("I;16"):
        return int(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0])
    if image.mode != "I":
        return 8
    if image.format == "PPM":  # the only one whose 16 bits Pillow stores in 32
        return 16
    raise DataError("expected 8 or 16 bits a channel, or floats in 0..1, got 32-bit whole numbers (Pillow's mode I)")


def _layers(image: Image.Image, bits: int, negative: bool) -> Layers:
    """Colours and opacity of an image; `negative`: above 8 bits, 0 is white. Raises DataError."""
    if bits > 8:
        values = np.asarray(image)  # convert() would clip what is above 255
        grey = _eight_bits(values if bits == 32 else values.astype(np.uint16) << (16 - bits))
        clear = values == image.info.get("transparency", -1)
        grey = 255 - grey if negative else grey
        return np.repeat(grey[..., None], 3, axis=2), np.where(clear, 0, 255).astype(np.uint8)[..., None]
    if not image.has_transparency_data:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), None
    layers = np.asarray(image.convert("RGBA"))
    return layers[..., :3], layers[..., 3:]


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """uint8 of bool, uint8, uint16 or floats in 0..1. Raises DataError."""
    if array.dtype == bool:
        return array * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of any byte order
        return (array >> 8).astype(np.uint8)
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # also where there is a NaN
            raise DataError(f"expected floats in 0..1, got {array.min():.3g} to {array.max():.3g}")
        return (array * 255 + 0.5).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"expected uint8, uint16, bool or floats in 0..1, got {array.dtype}")
    return array


def _on_ground(strips: Callable[[], Iterable[Layers]], shape: tuple[int, ...]) -> np.ndarray:
    """uint8 RGB [H, W, 3]: what can be seen, on white as viewers show it, or on black where it is nearly white itself.

    `strips` yields the picture from top to bottom, each time it is called.
    """
    light = seen = 0
    for colours, opacity in strips():
        light += int((colours.mean(axis=2, keepdims=True) * opacity).sum())
        seen += int(opacity.sum(dtype=np.int64))
    ground = 0 if light > LIGHT * seen else 255
    pixels, top = np.empty((*shape, 3), np.uint8), 0
    for colours, opacity in strips():
        weight = opacity.astype(np.uint16)
        mixed = (colours * weight + ground * (255 - weight) + 127) // 255
        pixels[top : top + len(mixed)] = mixed
        top += len(mixed)
    return pixels


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels turned or mirrored as an EXIF orientation asks for."""
    if orientation in LYING:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _locked(pixels: np.ndarray) -> np.ndarray:
    pixels.setflags(write=False)
    return pixels
