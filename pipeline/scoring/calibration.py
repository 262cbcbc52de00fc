"""Probabilities of what is found, learnt from photographs in which people marked axes and centres.

Coordinates: x right, y down, pixels of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from pipeline.detection.confidence import Calibration, terms
from pipeline.errors import DataError
from pipeline.scoring.matching import Found, Marked, matches

FOLDS = 10  # of the images: what is told of one was learnt from others
RIGHT = 3 / 4  # share of what is reported
BINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Calibrated:
    """`weights`, learnt from all images; and what they are worth on images that they were not learnt from.

    `reliability`: of what was found with a probability in each of BINS the number, the mean probability, and the share
    that is right. `told`: how many have a probability from which they are reported; of them RIGHT or more are right.
    """

    weights: Calibration
    reliability: pd.DataFrame
    told: int


def learnt(images: Sequence[tuple[Found, Marked, tuple[int, ...]]]) -> Calibrated:
    """From what was found in each image, with the heat map's scores, what is marked there, and its height and width.

    Raises DataError where nothing that was found is right, or all, or there are fewer than ten images.
    """
    features = [terms(one, shape) for found, _, shape in images for one in found]
    groups = [number for number, (found, _, _) in enumerate(images) for _ in found]
    right = np.concatenate([matches(found, marked, max(shape)).right.any(axis=1) for found, marked, shape in images])
    if len(set(groups)) < FOLDS or len(set(right)) < 2:
        raise DataError(
            f"expected {FOLDS} marked photographs or more, and right and wrong ones found in them, got "
            f"{len(set(groups))} in which {right.sum()} of {len(right)} are right"
        )
    model = LogisticRegression(C=np.inf)
    probable = cross_val_predict(model, features, right, groups=groups, cv=GroupKFold(FOLDS), method="predict_proba")
    model.fit(features, right)
    probability = probable[:, 1]
    least = _least(probability, right)
    weights = Calibration(*map(float, (model.intercept_[0], *model.coef_[0], least)))
    return Calibrated(weights, _reliability(probability, right), int((probability >= least).sum()))


def _least(probability: np.ndarray, right: np.ndarray) -> float:
    """The least probability from which RIGHT of what was found is right; 1 where there is none."""
    order = np.argsort(-probability, kind="stable")
    shares = right[order].cumsum() / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(shares >= RIGHT)
    return float(probability[order][enough[-1]]) if len(enough) else 1.0


def _reliability(probability: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    rows = pd.DataFrame({"probability": probability, "right": right})
    bins = pd.cut(rows.probability, BINS, include_lowest=True)
    return rows.groupby(bins, observed=True).agg(
        found=("right", "size"), probability=("probability", "mean"), right=("right", "mean")
    )
