"""Composites: photographs with symmetric things in them, whose reflection axes, rotation centres and folds are known.

An object is real image content seen through a symmetry: every pixel is carried into the symmetry's fundamental
domain (half a plane, a wedge, a ray) and takes its colour from a photograph there. The marks are thus exact, up to
the bilinear interpolation of the photograph.

Coordinates are those of `pipeline.annotations`: x right, y down, pixel centres at integers. Object coordinates u, v
have their origin at the object's centre, and the object lies within the unit disc.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter

from pipeline.annotations import Annotation, Point, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.data.synthesis.backdrops import Backdrops, Place, Size, backdrop, uncovered
from pipeline.data.synthesis.discs import discs
from pipeline.data.synthesis.outlines import Outline, random_outline, random_profile
from pipeline.data.synthesis.painting import Paint, Photographs
from pipeline.data.synthesis.symmetries import MIRROR, NONE, Symmetry

LONGEST_PHOTOGRAPH = 640  # pixels; larger ones are shrunk, so that crops hold whole things
QUALITY = 92  # of the JPEG files that composites are kept in
TRIES = 60  # draws of a place before a smaller object is taken
CONTENTS = 4  # photographs that lend pictures to the round things of an image
ASLANT = 0.3  # share of images of round things that are seen from the side
WHOLE = 0.75, 1.0  # shorter side of a backdrop without objects, as a share of its photograph's


@dataclass(frozen=True)
class Recipe:
    """What an image may hold. Counts and folds are drawn evenly from their tuples; shares are probabilities."""

    mirrors: tuple[int, ...] = (0,)  # objects with one reflection axis
    rotations: tuple[int, ...] = (0,)  # objects with a rotation centre
    folds: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    dihedral: float = 0.4  # share of rotation objects that have reflection axes too
    continuous: float = 0.0  # share of rotation objects that any turn leaves unchanged (fold 0)
    scenes: float = 0.0  # share of images that are mirrored as a whole and hold no other object
    water: float = 0.5  # share of scenes mirrored top to bottom; the others are mirrored left to right
    upright: float = 0.5  # share of mirror objects whose axis is near vertical
    extent: tuple[float, float] = (0.35, 0.7)  # diameter of an object, as a share of the image's shorter side
    backdrop: tuple[float, float] = (0.5, 1)  # shorter side of the backdrop, as a share of its photograph's
    profiles: float = 0.0  # share of mirror objects in the shape of bottles, trees or towers
    silhouettes: float = 0.0  # share of mirror objects whose shape alone is symmetric
    aligned: float = 0.0  # share of mirror objects whose content is upright when their axis is
    feathered: float = 0.0  # share of mirror objects that fade into the backdrop
    bend: float = 0.0  # largest displacement of content, growing away from the axis, as a share of the distance
    clutter: tuple[int, ...] = (0,)  # asymmetric things that lie over the objects
    styles: float = 0.0  # share of images as grey, posterised or painted pictures
    bare: float = 0.0  # share of images that are a backdrop, nearly whole, and hold no object
    round: float = 0.0  # share of images that hold round things with pictures inside, as coins and plates, and no other


def source(image: Image.Image) -> np.ndarray:
    """A photograph for composites, uint8 [height, width, 1 or 3], of an image of mode L or RGB, which may be shrunk."""
    image.thumbnail((LONGEST_PHOTOGRAPH, LONGEST_PHOTOGRAPH), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def compose(
    rng: Generator, photographs: Photographs, backdrops: Backdrops, size: Size, recipe: Recipe, disturb: bool = True
) -> tuple[np.ndarray, Annotation]:
    """Draw one composite of `photographs`, which lend content to objects, over one of `backdrops`, whose own marks
    are taken over, where they are known and remain visible.

    Without `disturb` every other symmetry is exact: no uneven light, noise, blur, shadow, slant or ripple, and no
    distractors. Returns the image, uint8 RGB [height, width, 3], and its marks.
    """
    if rng.random() < recipe.scenes:
        canvas, annotation = _scene(rng, photographs, size, rng.random() < recipe.water, disturb)
    elif _happens(rng, recipe.bare):
        canvas, annotation = backdrop(rng, backdrops, size, WHOLE)
    elif _happens(rng, recipe.round):
        canvas, annotation = _round_things(rng, photographs, backdrops, size, recipe)
    else:
        canvas, known = backdrop(rng, backdrops, size, recipe.backdrop)
        symmetries = [MIRROR] * int(rng.choice(recipe.mirrors))
        symmetries += [_rotation(rng, recipe) for _ in range(rng.choice(recipe.rotations))]
        symmetries += [NONE] * int(disturb and rng.integers(3))  # distractors
        places = _places(rng, size, recipe.extent, len(symmetries))
        annotation = uncovered(known, places)
        for symmetry, place in zip(symmetries, places, strict=True):
            old, new = annotation, _object(rng, canvas, photographs, symmetry, place, recipe, disturb)
            annotation = Annotation(old.axes + new.axes, old.discs + new.discs, old.centres + new.centres)
    if disturb and max(recipe.clutter):
        for _ in range(rng.choice(recipe.clutter)):
            place = *rng.uniform(0, size[::-1]), rng.uniform(0.08, 0.3) * min(size) / 2
            _object(rng, canvas, photographs, NONE, place, recipe, disturb)
    canvas = _weather(rng, canvas) if disturb else canvas
    image = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _styled(rng, image) if disturb and _happens(rng, recipe.styles) else image, annotation


def _happens(rng: Generator, share: float) -> bool:
    """Whether to do what a share of all have; no number is drawn where none has it."""
    return share > 0 and rng.random() < share


def _rotation(rng: Generator, recipe: Recipe) -> Symmetry:
    if rng.random() < recipe.continuous:
        return Symmetry(0)
    return Symmetry(int(rng.choice(recipe.folds)), mirrored=rng.random() < recipe.dihedral)


def _places(rng: Generator, size: Size, extent: tuple[float, float], count: int) -> list[Place]:
    """`count` discs inside the image and apart from each other."""
    height, width = size
    places: list[Place] = []
    for _ in range(count):
        radius, free = rng.uniform(*extent) * min(size) / 2, np.array([False])
        while not free.any():
            x, y = rng.uniform(radius, (width - 1 - radius, height - 1 - radius), (TRIES, 2)).T
            free = np.all([np.hypot(x - a, y - b) > radius + r for a, b, r in places] or [x > 0], axis=0)
            radius *= 1 if free.any() else 0.9
        places.append((float(x[free.argmax()]), float(y[free.argmax()]), radius))
    return places


def _frame(rng: Generator, symmetry: Symmetry, place: Place, upright: float, disturb: bool) -> np.ndarray:
    """The homography [3, 3] from object coordinates to pixels."""
    x, y, radius = place
    slant, angle = np.eye(3), rng.uniform(0, 180)
    if symmetry == MIRROR:
        rest = (1 - upright) / 3
        angle = float(rng.choice([rng.normal(90, 4), rng.normal(0, 4), angle], p=[upright, rest, 2 * rest]))
    if symmetry.fold == 0:
        angle = rng.uniform(-45, 45)
        slant[1, 1] = rng.choice([1, rng.uniform(0.6, 1)])  # a circle seen aslant: an ellipse
    elif disturb:
        slant[[0, 1, 2, 2], [1, 0, 0, 1]] = rng.uniform(-0.05, 0.05, 4)
    cos, sin = radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]]) @ slant


def _apply(frame: np.ndarray, x: np.ndarray | float, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    a, b, scale = (row[0] * x + row[1] * y + row[2] for row in frame)
    return a / scale, b / scale


def _object(
    rng: Generator,
    canvas: np.ndarray,
    photographs: Photographs,
    symmetry: Symmetry,
    place: Place,
    recipe: Recipe,
    disturb: bool,
) -> Annotation:
    """Paint one object into `canvas` [height, width, 3], in place, and return its marks."""
    x, y, radius = place
    frame, outline = _frame(rng, symmetry, place, recipe.upright, disturb), random_outline(rng, symmetry)
    if symmetry == MIRROR and _happens(rng, recipe.profiles):
        outline = random_profile(rng)
    left, top = (max(0, math.floor(centre - 1.3 * radius)) for centre in (x, y))
    region = canvas[top : math.ceil(y + 1.3 * radius), left : math.ceil(x + 1.3 * radius)]
    rows, columns = np.indices(region.shape[:2])
    u, v = _apply(np.linalg.inv(frame), np.add(columns, left), np.add(rows, top))
    if disturb:
        dx, dy = rng.uniform(-0.12, 0.12, 2)
        shadow = np.clip((1.15 - outline(*symmetry.reduce(u + dx, v + dy))) / 0.3, 0, 1)
        region *= 1 - rng.uniform(0, 0.6) * shadow[..., None].astype(np.float32)
    if disturb and recipe.bend:
        u, v = _bent(rng, u, v, recipe.bend)
    turn = math.pi / 2 if symmetry == MIRROR and _happens(rng, recipe.aligned) else None
    edge = radius * rng.uniform(0.1, 0.4) if symmetry == MIRROR and _happens(rng, recipe.feathered) else 1.5
    surface = (u, v) if symmetry == MIRROR and disturb and _happens(rng, recipe.silhouettes) else None
    paint = Paint(rng, photographs, symmetry, *symmetry.reduce(u, v), radius, turn, edge, surface)
    paint.whole(region, outline(paint.a, paint.b))
    return _marks(symmetry, outline, frame)


def _bent(rng: Generator, u: np.ndarray, v: np.ndarray, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Move the points (u, v) by slow waves, the more the farther they are from the axis, which stays where it is."""
    amount, (f, g), (p, q, r) = rng.uniform(0, largest), rng.uniform(1, 5, 2), rng.uniform(0, 2 * math.pi, 3)
    wave, other = np.sin(f * u + p) * np.sin(g * v + q), np.sin(g * u + f * v + r)
    return u + amount * v * other, v * (1 + amount * wave)


def _marks(symmetry: Symmetry, outline: Outline, frame: np.ndarray) -> Annotation:
    """What the symmetry leaves to mark, in pixels; an axis ends where it leaves the outline."""

    def pixel(u: float, v: float) -> Point:
        x, y = _apply(frame, u, v)
        return float(x), float(y)

    def end(angle: float) -> Point:
        distance = np.linspace(0, 1, 1001)
        u, v = distance * math.cos(angle), distance * math.sin(angle)
        last = np.flatnonzero(outline(*symmetry.reduce(u, v)) <= 1).max()
        return pixel(u[last], v[last])

    if symmetry.fold == 0:
        disc = ReflectionDisc(tuple(pixel(*point) for point in ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))))
        return Annotation(discs=(disc,), centres=(RotationCentre(*pixel(0, 0), 0),))
    angles = [math.pi * k / symmetry.fold for k in range(symmetry.fold)] if symmetry.mirrored else []
    axes = tuple(ReflectionAxis(*end(angle), *end(angle + math.pi)) for angle in angles)
    return Annotation(axes, centres=(RotationCentre(*pixel(0, 0), symmetry.fold),) if symmetry.fold > 1 else ())


def _scene(
    rng: Generator, photographs: Photographs, size: Size, water: bool, disturb: bool
) -> tuple[np.ndarray, Annotation]:
    """A whole image mirrored about a line that crosses it: a shore and its reflection in `water`, or a facade."""
    height, width = size
    x, y = rng.uniform(0.35, 0.65, 2) * (width - 1, height - 1)
    radius, angle = min(size) / 2, math.radians(rng.normal(0 if water else 90, 1.5))
    dx, dy = math.cos(angle), math.sin(angle)
    rows, columns = np.indices(size)
    u, v = (dx * (columns - x) + dy * (rows - y)) / radius, (dx * (rows - y) - dy * (columns - x)) / radius
    if water and disturb:  # ripples, which grow towards the viewer
        u = u + 0.015 * np.clip(v, 0, 1) * np.sin(60 * np.sqrt(np.clip(v, 0, None)) + 3 * u)
    canvas = np.zeros((height, width, 3), np.float32)
    turn = math.pi if water else math.pi / 2  # upright above the water, or on both sides of the facade's middle
    Paint(rng, photographs, MIRROR, *MIRROR.reduce(u, v), radius, turn).whole(canvas, np.zeros(size))
    if water and disturb:
        canvas[v > 0] *= rng.uniform((0.5, 0.6, 0.7), (0.85, 0.95, 1)).astype(np.float32)
    borders = [(0, dx, x), (width - 1, dx, x), (0, dy, y), (height - 1, dy, y)]
    crossings = [(border - start) / step for border, step, start in borders if step]
    before, after = max(t for t in crossings if t < 0), min(t for t in crossings if t > 0)
    axis = ReflectionAxis(*map(float, (x + before * dx, y + before * dy, x + after * dx, y + after * dy)))
    return canvas, Annotation(axes=(axis,))


def _round_things(
    rng: Generator, photographs: Photographs, backdrops: Backdrops, size: Size, recipe: Recipe
) -> tuple[np.ndarray, Annotation]:
    """Discs with pictures inside, at times seen aslant; marked, as discs and as centres, where the middle is half a
    radius from the edge.
    """
    height, width = size
    tall = round(height / (rng.uniform(0.6, 1) if rng.random() < ASLANT else 1))
    ground = backdrop(rng, backdrops, (tall, width), recipe.backdrop)[0]
    contents = [photographs[int(rng.integers(len(photographs)))] for _ in range(CONTENTS)]
    image, places = discs(
        rng, (ground * 255).astype(np.uint8), [np.broadcast_to(c, (*c.shape[:2], 3)) for c in contents]
    )
    canvas = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX), np.float32) / 255
    inside = [(x, y, r) for x, y, r in places if abs(2 * x - width) < width - r and abs(2 * y - tall) < tall - r]
    marks = [_round_marks(x, (y + 0.5) * height / tall - 0.5, r, r * height / tall) for x, y, r in inside]
    return canvas, Annotation(discs=tuple(disc for disc, _ in marks), centres=tuple(centre for _, centre in marks))


def _round_marks(x: float, y: float, across: float, down: float) -> tuple[ReflectionDisc, RotationCentre]:
    """The marks of an ellipse with the radii `across` and `down`."""
    points = (x, y), (x, y - down), (x, y + down), (x - across, y), (x + across, y)
    return ReflectionDisc(points), RotationCentre(x, y, 0)


def _weather(rng: Generator, canvas: np.ndarray) -> np.ndarray:
    """Uneven light, a little blur and noise: what keeps the symmetries of a photograph from being exact."""
    slopes, sigma, noise = rng.uniform(-0.15, 0.15, 2), max(0.0, rng.uniform(-0.7, 0.7)), rng.uniform(0, 0.025)
    down, right = (slope * np.linspace(-1, 1, side) for slope, side in zip(slopes, canvas.shape[:2], strict=True))
    lit = canvas * (1 + down[:, None] + right)[..., None].astype(np.float32)
    return gaussian_filter(lit, (sigma, sigma, 0)) + noise * rng.standard_normal(canvas.shape, np.float32)


def _styled(rng: Generator, image: np.ndarray) -> np.ndarray:
    """A grey, toned, recoloured, posterised or painted picture, uint8 [height, width, 3]."""
    dark, light = rng.integers(0, 90, 3), rng.integers(165, 256, 3)
    mixing = 0.4 * np.eye(3) + 0.6 * rng.dirichlet(np.ones(3), 3)  # rows sum to 1: greys remain greys
    styles = (
        lambda picture: ImageOps.grayscale(picture).convert("RGB"),
        lambda picture: ImageOps.colorize(ImageOps.grayscale(picture), tuple(map(int, dark)), tuple(map(int, light))),
        lambda picture: picture.convert("RGB", tuple(np.pad(mixing, ((0, 0), (0, 1))).ravel())),
        lambda picture: ImageOps.posterize(picture, int(rng.integers(2, 5))),
        lambda picture: picture.filter(ImageFilter.MedianFilter(5)),
        lambda picture: picture.filter(ImageFilter.ModeFilter(int(rng.choice((5, 7, 9))))),
        lambda picture: ImageOps.autocontrast(picture, cutoff=rng.uniform(0, 10)),
    )
    return np.asarray(styles[rng.integers(len(styles))](Image.fromarray(image)))
