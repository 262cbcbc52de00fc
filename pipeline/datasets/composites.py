"""Composites: photographs with symmetric things in them, whose reflection axes, rotation centres and folds are known.

An object is real image content seen through a symmetry: every pixel is carried into the symmetry's fundamental
domain (half a plane, a wedge, a ray) and takes its colour from a photograph there. The marks are thus exact, up to
the bilinear interpolation of the photograph.

Coordinates are those of `pipeline.annotations`: x right, y down, pixel centres at integers. Object coordinates u, v
have their origin at the object's centre, and the object lies within the unit disc.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, map_coordinates

from pipeline.annotations import Annotation, Point, ReflectionAxis, ReflectionDisc, RotationCentre

Photographs = Sequence[np.ndarray]  # each uint8 [height, width, 1 or 3]
Size = tuple[int, int]  # height, width, in pixels
Place = tuple[float, float, float]  # a disc: x, y, radius, in pixels
Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]  # point of the fundamental domain -> level, up to 1 inside

TRIES = 60  # draws of a place, or of a crop, before a smaller object or the most contrasty crop is taken
MIN_CONTRAST = 0.13  # standard deviation, as a share of the full range, below which a crop counts as bare


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


@dataclass(frozen=True)
class _Symmetry:
    """`fold` turns (0: any turn), and with `mirrored` also that many reflection axes, one of them the u axis."""

    fold: int
    mirrored: bool = False

    @property
    def wedge(self) -> float:
        """Angle of the fundamental domain, in radians."""
        return 2 * math.pi / max(self.fold, 1) / (2 if self.mirrored else 1)

    def reduce(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The point of the fundamental domain that (u, v) is an image of."""
        radius = np.hypot(u, v)
        if self.fold == 0:
            return radius, np.zeros_like(radius)
        turn = 2 * math.pi / self.fold
        angle = np.arctan2(v, u) % turn
        if self.mirrored:
            angle = np.minimum(angle, turn - angle)
        return radius * np.cos(angle), radius * np.sin(angle)


MIRROR, NONE = _Symmetry(1, mirrored=True), _Symmetry(1)


def compose(
    rng: Generator, photographs: Photographs, backdrops: Photographs, size: Size, recipe: Recipe, disturb: bool = True
) -> tuple[np.ndarray, Annotation]:
    """Draw one composite of `photographs`, which lend content to objects, over one of `backdrops`.

    Without `disturb` every symmetry is exact: no uneven light, noise, blur, shadow, slant or ripple, and no
    distractors. Returns the image, uint8 RGB [height, width, 3], and its marks.
    """
    if rng.random() < recipe.scenes:
        canvas, annotation = _scene(rng, photographs, size, rng.random() < recipe.water, disturb)
    else:
        canvas, annotation = _backdrop(rng, backdrops, size), Annotation()
        symmetries = [MIRROR] * int(rng.choice(recipe.mirrors))
        symmetries += [_rotation(rng, recipe) for _ in range(rng.choice(recipe.rotations))]
        symmetries += [NONE] * int(disturb and rng.integers(3))  # distractors
        for symmetry, place in zip(symmetries, _places(rng, size, recipe.extent, len(symmetries)), strict=True):
            old, new = annotation, _object(rng, canvas, photographs, symmetry, place, recipe.upright, disturb)
            annotation = Annotation(old.axes + new.axes, old.discs + new.discs, old.centres + new.centres)
    canvas = _weather(rng, canvas) if disturb else canvas
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), annotation


def _rotation(rng: Generator, recipe: Recipe) -> _Symmetry:
    if rng.random() < recipe.continuous:
        return _Symmetry(0)
    return _Symmetry(int(rng.choice(recipe.folds)), mirrored=rng.random() < recipe.dihedral)


def _backdrop(rng: Generator, backdrops: Photographs, size: Size) -> np.ndarray:
    """A random crop of a photograph, float32 [height, width, 3] in [0, 1]."""
    height, width = size
    photograph = backdrops[rng.integers(len(backdrops))]
    rows, columns = photograph.shape[:2]
    zoom = min(rows / height, columns / width) * rng.uniform(0.5, 1)
    left, top = rng.uniform(0, (columns - zoom * width, rows - zoom * height))
    box = left, top, left + zoom * width, top + zoom * height
    crop = Image.fromarray(photograph.squeeze()).resize((width, height), Image.Resampling.BICUBIC, box)
    crop = crop.filter(ImageFilter.GaussianBlur(max(0.0, rng.uniform(-1.5, 2))))
    pixels = np.asarray(crop, np.float32).reshape(height, width, -1) / 255
    return _tint(rng, pixels[:, :: rng.choice([-1, 1])])


def _tint(rng: Generator, pixels: np.ndarray) -> np.ndarray:
    """Random colours, in [0, 1]: a duotone for grey pixels [..., 1], slightly shifted channels for RGB [..., 3]."""
    if pixels.shape[-1] == 1:
        dark, bright = rng.uniform(0, 0.2) + rng.uniform(0, 0.15, 3), rng.uniform(0.6, 0.8) + rng.uniform(-0.2, 0.2, 3)
        return (dark + (bright - dark) * pixels).astype(np.float32)
    gain, offset = rng.uniform(0.8, 1.2) * rng.uniform(0.85, 1.15, 3), rng.uniform(-0.08, 0.08)
    return np.clip(pixels * gain + offset, 0, 1).astype(np.float32)


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


def _frame(rng: Generator, symmetry: _Symmetry, place: Place, upright: float, disturb: bool) -> np.ndarray:
    """The homography [3, 3] from object coordinates to pixels."""
    x, y, radius = place
    slant, angle = np.eye(3), rng.uniform(0, 180)
    if symmetry == MIRROR:
        rest = (1 - upright) / 3
        angle = rng.choice([rng.normal(90, 4), rng.normal(0, 4), angle], p=[upright, rest, 2 * rest])
    if symmetry.fold == 0:
        angle = rng.uniform(-45, 45)
        slant[1, 1] = rng.choice([1, rng.uniform(0.6, 1)])  # a circle seen aslant: an ellipse
    elif disturb:
        slant[[0, 1, 2, 2], [1, 0, 0, 1]] = rng.uniform(-0.05, 0.05, 4)
    cos, sin = radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]]) @ slant


def _apply(frame: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, scale = (row[0] * x + row[1] * y + row[2] for row in frame)
    return a / scale, b / scale


def _object(
    rng: Generator,
    canvas: np.ndarray,
    photographs: Photographs,
    symmetry: _Symmetry,
    place: Place,
    upright: float,
    disturb: bool,
) -> Annotation:
    """Paint one object into `canvas` [height, width, 3], in place, and return its marks."""
    x, y, radius = place
    frame, outline = _frame(rng, symmetry, place, upright, disturb), _outline(rng, symmetry)
    left, top = (max(0, math.floor(centre - 1.3 * radius)) for centre in (x, y))
    region = canvas[top : math.ceil(y + 1.3 * radius), left : math.ceil(x + 1.3 * radius)]
    rows, columns = np.indices(region.shape[:2])
    u, v = _apply(np.linalg.inv(frame), columns + left, rows + top)
    if disturb:
        dx, dy = rng.uniform(-0.12, 0.12, 2)
        shadow = np.clip((1.15 - outline(*symmetry.reduce(u + dx, v + dy))) / 0.3, 0, 1)
        region *= 1 - rng.uniform(0, 0.6) * shadow[..., None].astype(np.float32)
    paint = _Paint(rng, photographs, symmetry, *symmetry.reduce(u, v), radius)
    paint.whole(region, outline(paint.a, paint.b))
    return _marks(symmetry, outline, frame)


def _marks(symmetry: _Symmetry, outline: Outline, frame: np.ndarray) -> Annotation:
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
    _Paint(rng, photographs, MIRROR, *MIRROR.reduce(u, v), radius, turn).whole(canvas, np.zeros(size))
    if water and disturb:
        canvas[v > 0] *= rng.uniform((0.5, 0.6, 0.7), (0.85, 0.95, 1)).astype(np.float32)
    borders = [(0, dx, x), (width - 1, dx, x), (0, dy, y), (height - 1, dy, y)]
    crossings = [(border - start) / step for border, step, start in borders if step]
    before, after = max(t for t in crossings if t < 0), min(t for t in crossings if t > 0)
    axis = ReflectionAxis(*map(float, (x + before * dx, y + before * dy, x + after * dx, y + after * dy)))
    return canvas, Annotation(axes=(axis,))


def _outline(rng: Generator, symmetry: _Symmetry) -> Outline:
    """A random outline within the unit disc: an ellipse to a box, a polygon or a wavy closed curve."""
    if symmetry.fold == 0:
        return np.hypot
    kind = rng.random()
    if symmetry == MIRROR and kind < 0.5:
        (length, width), power = rng.uniform(0.45, 0.8, 2), rng.choice([2, 4, 20])
        return lambda a, b: ((np.abs(a) / length) ** power + (np.abs(b) / width) ** power) ** (1 / power)
    if symmetry != NONE and kind < 0.65:
        normals = symmetry.wedge * rng.uniform(0, 1, 3 if symmetry == MIRROR else 1)
        x, y = np.stack([np.cos(normals), np.sin(normals)]) / rng.uniform(0.55, 0.85, len(normals))
        return lambda a, b: np.max([np.hypot(a, b), *(p * a + q * b for p, q in zip(x, y, strict=True))], axis=0)
    heights, phases = rng.uniform(0.05, 0.25, 4), rng.uniform(0, 2 * math.pi, 4)

    def reach(angle: np.ndarray) -> np.ndarray:
        waves = enumerate(zip(heights, phases, strict=True), start=1)
        return 1 + sum(height / k**0.5 * np.cos(k * symmetry.fold * angle + phase) for k, (height, phase) in waves)

    longest = reach(np.linspace(0, 2 * math.pi, 720)).max()
    return lambda a, b: np.hypot(a, b) * longest / reach(np.arctan2(b, a))


@dataclass(frozen=True)
class _Paint:
    """Symmetric content for the pixels whose points in the fundamental domain are `a`, `b` [height, width]."""

    rng: Generator
    photographs: Photographs
    symmetry: _Symmetry
    a: np.ndarray
    b: np.ndarray
    radius: float  # pixels per object unit
    turn: float | None = None  # radians from the fundamental domain to photographs; drawn anew each time if None

    def whole(self, region: np.ndarray, level: np.ndarray) -> None:
        """Paint an object: its body where `level` is below 1, perhaps a dark rim, and up to three kinds of small
        shapes, such as windows, eyes, petals or a hub."""
        rng, symmetry = self.rng, self.symmetry
        self.shape(region, level)
        if rng.random() < 0.5:
            width = rng.uniform(0.04, 0.1)
            rim = np.clip(1 - np.abs(level - 1 + width) / width, 0, 1)
            region *= 1 - 0.7 * rim[..., None].astype(np.float32)
        for _ in range(rng.integers(4)):
            distance, angle = rng.uniform(0.3, 0.7), symmetry.wedge * rng.uniform(0.2, 0.8)
            limit = min(0.3, distance * math.sin(min(symmetry.wedge, math.pi) / 2))
            across, along = limit * rng.uniform(0.5, 0.95, 2)
            if symmetry.fold == 0:  # a ring
                angle = 0.0
            elif symmetry.fold > 1 and rng.random() < 0.25:  # a hub
                distance = 0.0
                across = along = rng.uniform(0.15, 0.3)
            a, b = distance * math.cos(angle), distance * math.sin(angle)
            self.shape(region, np.maximum(np.hypot((self.a - a) / across, (self.b - b) / along), level))

    def shape(self, region: np.ndarray, level: np.ndarray) -> None:
        """Paint new content over `region` [height, width, 3], in place, where `level` [height, width] is below 1."""
        slope = np.hypot(*np.gradient(level)) + 1e-6  # the edge is about 1.5 pixels soft
        alpha = np.clip((1 - level) / (1.5 * slope) + 0.5, 0, 1).astype(np.float32)
        inside = alpha > 0
        if not inside.any():
            return
        ground, pixels = region[inside], self._content(self.a[inside], self.b[inside])
        difference = float(pixels.mean() - ground.mean())
        if abs(difference) < 0.15:  # keep off the ground's brightness
            pixels = np.clip(pixels + math.copysign(0.15, difference), 0, 1)
        region[inside] = ground + alpha[inside, None] * (pixels - ground)

    def _content(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Colours float32 [n, 3] in [0, 1] at n points of the fundamental domain."""
        wedge = self.symmetry.wedge
        if self.symmetry.mirrored or self.symmetry.fold < 2:
            return _tint(self.rng, self._crop(a, b))
        # The two sides of a wedge would meet in a hard seam: fade into the wedge from the content beyond its end.
        fade = np.clip(np.arctan2(b, a) % (2 * math.pi) / (wedge * self.rng.uniform(0.1, 0.5)), 0, 1)[:, None]
        beyond = math.cos(wedge) * a - math.sin(wedge) * b, math.sin(wedge) * a + math.cos(wedge) * b
        pixels = self._crop(np.append(a, beyond[0]), np.append(b, beyond[1]))
        return _tint(self.rng, fade * pixels[: len(a)] + (1 - fade) * pixels[len(a) :])

    def _crop(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """A photograph's pixels [n, 1 or 3] in [0, 1] at n points: the first crop drawn that is not bare."""
        rng, turn = self.rng, self.rng.uniform(0, 2 * math.pi) if self.turn is None else self.turn
        points = np.stack([math.sin(turn) * a + math.cos(turn) * b, math.cos(turn) * a - math.sin(turn) * b])
        points -= points.min(axis=1, keepdims=True)
        span, crops = points.max(axis=1) + 1e-6, []
        for _ in range(TRIES):
            photograph = self.photographs[rng.integers(len(self.photographs))]
            room = np.array(photograph.shape[:2]) - 1
            zoom = min(self.radius * rng.uniform(0.6, 1.4), *(room / span))  # photograph pixels per object unit
            start = rng.uniform(0, np.maximum(room - zoom * span, 0))
            (top, left), (bottom, right) = start.astype(int), (start + zoom * span).astype(int) + 2
            contrast = photograph[top:bottom:3, left:right:3].std(axis=(0, 1)).mean() / 255
            crops.append((contrast, photograph, start, zoom))
            if contrast > MIN_CONTRAST:
                break
        _, photograph, start, zoom = max(crops, key=lambda crop: crop[0])
        points, channels = start[:, None] + zoom * points, np.moveaxis(photograph, 2, 0)
        return np.stack([map_coordinates(c, points, np.float32, order=1, mode="nearest") for c in channels], -1) / 255


def _weather(rng: Generator, canvas: np.ndarray) -> np.ndarray:
    """Uneven light, a little blur and noise: what keeps the symmetries of a photograph from being exact."""
    slopes, sigma, noise = rng.uniform(-0.15, 0.15, 2), max(0.0, rng.uniform(-0.7, 0.7)), rng.uniform(0, 0.025)
    down, right = (slope * np.linspace(-1, 1, side) for slope, side in zip(slopes, canvas.shape[:2], strict=True))
    lit = canvas * (1 + down[:, None] + right)[..., None].astype(np.float32)
    return gaussian_filter(lit, (sigma, sigma, 0)) + noise * rng.standard_normal(canvas.shape, np.float32)
