"""The folds told of centres, by hand."""

import numpy as np

from pipeline.annotations import RotationCentre
from pipeline.detection.centres import DetectedCentre
from pipeline.scoring.folds import confusion, told_of_found
from pipeline.scoring.matching import matches

MARKED = RotationCentre(50, 50, 4), RotationCentre(150, 50, 0), RotationCentre(50, 150, 3), RotationCentre(250, 50, 1)


def test_the_best_of_those_found_near_a_centre_tells_its_fold():
    found = [
        DetectedCentre(51, 50, 0.4, 2),
        DetectedCentre(50, 51, 0.9, 4),
        DetectedCentre(150, 50, 0.3, None),
        DetectedCentre(300, 300, 0.99, 8),
        DetectedCentre(250, 50, 0.99, 8),  # whose marked fold is not known
    ]
    matched = matches(found, MARKED, 400)
    assert told_of_found(found, MARKED, matched) == [(4, 4), (0, None)]
    assert told_of_found([], MARKED, matches([], MARKED, 400)) == []


def test_confusion():
    counts = confusion([(4, 4), (4, 2), (4, 4), (0, None)])
    assert counts == {"centres": 4, "right": 0.5, "told": {"0": {"in doubt": 1}, "4": {"2": 1, "4": 2}}}
    assert confusion([]) == {"centres": 0, "right": None, "told": {}}
    assert np.isclose(confusion([(0, 0), (2, 3)])["right"], 0.5)
