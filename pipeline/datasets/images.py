"""Image files, decoded with limits: they come from strangers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.errors import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # not EPS, for which Pillow runs Ghostscript
LARGEST_IMAGE = 100_000_000  # pixels
DEEP = ("I", "F")  # modes of more than 8 bits a channel begin so; converting them to RGB would clip their values
ORIENTATION = 0x0112  # the EXIF tag: 1 is upright, 2 to 4 mirrored or upside down, 5 to 8 lying on a side
UPRIGHT, LYING = 1, (5, 6, 7, 8)


@dataclass(frozen=True)
class Photograph:
    """A decoded image as it is stored.

    `pixels`: uint8 RGB [H, W, 3], read-only, before any turn that `orientation` (EXIF, 1 to 8) asks for; `format`: of
    the file's content; `mode`: Pillow's name of what its pixels were (`L` is grey).
    """

    pixels: np.ndarray
    format: str
    mode: str
    orientation: int

    def turned(self) -> np.ndarray:
        """uint8 RGB [H', W', 3]: the pixels as the EXIF orientation wants them seen."""
        image = Image.fromarray(self.pixels)
        image.getexif()[ORIENTATION] = self.orientation
        return np.array(ImageOps.exif_transpose(image))


def read_photograph(path: Path) -> Photograph:
    """Decode an image file. Raises DataError when it is missing, damaged, too large or of another kind."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST_IMAGE:
                raise DataError(f"{path}: expected at most {LARGEST_IMAGE} pixels, got {width} x {height}")
            if image.mode.startswith(DEEP):
                raise DataError(f"{path}: expected 8 bits a channel, got more (Pillow's mode {image.mode})")
            orientation = image.getexif().get(ORIENTATION, UPRIGHT)
            mode, kind = image.mode, image.format
            pixels = np.asarray(image if mode == "RGB" else image.convert("RGB"))
            return Photograph(pixels, kind, mode, orientation)
    except FileNotFoundError:
        raise DataError(f"{path}: image not found") from None
    except DataError:
        raise
    except Exception as error:  # of a dozen kinds for a damaged image
        raise DataError(f"{path}: cannot be decoded as an image: {error}") from None
