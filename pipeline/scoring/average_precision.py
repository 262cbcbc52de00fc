"""sAP: the average precision of axes, rotation centres and folds, as AxisSym's released code computes it.

docs/evaluation.md says the rules; they are those of wongyun-yu/AxisSym at commit ecbb50b (ICCV 2025), `utils/utils.py`.
Everything lies in a square of 128 pixels into which the image is letterboxed. Axes are float32 [N, 2, 2], two ends
each; centres float32 [N, 2]. Points are pairs in one order throughout; where a map is looked up, (y, x), y down.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SIDE = 128  # pixels of the square
LIMITS = (5, 10, 15)  # of squared distances: the thresholds of sAP@5, 10 and 15
INSIDE = (7, 10)  # the share of a line's pixels that must lie in a disc
FOLDS = (0, 2, 3, 4, 5, 6, 8)  # those that the released model tells apart


@dataclass(frozen=True)
class Ranked:
    """Of one image: `scores` float [N] of what was found; `right` bool [3, N] at each of LIMITS; `marked`: how many
    are to be found."""

    scores: np.ndarray
    right: np.ndarray
    marked: int


def ranked(scores: np.ndarray, nearest: np.ndarray, choice: np.ndarray, marked: int, limits: Iterable[float]) -> Ranked:
    """What is right of what was found, gone through in the order given: float [N] scores.

    `nearest`: squared distance to the nearest marked one, `choice`: its number, both [N]. It is wrong where that one
    was taken before, however near another one may be.
    """
    right = np.zeros((len(LIMITS), len(scores)), bool)
    for row, limit in zip(right, limits):
        near = np.flatnonzero(nearest < np.float32(limit))
        _, first = np.unique(choice[near], return_index=True)
        row[near[first]] = True
    return Ranked(scores, right, marked)


def axes_ranked(
    axes: np.ndarray, scores: np.ndarray, truth: np.ndarray, discs: np.ndarray, centres: np.ndarray
) -> Ranked:
    """What is right of axes, float32 [N, 2, 2], points (y, x); `truth` [M, 2, 2] likewise.

    `discs`: bool [128, 128], where discs are painted; `centres`: their middles, [D, 2], of which the first counts. An
    axis through it is right where 70 % of its pixels lie in discs; no disc is to be found. Where no axis is marked all
    are wrong, those through discs too.
    """
    if not len(truth):
        return Ranked(scores, np.zeros((len(LIMITS), len(scores)), bool), 0)
    squares = ((axes[:, None, :, None] - truth[:, None]) ** 2).sum(-1, dtype=np.float32)  # [N, M, end, end]
    straight, crossed = squares[..., 0, 0] + squares[..., 1, 1], squares[..., 0, 1] + squares[..., 1, 0]
    distances = np.minimum(straight, crossed)
    found = ranked(scores, distances.min(1), distances.argmin(1), len(truth), LIMITS)
    if len(centres):
        middles = (axes[:, 0] + axes[:, 1]) / 2
        away = ((middles - centres[0]) ** 2).sum(-1, dtype=np.float32)
        inside = np.array([_lies_in(axis, discs) for axis in axes], bool)
        for row, limit in zip(found.right, LIMITS):
            row |= (away < np.float32(limit / 2)) & inside
    return found


def centres_ranked(
    centres: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray,
    folds: tuple[np.ndarray, np.ndarray] | None = None,
) -> Ranked | None:
    """What is right of rotation centres, float32 [N, 2]; `truth` [M, 2] likewise.

    None, so that nothing counts, for an image without a marked centre. `folds`: those of the found ones and of the
    marked ones, int, which then must agree; an image in which nothing was found does not count, either.
    """
    if not len(truth) or (folds is not None and not len(centres)):
        return None
    right = np.ones((len(centres), len(truth)), bool)
    if folds is not None:
        kept = np.isin(folds[1], FOLDS)
        truth, right = truth[kept], folds[0][:, None] == folds[1][kept]
    if not len(truth):
        return Ranked(scores, np.zeros((len(LIMITS), len(scores)), bool), 0)
    distances = ((centres[:, None] - truth) ** 2).sum(-1, dtype=np.float32)
    nearest, choice = distances.min(1), distances.argmin(1)
    nearest = np.where(right[np.arange(len(centres)), choice], nearest, np.float32(np.inf))
    return ranked(scores, nearest, choice, len(truth), [limit / 2 for limit in LIMITS])


def average_precisions(images: Iterable[Ranked]) -> list[float] | None:
    """The sAP at each of LIMITS, in 0..1, over all that was found in these images; None where nothing is marked.

    Of equal scores the one that was found first counts first. Recall, which can pass 1 through discs, is not cut off.
    """
    some = list(images)
    marked = sum(image.marked for image in some)
    if not marked:
        return None
    scores = np.concatenate([image.scores for image in some])
    rows = np.concatenate([image.right for image in some], axis=1)[:, np.argsort(-scores, kind="stable")]
    return [_area(right, marked) for right in rows]


def _area(right: np.ndarray, marked: int) -> float:
    """The area beneath precision over recall; precision is the best at this recall or any later one."""
    hits = right.cumsum()
    recall = np.concatenate([[0], hits / marked, [1]])
    precision = np.concatenate([[1], hits / np.arange(1, len(hits) + 1), [0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(recall) @ envelope[1:])


def _lies_in(axis: np.ndarray, discs: np.ndarray) -> bool:
    """Whether enough of a line's pixels lie in discs; those beyond the square count as its nearest pixel."""
    rows, columns = line(*np.rint(axis).astype(int).ravel().tolist())
    inside = discs[np.clip(rows, 0, len(discs) - 1), np.clip(columns, 0, discs.shape[1] - 1)]
    return INSIDE[1] * int((inside > 0).sum()) >= INSIDE[0] * len(inside)


def line(y1: int, x1: int, y2: int, x2: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of a line, from end to end, by Bresenham's rule, as scikit-image draws it."""
    steep = abs(y2 - y1) > abs(x2 - x1)
    (a1, b1), (a2, b2) = ((y1, x1), (y2, x2)) if steep else ((x1, y1), (x2, y2))
    steps, rise = abs(a2 - a1), abs(b2 - b1)
    along = np.arange(steps + 1)
    across = (2 * rise * along + steps) // max(1, 2 * steps)
    a, b = a1 + (1 if a2 > a1 else -1) * along, b1 + (1 if b2 > b1 else -1) * across
    return (a, b) if steep else (b, a)
