"""Heat map -> reflection axes as segments, and rotation centres as points.

Axes are found one by one in line space. The map is turned through half a turn; across each direction a ridge filter
keeps what is brighter than both sides, so that filled regions do not fall apart into lines; along each line the
stretch with the largest sum above a level is kept. The best of all is refined and taken out of the map before the
search goes on, so that no axis is found twice under slightly different angles.

Coordinates: x right, y down, in pixels of the heat map, pixel centres at integers.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import center_of_mass, gaussian_filter, maximum_filter
from skimage.measure import block_reduce

SIDE = 192  # pixels of the square that the search works on
ANGLES = 60  # directions in half a turn
REACHES = (4, 8)  # pixels from a ridge to its sides
LEVEL = 0.08  # ridge response that counts neither for nor against a segment
SHORTEST = 14  # pixels; the corners of filled regions are ridges of up to 12
BESIDE = 4  # pixels to both sides of a line from which its ridge is fitted
MOST = 10  # axes or centres
AT_ONCE = 256  # lines looked at again
CACHED = 10  # angles worked through together, few enough for a processor's cache
BEND = 8, np.radians([15, 25, 35])  # pixels past an end, and angles to the line, at which a curve would go on
FINEST = 320  # pixels of the longer side that centres are looked for in, or up to twice as many
SPREAD = 1 / 40  # of the longer side: how far a centre's peak is taken together


class DetectedAxis(NamedTuple):
    """A reflection axis as a segment; `score`: mean of the heat map along it, 0..1."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float


class DetectedCentre(NamedTuple):
    """A rotation centre; `score`: the heat map's peak, 0..1; `fold`: None where it is not known."""

    x: float
    y: float
    score: float
    fold: int | None = None


@dataclass(frozen=True)
class _Line:
    """A stretch of a line: `theta` radians from the x axis, `offset` across, `start` to `end` along, in pixels."""

    theta: float
    offset: float
    start: float
    end: float

    def point(self, along: float, across: float = 0.0) -> tuple[float, float]:
        """x, y in the square."""
        middle = (SIDE - 1) / 2
        u, v = along - middle, self.offset + across - middle
        cos, sin = math.cos(self.theta), math.sin(self.theta)
        return cos * u - sin * v + middle, sin * u + cos * v + middle

    @classmethod
    def through(cls, x: float, y: float, theta: float, length: float) -> "_Line":
        """The one of this angle and length about a point of the square."""
        middle = (SIDE - 1) / 2
        cos, sin, x, y = math.cos(theta), math.sin(theta), x - middle, y - middle
        along, across = cos * x + sin * y + middle, cos * y - sin * x + middle
        return cls(theta, across, along - length / 2, along + length / 2)


def find_axes(heat_map: np.ndarray) -> list[DetectedAxis]:
    """The axes of a heat map, float [H, W] in 0..1, the best first, at most ten."""
    square, scale, (left, top) = _squared(heat_map)
    found, ridges = [], _Ridges(square)
    for _ in range(MOST):
        line = ridges.best_line()
        if line is None:
            break
        line = _trimmed(square, _fitted(square * ridges.kept, line))
        score = float(_values(square, [line.point(a) for a in np.arange(line.start, line.end + 1)]).mean())
        if not _curved(square, line, score):
            ends = [(x - left, y - top) for x, y in (line.point(line.start), line.point(line.end))]
            (x1, y1), (x2, y2) = ((scale * (x + 0.5) - 0.5, scale * (y + 0.5) - 0.5) for x, y in ends)
            found.append(DetectedAxis(x1, y1, x2, y2, score))
        ridges.leave(1 - _stroke(line))
    return sorted(found, key=lambda axis: -axis.score)


def find_centres(heat_map: np.ndarray) -> list[DetectedCentre]:
    """The peaks of a heat map, float [H, W] in 0..1, the best first, at most ten.

    A peak is placed at the centre of mass of what is around it, to a fraction of a pixel.
    """
    scale = max(1, max(heat_map.shape) // FINEST)
    heat_map = block_reduce(heat_map, (scale, scale), np.max)
    spread = max(1.0, SPREAD * max(heat_map.shape))
    smooth, reach = gaussian_filter(heat_map.astype(np.float32), spread / 3), round(spread)
    peaks = (smooth == maximum_filter(smooth, size=2 * round(2 * spread) + 1)) & (smooth > 1e-3)
    found = []
    for y, x in np.argwhere(peaks):
        top, left = max(0, y - reach), max(0, x - reach)
        around = smooth[top : y + reach + 1, left : x + reach + 1]
        dy, dx = center_of_mass(np.clip(around - smooth[y, x] / 2, 1e-6, None))
        score = float(heat_map[top : y + reach + 1, left : x + reach + 1].max())
        x_native, y_native = (scale * (place + 0.5) - 0.5 for place in (left + dx, top + dy))
        found.append(DetectedCentre(float(x_native), float(y_native), score))
    return sorted(found, key=lambda centre: -centre.score)[:MOST]


def _squared(heat_map: np.ndarray) -> tuple[torch.Tensor, float, tuple[int, int]]:
    """The map on a square of zeros; native pixels per pixel there; column and row of its first pixel."""
    height, width = heat_map.shape
    scale = max(height, width) / SIDE
    size = max(1, round(height / scale)), max(1, round(width / scale))
    mode = {"mode": "area"} if scale > 1 else {"mode": "bilinear", "align_corners": False}
    small = F.interpolate(torch.from_numpy(heat_map.astype(np.float32, copy=False))[None, None], size=size, **mode)[
        0, 0
    ]
    top, left = ((SIDE - side) // 2 for side in size)
    square = torch.zeros(SIDE, SIDE)
    square[top : top + size[0], left : left + size[1]] = small
    return square, scale, (left, top)


class _Ridges:
    """The ridges of a map along every line of the search, and the best stretch among them.

    Taking something out of the map can only make a stretch worse. Hence what a line was worth before is a bound, and
    only lines that may still be the best are looked at again: a few hundred of 11,520.
    """

    def __init__(self, square: torch.Tensor) -> None:
        self.angles, grid = _half_turn()
        self.grid = grid.flatten(0, 1)  # [lines, along, 2]
        some = [_ridges(square, part).flatten(0, 1) for part in grid.split(CACHED)]
        self.heights = torch.cat(some)  # [lines, along]
        self.worth = torch.cat([_gains(heights).amax(1) for heights in some])
        self.exact = torch.ones(len(self.worth), dtype=torch.bool)
        self.kept = torch.ones(SIDE, SIDE)

    def leave(self, kept: torch.Tensor) -> None:
        """Weigh the ridges by `kept` [SIDE, SIDE] in 0..1: cheaper than looking for ridges in what is left."""
        self.kept *= kept
        self.exact[:] = False

    def best_line(self) -> _Line | None:
        """The stretch with the largest sum of ridges above the level."""
        while not self.exact[(best := self.worth.topk(AT_ONCE).indices)[0]]:
            doubtful = best[~self.exact[best]]
            self.worth[doubtful] = _gains(self._left(doubtful)).amax(1)
            self.exact[doubtful] = True
        number, stretch = int(best[0]), _stretch(self._left(best[:1])[0])
        return stretch and _Line(float(self.angles[number // SIDE]), float(number % SIDE), *stretch)

    def _left(self, lines: torch.Tensor) -> torch.Tensor:
        """[lines, along]: the ridges of these lines, weighed by what was kept."""
        kept = F.grid_sample(self.kept[None, None], self.grid[lines][None], align_corners=False)[0, 0]
        return self.heights[lines] * kept


@cache
def _half_turn() -> tuple[torch.Tensor, torch.Tensor]:
    """The angles of the search and their grid, made once: half of the time would go into it."""
    angles = torch.arange(ANGLES) * math.pi / ANGLES
    return angles, _grid(angles, torch.arange(SIDE))


def _ridges(square: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """[A, offset, along]: by how much the map, turned as the grid says, is brighter than on both sides of a line."""
    turned = F.grid_sample(square.expand(len(grid), 1, SIDE, SIDE), grid, align_corners=False)[:, 0]
    ridges, lines = torch.zeros_like(turned), turned.shape[1]
    for reach in REACHES:
        sides = F.pad(turned, (0, 0, reach, reach))
        higher = torch.maximum(sides[:, :lines], sides[:, 2 * reach :])
        ridges = torch.maximum(ridges, torch.sub(turned, higher, out=higher))
    return ridges


def _ridges_beside(square: torch.Tensor, line: _Line) -> tuple[torch.Tensor, torch.Tensor]:
    """[offset, along]: the ridges along a line, which is the middle one, and those beside it; their offsets."""
    reach = BESIDE + max(REACHES)
    offsets = round(line.offset) + torch.arange(-reach, reach + 1)
    inner = slice(max(REACHES), -max(REACHES))
    return _ridges(square, _grid(torch.tensor([line.theta]), offsets))[0, inner], offsets[inner]


def _grid(angles: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """[A, offset, along, 2]: where in the map the pixels of the turned ones lie, for grid_sample."""
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    across, along = ((place - (SIDE - 1) / 2) * 2 / SIDE for place in (offsets[:, None], torch.arange(SIDE)))
    return torch.stack([cos * along - sin * across, sin * along + cos * across], -1)


def _gains(heights: torch.Tensor) -> torch.Tensor:
    """[..., along]: the largest sum of ridges above the level of a stretch that ends there."""
    sums = (heights - LEVEL).cumsum(-1)
    return sums - F.pad(sums, (1, 0))[..., :-1].cummin(-1).values


def _stretch(heights: torch.Tensor) -> tuple[float, float] | None:
    """Start and end of the stretch of a line [along] with the largest sum of ridges above the level."""
    gains = _gains(heights)
    end = int(gains.argmax())
    start = int(F.pad((heights - LEVEL).cumsum(0), (1, 0))[: end + 1].argmin())
    return None if gains[end] <= 0 or end - start + 1 < SHORTEST else (float(start), float(end))


def _fitted(square: torch.Tensor, line: _Line) -> _Line:
    """The stretch of the straight line through the middle of the ridge beneath it, by least squares, twice over."""
    for _ in range(2):
        ridges, offsets = _ridges_beside(square, line)
        first, end = max(0, round(line.start)), min(SIDE, round(line.end) + 1)
        heights, along = ridges[:, first:end], torch.arange(first, end)
        weight = heights.sum(0)
        across = (heights * offsets[:, None]).sum(0) / weight.clamp(min=1e-6)
        slope, place = np.polyfit(along - along.float().mean(), across, 1, w=weight.sqrt() + 1e-6)
        x, y = replace(line, offset=float(place)).point(float(along.float().mean()))
        line = _Line.through(x, y, line.theta + math.atan(slope), line.end - line.start)
    stretch = _stretch(_ridges_beside(square, line)[0][BESIDE])
    return line if stretch is None else replace(line, start=stretch[0], end=stretch[1])


def _trimmed(square: torch.Tensor, line: _Line) -> _Line:
    """The line between its first and last point, to a fraction of a pixel, of half its mean height.

    That is where a blurred segment ends.
    """
    along = np.arange(line.start, line.end + 1)
    heights = _values(square, [line.point(a) for a in along]).numpy()
    level = heights.mean() / 2
    high = np.flatnonzero(heights >= level)
    first, last = high[0], high[-1]

    def crossing(outside: int, inside: int) -> float:
        low, top = heights[outside], heights[inside]
        return along[inside] + (along[outside] - along[inside]) * (top - level) / (top - low)

    start = crossing(first - 1, first) if first else along[0]
    end = crossing(last + 1, last) if last + 1 < len(along) else along[-1]
    return replace(line, start=float(start), end=float(end))


def _values(square: torch.Tensor, points: list[tuple[float, float]]) -> torch.Tensor:
    """The map at points x, y, bilinear, zero outside."""
    grid = ((torch.tensor(points, dtype=torch.float32) + 0.5) * 2 / SIDE - 1)[None, None]
    return F.grid_sample(square[None, None], grid, align_corners=False)[0, 0, 0]


def _curved(square: torch.Tensor, line: _Line, score: float) -> bool:
    """Whether the ridge goes on past both ends, but bends away: then the line is a chord of a curve."""
    ahead, angles = BEND
    bends = []
    for end, sign in ((line.start, -1), (line.end, 1)):
        aside = [
            line.point(end + sign * ahead * math.cos(angle), side * ahead * math.sin(angle))
            for side in (-1, 1) for angle in angles
        ]  # fmt: skip
        straight = float(_values(square, [line.point(end + sign * ahead)]))
        beyond = float(_values(square, aside).max())
        bends.append(beyond > 0.6 * score and beyond > straight + 0.2 * score)
    return all(bends)


def _stroke(line: _Line, width: float = 4.0) -> torch.Tensor:
    """[SIDE, SIDE]: 1 within `width` pixels of the line, falling to 0 at twice that."""
    (x1, y1), (x2, y2) = line.point(line.start), line.point(line.end)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    dx, dy, length = x2 - x1, y2 - y1, line.end - line.start
    along = ((x - x1) * dx + (y - y1) * dy) / length
    across = ((x - x1) * dy - (y - y1) * dx) / length
    distance = torch.hypot(across, torch.maximum(-along, along - length).clamp(min=0))
    return 1 - ((distance - width) / width).clamp(0, 1)
