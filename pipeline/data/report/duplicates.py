"""Images that occur twice: within a data set, and across splits, where a test would see what training has seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from imagehash import phash
from PIL import Image

NEAR = 6  # of a hash's 64 bits: resized and re-encoded copies differ in fewer, other photographs in about 32
ALIKE = 0.9  # correlation of the two thumbnails, which pictures of one brightness all over do not reach by chance
THUMBNAIL = 32  # pixels
BLOCK = 128  # images compared at a time


@dataclass(frozen=True)
class Fingerprint:
    """What remains of an image: its perceptual hash, 64 bits, and a grey thumbnail of mean 0 and length 1 (or 0)."""

    bits: np.uint64
    thumbnail: np.ndarray


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Of uint8 RGB [H, W, 3], without the black bars of a letterbox."""
    picture = Image.fromarray(image)
    bits = np.packbits(phash(picture).hash.ravel()).view(np.uint64)[0]
    grey = np.asarray(picture.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), float).ravel()
    grey -= grey.mean()
    return Fingerprint(bits, grey / (np.linalg.norm(grey) or 1))


def pairs(fingerprints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """The numbers of all pairs of images that are copies of each other, the smaller number first."""
    if not fingerprints:
        return []
    bits, found = np.array([f.bits for f in fingerprints]), []
    for start in range(0, len(bits), BLOCK):
        different = np.unpackbits((bits[start : start + BLOCK, None] ^ bits).view(np.uint8), axis=-1)
        near = different.reshape(-1, len(bits), 64).sum(-1) <= NEAR
        found += [(start + int(row), int(column)) for row, column in np.argwhere(near) if start + row < column]
    return [(a, b) for a, b in found if fingerprints[a].thumbnail @ fingerprints[b].thumbnail >= ALIKE]
