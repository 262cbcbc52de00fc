"""Symmetry by pairs of SIFT features: a detector that was never trained, for the tables' row `classical`.

After Loy and Eklundh, "Detecting Symmetry and Symmetric Constellations of Features" (ECCV 2006). A feature that looks
like the mirrored other one votes for the axis between the two, one that looks like the turned other one for the
centre about which it is turned. What most weight agrees on is then fitted to its pairs, to a fraction of a pixel.

Coordinates: x right, y down, pixels, pixel centres at integers; angles from the x axis towards the y axis.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import KDTree

from pipeline.annotations import Point
from pipeline.detection.axes import DetectedAxis
from pipeline.detection.centres import DetectedCentre

cv2.setNumThreads(1)  # processes share the images
LONGEST = 400  # pixels of the longer side that features are looked for in
FEATURES = 1000  # the strongest
MIRRORED, TURNED = 2, 6  # other features that one is paired with, the most similar first; a fold of 8 has seven
SAME_PLACE = 3.0  # pixels, up and down and to the sides, within which two are one feature at two angles
LEAST_ALIKE = 0.7  # product of two looks, for which the weight of a pair is 0
SAME_SIZE = 0.5  # of the scales' difference relative to their sum, whose weight is exp(-1)
ANGLES, STEP = 180, 2.0  # cells of the directions' half turn, and of the offsets: pixels
CELL = 4.0  # of centres: pixels
MOST = 10  # axes or centres
NEAR = 3.0, math.radians(4)  # pixels and angle within which a pair supports an axis
LEAST = 4  # pairs that an axis or a centre needs
SMALLEST_TURN = math.radians(12)
FOLDS = (2, 3, 4, 5, 6, 8)


class Features(NamedTuple):
    """SIFT features: `place` [n, 2] in pixels of the image they were found in, `size` [n] in pixels, `angle` [n] in
    radians, `look` [n, 128], of length 1."""

    place: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    look: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Pairs of features: `one` and `other` [n, 2] in pixels, `turn` [n] the difference of their angles, `weight` [n]
    in 0..1."""

    one: np.ndarray
    other: np.ndarray
    turn: np.ndarray
    weight: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Pairs":
        return Pairs(self.one[chosen], self.other[chosen], self.turn[chosen], self.weight[chosen])

    @property
    def middle(self) -> np.ndarray:
        """[n, 2] between the two."""
        return (self.one + self.other) / 2


def classical_axes(image: np.ndarray) -> list[DetectedAxis]:
    """The reflection axes of an image, uint8 [H, W, 3], the best first, at most ten; scores in 0..1."""
    features, scale = _features(image)
    if len(features.size) < LEAST:
        return []
    pairs = _mirrored(features)
    votes, reach = _axis_votes(pairs, features)
    found: list[DetectedAxis] = []
    for row, column in _peaks(np.concatenate([votes, votes[:, ::-1]]), (10, 8), "wrap"):
        if row >= ANGLES:  # the same lines, half a turn on
            continue
        line = math.pi * (row + 0.5) / ANGLES, STEP * (column + 0.5) - reach
        axis = _fitted_axis(pairs, line, scale)
        if axis is not None and not any(_same(axis, other, scale.max()) for other in found):
            found.append(axis)
        if len(found) == MOST:
            break
    return sorted(found, key=lambda axis: -axis.score)


def classical_centres(image: np.ndarray) -> list[DetectedCentre]:
    """The rotation centres of an image, uint8 [H, W, 3], the best first, at most ten, with their folds (0: any turn);
    scores in 0..1."""
    features, scale = _features(image)
    if len(features.size) < LEAST:
        return []
    pairs = _turned(features)
    width, height = np.array(image.shape[1::-1]) / scale
    places = _centre(pairs)
    inside = np.all((places > 0) & (places < (width - 1, height - 1)), axis=1)
    pairs, places = pairs[inside], places[inside]
    votes = np.zeros((math.ceil(height / CELL), math.ceil(width / CELL)))
    np.add.at(votes, tuple((places.T[::-1] / CELL).astype(int)), pairs.weight)
    found = []
    for row, column in _peaks(gaussian_filter(votes, 1.0, mode="constant"), (8, 8), "nearest")[:MOST]:
        near = np.hypot(*(places - CELL * (np.array([column, row]) + 0.5)).T) < 2 * CELL
        if near.sum() < LEAST:
            continue
        place = np.average(places[near], axis=0, weights=pairs.weight[near])
        found.append(DetectedCentre(*_native(place, scale), _share(pairs.weight[near]), _fold(pairs[near])))
    return sorted(found, key=lambda centre: -centre.score)


def _features(image: np.ndarray) -> tuple[Features, np.ndarray]:
    """The features of the image made small, and how many of its own pixels a pixel of that is, across and down."""
    own = np.array(image.shape[1::-1])
    size = np.maximum(1, (own * min(1, LONGEST / own.max())).round().astype(int))
    grey = cv2.cvtColor(cv2.resize(image, size.tolist(), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    # without the precise way of doubling the image all places are a quarter of a pixel off
    sift = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=0.02, enable_precise_upscale=True)
    points, looks = sift.detectAndCompute(grey, None)
    numbers = np.array([(*point.pt, point.size, math.radians(point.angle)) for point in points]).reshape(-1, 4)
    looks = np.zeros((0, 128), np.float32) if looks is None else looks
    root = np.sqrt(looks / np.maximum(1, looks.sum(1, keepdims=True)))  # RootSIFT: large entries count less
    return Features(numbers[:, :2], numbers[:, 2], numbers[:, 3], root), own / size


def _mirrored(features: Features) -> Pairs:
    """Pairs of which one looks like the mirrored other."""
    # seen in a mirror along its own direction a feature has its rows and its gradients' angles turned round
    look = features.look.reshape(-1, 4, 4, 8)[:, ::-1, :, -np.arange(8)].reshape(-1, 128)
    one, other, weight = _alike(features, look, MIRRORED)
    along = features.place[other] - features.place[one]
    # angles mirrored in a line across `along` add up to twice its own direction
    angles = features.angle[one] + features.angle[other] - 2 * np.arctan2(along[:, 1], along[:, 0])
    weight = weight * np.clip(-np.cos(angles), 0, None)
    return Pairs(features.place[one], features.place[other], angles, weight)[weight > 0.05]


def _turned(features: Features) -> Pairs:
    """Pairs of which one looks like the other, at another angle."""
    one, other, weight = _alike(features, features.look, TURNED)
    turn = (features.angle[other] - features.angle[one] + math.pi) % (2 * math.pi) - math.pi
    return Pairs(features.place[one], features.place[other], turn, weight)[
        (np.abs(turn) > SMALLEST_TURN) & (weight > 0.05)
    ]


def _alike(features: Features, look: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of features and of the `most` whose `look` [n, 128] is most like theirs, and a weight by how alike."""
    like = features.look @ look.T
    same = KDTree(features.place).query_pairs(SAME_PLACE, p=math.inf, output_type="ndarray")
    like[same[:, 0], same[:, 1]] = like[same[:, 1], same[:, 0]] = 0
    np.fill_diagonal(like, 0)
    one, others, likes = np.arange(len(like)), [], []
    for _ in range(most):  # faster than a partition
        others.append(like.argmax(1))
        likes.append(like[one, others[-1]])
        like[one, others[-1]] = 0
    ones, other = np.tile(one, len(others)), np.concatenate(others)
    sizes = features.size[ones], features.size[other]
    weight = np.exp(-np.abs(sizes[0] - sizes[1]) / (SAME_SIZE * (sizes[0] + sizes[1])))
    return ones, other, weight * np.clip(np.concatenate(likes) - LEAST_ALIKE, 0, None) / (1 - LEAST_ALIKE)


def _axis_votes(pairs: Pairs, features: Features) -> tuple[np.ndarray, float]:
    """The weight for each line, [ANGLES, offsets]: `theta` of its normal, x cos theta + y sin theta, from -reach."""
    across = pairs.other - pairs.one
    theta = np.arctan2(across[:, 1], across[:, 0]) % math.pi
    offset = (pairs.middle * np.stack([np.cos(theta), np.sin(theta)], 1)).sum(1)
    reach = STEP * math.ceil(np.hypot(*features.place.max(0, initial=1)) / STEP)
    bins = ANGLES, round(2 * reach / STEP)
    votes, _, _ = np.histogram2d(theta, offset, bins, ((0, math.pi), (-reach, reach)), weights=pairs.weight)
    whole = np.concatenate([votes, votes[:, ::-1]])  # lines come back after half a turn, on the other side
    return gaussian_filter(whole, (1.5, 1.5), mode=("wrap", "constant"))[:ANGLES], reach


def _peaks(votes: np.ndarray, apart: tuple[int, int], rows_end: str) -> list[tuple[int, int]]:
    """Row and column of the local maxima, the highest first, at most forty; `rows_end`: as SciPy's filters name it."""
    highest = maximum_filter(votes, [2 * side + 1 for side in apart], mode=(rows_end, "nearest"))
    rows, columns = np.nonzero((votes == highest) & (votes > 0))
    order = np.argsort(-votes[rows, columns], kind="stable")[: 4 * MOST]
    return list(zip(rows[order].tolist(), columns[order].tolist()))


def _fitted_axis(pairs: Pairs, line: tuple[float, float], scale: np.ndarray) -> DetectedAxis | None:
    """The axis that mirrors the pairs about a line, normal and offset, on each other with the least squares, in pixels
    of the image itself; None for fewer than LEAST."""
    theta, offset = line
    for _ in range(3):
        normal = np.array([math.cos(theta), math.sin(theta)])
        across = pairs.other - pairs.one
        tilt = (np.arctan2(across[:, 1], across[:, 0]) - theta + math.pi / 2) % math.pi - math.pi / 2
        near = (np.abs(pairs.middle @ normal - offset) < NEAR[0]) & (np.abs(tilt) < NEAR[1])
        if near.sum() < LEAST:
            return None
        some = pairs[near]
        middle = np.average(some.middle, axis=0, weights=some.weight)  # lies on the axis
        (px, py), (qx, qy) = (some.one - middle).T, (some.other - middle).T
        along = math.atan2((some.weight * (px * qy + py * qx)).sum(), (some.weight * (px * qx - py * qy)).sum()) / 2
        theta = along + math.pi / 2
        offset = float(middle @ (math.cos(theta), math.sin(theta)))
    direction = np.array([math.cos(along), math.sin(along)])
    reach = np.concatenate([(some.one - middle) @ direction, (some.other - middle) @ direction])
    start, end = (_native(middle + direction * t, scale) for t in np.percentile(reach, [2, 98]))
    return DetectedAxis(*start, *end, _share(some.weight))


def _share(weights: np.ndarray) -> float:
    """The weights of the pairs as a score in 0..1: a half for ten pairs that are the same."""
    return float(weights.sum() / (weights.sum() + 10))


def _same(axis: DetectedAxis, other: DetectedAxis, scale: float) -> bool:
    """Whether the ends of both are the same, in either order; `scale`: pixels that one of a small image is."""
    one, straight = np.array(axis[:4]), np.array(other[:4])
    return bool(min(np.abs(one - ends).max() for ends in (straight, np.roll(straight, 2))) < 4 * NEAR[0] * scale)


def _native(place: np.ndarray, scale: np.ndarray) -> Point:
    """x, y of the image itself, of a place in the image made small."""
    x, y = (scale * (place + 0.5) - 0.5).tolist()
    return x, y


def _centre(pairs: Pairs) -> np.ndarray:
    """[n, 2]: the point about which one of a pair is turned to the other, by `turn`."""
    half = (pairs.other - pairs.one) / 2
    return pairs.middle + np.stack([-half[:, 1], half[:, 0]], 1) / np.tan(pairs.turn / 2)[:, None]


def _fold(pairs: Pairs) -> int:
    """The fold whose turns the pairs make: the least that is as good as the best; 0 where they make any turn."""
    fit = {n: np.average(np.cos(n * pairs.turn), weights=pairs.weight) for n in FOLDS}
    best = max(fit.values())
    return next(n for n in FOLDS if fit[n] > best - 0.1) if best > 0.6 else 0
