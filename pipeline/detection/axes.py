"""Heat map -> reflection axes as segments.

Axes are found one by one in line space. The map is turned through half a turn; across each direction a ridge filter
keeps what is brighter than both sides, so that filled regions do not fall apart into lines; along each line the
stretch with the largest sum above a level is kept. The best of all is refined and taken out of the map before the
search goes on, so that no axis is found twice under slightly different angles.

By NumPy alone, so that detection starts fast and needs little memory. Coordinates: x right, y down, in pixels of the
heat map, pixel centres at integers.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from pipeline.detection.square import SIDE, interpolate, on_line, pad, taps_at, to_square, values_at

PLACES = np.arange(SIDE, dtype=np.float32)
ANGLES = 60  # directions in half a turn: 0, 45 and 90 degrees must be among them
REACHES = (4, 8)  # pixels from a ridge to its sides
LEVEL = 0.08  # ridge response that counts neither for nor against a segment
SHORTEST = 14  # pixels; the corners of filled regions are ridges of up to 12
BESIDE = 4  # pixels to both sides of a line from which its ridge is fitted
MOST = 10
AT_ONCE = 256  # lines looked at again
PARTS = 8  # of the lines, so that one fits a processor's cache
BEND = 8, np.radians([15, 25, 35])  # pixels past an end, and angles to the line, at which a curve would go on


class DetectedAxis(NamedTuple):
    """A reflection axis as a segment; `score`: mean of the heat map along it, 0..1, or a probability made of it."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float


@dataclass(frozen=True)
class _Line:
    """A stretch of a line: `theta` radians from the x axis, `offset` across, `start` to `end` along, in pixels."""

    theta: float
    offset: float
    start: float
    end: float

    def points(self, along: Any, across: Any = 0.0) -> tuple[Any, Any]:
        """x, y in the square: numbers or arrays, as `along` and `across` are."""
        return on_line(self.theta, along, self.offset + across)

    @classmethod
    def through(cls, x: float, y: float, theta: float, length: float) -> "_Line":
        """The one of this angle and length about a point of the square."""
        along, across = on_line(-theta, x, y)
        return cls(theta, across, along - length / 2, along + length / 2)


def find_axes(heat_map: np.ndarray) -> list[DetectedAxis]:
    """The axes of a heat map, float [H, W] in 0..1, the best first, at most ten."""
    square, scale, (left, top) = to_square(np.asarray(heat_map, np.float32))
    padded, ridges, found = pad(square), _Ridges(square), []
    for _ in range(MOST):
        line = ridges.best_line()
        if line is None:
            break
        line = _trimmed(padded, _fitted(padded * ridges.kept, line))
        score = float(values_at(padded, *line.points(np.arange(line.start, line.end + 1))).mean())
        if not _curved(padded, line, score):
            ends = [(x - left, y - top) for x, y in (line.points(line.start), line.points(line.end))]
            (x1, y1), (x2, y2) = ((scale * (x + 0.5) - 0.5, scale * (y + 0.5) - 0.5) for x, y in ends)
            found.append(DetectedAxis(x1, y1, x2, y2, score))
        ridges.leave(_outside(line))
    return sorted(found, key=lambda axis: -axis.score)


class _Ridges:
    """The ridges of a map along every line of the search, and the best stretch among them.

    Taking something out of the map can only make a stretch worse. Hence what a line was worth before is a bound, and
    only lines that may still be the best are looked at again: a few hundred of 11,520.
    """

    def __init__(self, square: np.ndarray) -> None:
        self.angles = np.arange(ANGLES) * math.pi / ANGLES
        self.kept = pad(np.ones((SIDE, SIDE), np.float32))
        heights = np.empty((SIDE, ANGLES, SIDE), np.float32)
        sides, quarter = max(REACHES), ANGLES // 2
        turned = np.zeros((SIDE, sides + SIDE + sides), np.float32)
        # Lines at other angles are lines at one of these in the map turned by 90 degrees or mirrored: time is saved.
        turns = [(turn, pad(map_), pad(map_.T)) for turn, map_ in ((0, square), (quarter, np.rot90(square)))]
        for number in range(quarter // 2 + 1):
            taps = taps_at(*on_line(float(self.angles[number]), PLACES[:, None], PLACES))
            for turn, upright, mirrored in turns:
                interpolate(upright, taps, out=turned[:, sides:-sides])
                _ridges(turned, out=heights[:, turn + number])
                if 0 < number < quarter - number:
                    interpolate(mirrored, taps, out=turned[:, sides:-sides])
                    _ridges(turned, out=heights[:, turn + quarter - number, ::-1])
        self.heights = heights.reshape(SIDE, -1)  # [along, line]
        self.worth = np.concatenate([_worth(some) for some in np.array_split(self.heights, PARTS, axis=1)])
        self.exact = np.ones(len(self.worth), bool)

    def leave(self, kept: np.ndarray) -> None:
        """Weigh the ridges by `kept` [SIDE, SIDE] in 0..1: cheaper than looking for ridges in what is left."""
        self.kept *= pad(kept)
        self.exact[:] = False

    def best_line(self) -> _Line | None:
        """The stretch with the largest sum of ridges above the level."""
        while True:
            likely = np.argpartition(self.worth, -AT_ONCE)[-AT_ONCE:]
            best = int(likely[self.worth[likely].argmax()])
            if self.exact[best]:
                break
            doubtful = likely[~self.exact[likely]]
            self.worth[doubtful] = _worth(self.left(doubtful))
            self.exact[doubtful] = True
        angle, offset = divmod(best, SIDE)
        stretch = _stretch(self.left(np.array([best]))[:, 0])
        return stretch and _Line(float(self.angles[angle]), float(offset), *stretch)

    def left(self, lines: np.ndarray) -> np.ndarray:
        """[along, line]: the ridges of these lines, weighed by what was kept."""
        angle, offset = np.divmod(lines, SIDE)
        points = on_line(self.angles[angle].astype(np.float32), PLACES[:, None], PLACES[offset])
        heights = interpolate(self.kept, taps_at(*points))
        heights *= self.heights.take(lines, axis=1, mode="clip")
        return heights


def _ridges(turned: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """[along, sides + offset + sides] -> [along, offset]: by how much it is brighter than on both sides of a line."""
    sides, lines = max(REACHES), turned.shape[1] - 2 * max(REACHES)
    near, far = (
        np.maximum(turned[:, sides - reach :][:, :lines], turned[:, sides + reach :][:, :lines]) for reach in REACHES
    )
    np.minimum(near, far, out=near)
    np.subtract(turned[:, sides:-sides], near, out=near)
    return np.maximum(near, 0, out=out)


def _worth(heights: np.ndarray) -> np.ndarray:
    """[along, line] -> [line]: the largest sum of ridges above the level of a stretch."""
    gains = heights - LEVEL
    nothing, longer = np.zeros_like(gains[0]), np.empty_like(gains[0])
    for before, gain in zip(gains, gains[1:]):  # of the best stretch that ends here
        gain += np.maximum(before, nothing, out=longer)
    return gains.max(0)


def _stretch(heights: np.ndarray) -> tuple[float, float] | None:
    """Start and end of the stretch of a line [along] with the largest sum of ridges above the level."""
    sums = np.append(0, (heights - LEVEL).cumsum())
    gains = sums[1:] - np.minimum.accumulate(sums[:-1])
    end = int(gains.argmax())
    start = int(sums[: end + 1].argmin())
    return None if gains[end] <= 0 or end - start + 1 < SHORTEST else (float(start), float(end))


def _ridges_beside(padded: np.ndarray, line: _Line, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[along, offset]: the ridges along a line, which is the middle one, and those beside it; their offsets."""
    reach = BESIDE + max(REACHES)
    offsets = round(line.offset) + np.arange(-reach, reach + 1)
    points = on_line(line.theta, along[:, None], offsets)
    return _ridges(values_at(padded, *points)), offsets[max(REACHES) : -max(REACHES)]


def _fitted(padded: np.ndarray, line: _Line) -> _Line:
    """The stretch of the straight line through the middle of the ridge beneath it, by least squares, twice over."""
    for _ in range(2):
        along = np.arange(round(line.start), round(line.end) + 1)  # a fit may turn it out of what lines are looked for
        heights, offsets = _ridges_beside(padded, line, along)
        mass = heights.sum(1)
        across = heights @ offsets / np.maximum(mass, 1e-6)
        mass += 1e-9  # so that a line without a ridge has a fit, too
        heaviest, place = along @ mass / mass.sum(), across @ mass / mass.sum()
        slope = (along - heaviest) * mass @ (across - place) / ((along - heaviest) ** 2 @ mass)
        middle = along.mean()
        x, y = replace(line, offset=float(place + slope * (middle - heaviest))).points(float(middle))
        line = _Line.through(x, y, line.theta + math.atan(slope), line.end - line.start)
    stretch = _stretch(_ridges_beside(padded, line, np.arange(SIDE))[0][:, BESIDE])
    return line if stretch is None else replace(line, start=stretch[0], end=stretch[1])


def _trimmed(padded: np.ndarray, line: _Line) -> _Line:
    """The line between its first and last point, to a fraction of a pixel, of half its mean height.

    That is where a blurred segment ends.
    """
    along = np.arange(line.start, line.end + 1)
    heights = values_at(padded, *line.points(along))
    level = heights.mean() / 2
    high = np.flatnonzero(heights >= level)
    first, last = high[0], high[-1]

    def crossing(outside: int, inside: int) -> float:
        low, top = heights[outside], heights[inside]
        return along[inside] + (along[outside] - along[inside]) * (top - level) / (top - low)

    start = crossing(first - 1, first) if first else along[0]
    end = crossing(last + 1, last) if last + 1 < len(along) else along[-1]
    return replace(line, start=float(start), end=float(end))


def _curved(padded: np.ndarray, line: _Line, score: float) -> bool:
    """Whether the ridge goes on past both ends, but bends away: then the line is a chord of a curve."""
    ahead, angles = BEND
    angles = np.concatenate([[0], angles, -angles])
    bends = []
    for end, sign in ((line.start, -1), (line.end, 1)):
        around = line.points(end + sign * ahead * np.cos(angles), ahead * np.sin(angles))
        straight, *aside = values_at(padded, *around).tolist()
        bends.append(max(aside) > 0.6 * score and max(aside) > straight + 0.2 * score)
    return all(bends)


def _outside(line: _Line, width: float = 4.0) -> np.ndarray:
    """[SIDE, SIDE]: 0 within `width` pixels of the line, rising to 1 at twice that."""
    cos, sin, place = math.cos(line.theta), math.sin(line.theta), PLACES
    x1, y1 = line.points(line.start)
    x, y = place - x1, (place - y1)[:, None]
    along, across = cos * x + sin * y, cos * y - sin * x
    beyond = np.maximum(np.maximum(-along, along - (line.end - line.start)), 0)
    return np.clip(np.sqrt(across**2 + beyond**2) / width - 1, 0, 1)
