"""Round things with a picture inside, whose fold is 0, and views of composites for the training of the folds.

Coordinates: x right, y down, pixels, pixel centres at integers.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from pipeline.annotations import Point

View = tuple[np.ndarray, float, float]  # uint8 [height, width, 3], and x and y of a place in it
Disc = tuple[float, float, float]  # x, y, radius
SMALLEST, LARGEST = 0.03, 0.3  # radii of discs, of the longer side
BESIDE = 0.007  # of the longer side: the deviation of places from the centre, as a detector's are


def seen(rng: Generator, image: np.ndarray, x: float, y: float) -> View:
    """What lies around a place: smaller, a little from the side, unevenly lit, with noise, and not quite its place."""
    scale = rng.uniform(0.5, 1)
    width, height = (round(scale * side) for side in image.shape[1::-1])
    centre = (np.array([x, y]) + 0.5) * (width / image.shape[1], height / image.shape[0])
    slant = np.eye(2) + rng.normal(0, 0.04, (2, 2))
    (a, b), (c, d), (e, f) = *slant, centre - slant @ centre
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    tilted = small.transform(small.size, Image.Transform.AFFINE, (a, b, e, c, d, f), Image.Resampling.BILINEAR)
    right, down = rng.normal(0, 0.5, 2) / max(small.size)
    light = right * (np.arange(width) - centre[0]) + down * (np.arange(height) - centre[1])[:, None]
    lit = np.asarray(tilted, np.float32) * (1 + np.clip(light, -0.6, 0.6))[..., None]
    lit += rng.normal(0, rng.uniform(0, 5), (height, width, 1))
    x, y = centre - 0.5 + rng.normal(0, BESIDE * max(small.size), 2)
    return np.clip(lit, 0, 255).astype(np.uint8), float(x), float(y)


def discs(rng: Generator, ground: np.ndarray, contents: list[np.ndarray]) -> tuple[np.ndarray, list[Disc]]:
    """Discs of about one size over a ground that may be plain, each with a picture of its own inside, uint8 [height,
    width, 3], and where they lie; the first is whole in the image for the most part."""
    sides = np.array(ground.shape[1::-1])
    radius = sides.max() * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    canvas = ground.astype(np.float32)
    if rng.random() < 0.5:
        canvas = canvas.mean((0, 1)) + rng.uniform(0, 0.2) * (canvas - canvas.mean((0, 1)))
    margin = np.minimum(0.9 * radius, sides / 2)
    first = rng.uniform(margin, sides - margin)
    shifts = _lattice(rng, radius) if rng.random() < 0.5 else _scattered(rng, radius)
    shade, contrast, light = rng.normal(0, 35, 3), rng.uniform(0.05, 1), rng.uniform(0, 2 * np.pi)
    places: list[Disc] = []
    for shift in (np.zeros(2), *shifts):
        content = contents[rng.integers(len(contents))]
        (x, y), own = first + shift, float(radius * rng.uniform(0.95, 1.05))
        _disc(rng, canvas, content, first + shift, own, shade, contrast, light)
        places.append((float(x), float(y), own))
    return np.clip(canvas, 0, 255).astype(np.uint8), places


def framed(rng: Generator, image: np.ndarray, x: float, y: float, ground: np.ndarray) -> View:
    """What lies around a centre in a disc over another ground: round, and yet of the fold that the centre has. It may
    be there again and again, as windows are in a wall."""
    side, often = max(image.shape[:2]), rng.random() < 0.5
    radius = side * (rng.uniform(0.05, 0.15) if often else rng.uniform(0.08, LARGEST))
    mask = _inside(image, (x, y), radius, rng)
    canvas = np.asarray(Image.fromarray(ground).resize(image.shape[1::-1]), np.float32)
    for across, down in (*(_lattice(rng, radius) if often else ()), np.zeros(2)):
        shift = round(float(down)), round(float(across))
        copy, where = (np.roll(some, shift, (0, 1)) for some in (image, mask))
        canvas = canvas * (1 - where) + copy * where
    return canvas.astype(np.uint8), x, y


def _scattered(rng: Generator, radius: float) -> list[np.ndarray]:
    """Places of up to six more discs around the first, (x, y) from its middle, of which no two overlap."""
    places = [np.zeros(2)]
    for _ in range(rng.integers(0, 7)):
        angle, apart = rng.uniform(0, 2 * np.pi), rng.uniform(2.05, 3.5) * radius
        place = apart * np.array([np.cos(angle), np.sin(angle)])
        if all(np.hypot(*(place - other)) > 2 * radius for other in places):
            places.append(place)
    return places[1:]


def _lattice(rng: Generator, radius: float) -> list[np.ndarray]:
    """Places of the eight neighbours of a disc in rows and columns, (x, y) from its middle, not quite in line."""
    angle = rng.normal(0, 0.05) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    right, down = (
        rng.uniform(2.1, 3.5) * radius * np.array([np.cos(a), np.sin(a)])
        for a in (angle, angle + rng.choice([np.pi / 2, rng.uniform(np.pi / 3, np.pi / 2)]))
    )
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    return [i * right + j * down + rng.normal(0, 0.05 * radius, 2) for i, j in steps]


def _disc(
    rng: Generator,
    canvas: np.ndarray,
    content: np.ndarray,
    place: np.ndarray,
    radius: float,
    shade: np.ndarray,
    contrast: float,
    light: float,
) -> None:
    """Paint one disc, in place: its shadow, its picture about a shade of its own, and rims, which are brighter towards
    the light."""
    height, width = canvas.shape[:2]
    picture = np.asarray(Image.fromarray(content).resize((width, height)), np.float32)
    mean = picture.mean((0, 1))
    picture = mean + contrast * (picture - mean) + shade
    away = np.array([np.cos(light), np.sin(light)]) * radius
    if rng.random() < 0.5:
        canvas *= 1 - rng.uniform(0, 0.6) * _inside(canvas, tuple(place - rng.uniform(0, 0.15) * away), radius, rng)
    mask = _inside(canvas, tuple(place), radius, rng)
    right, down = np.arange(width) - place[0], (np.arange(height) - place[1])[:, None]
    distance = np.hypot(right, down)
    slope = (right * away[0] + down * away[1]) / (radius * np.maximum(distance, 1))
    for _ in range(rng.integers(0, 4)):
        at, wide = radius * rng.uniform(0.5, 1.02), radius * rng.uniform(0.02, 0.12)
        bright = rng.normal(0, 30) + rng.normal(0, 30) * slope
        picture += (bright * np.exp(-(((distance - at) / wide) ** 2)))[..., None]
    canvas *= 1 - mask
    canvas += picture * mask


def _inside(image: np.ndarray, place: Point, radius: float, rng: Generator) -> np.ndarray:
    """float32 [height, width, 1] in 0..1: 1 within the circle, with a soft edge."""
    (x, y), mask = place, Image.new("L", image.shape[1::-1])
    ImageDraw.Draw(mask).ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2))), np.float32)[..., None] / 255
