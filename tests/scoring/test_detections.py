"""The scores of what is found in images: places in the square, orders, sums over shards, and sets without marks."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.detection.axes import DetectedAxis, find_axes
from pipeline.detection.centres import DetectedCentre, find_centres
from pipeline.scoring.detections import DetectionScores, found_in, heat_map_scores, image_scores
from pipeline.scoring.matching import best_threshold

HEIGHT, WIDTH = 300, 400  # in the square of 128: 0.32 a pixel, 16 rows above
UPRIGHT = ReflectionAxis(100, 50, 100, 250)
MARKED = Annotation((UPRIGHT,), (), (RotationCentre(100, 150, 4), RotationCentre(300, 150, 0)))


def axis(by=0.0, score=0.5):
    """The marked axis, moved by so many pixels to the right: 2 * (0.32 * by)^2 away in the square."""
    return DetectedAxis(100 + by, 50, 100 + by, 250, score)


def axes_summary(*images, threshold=0.5):
    each = {n: image_scores(found, marks, "reflection", HEIGHT, WIDTH) for n, (found, marks) in enumerate(images)}
    return DetectionScores(each).summary(threshold)


def centres_summary(found, marks=MARKED, size=(HEIGHT, WIDTH)):
    return DetectionScores({0: image_scores(found, marks, "rotation", *size)}).summary(0.5)


def test_distances_are_those_in_a_square_of_128():
    """5 pixels: 5.12, 6.9: 9.75, 7: 10.03, 8.6: 15.15, if the square is of the longer side."""
    found = [axes_summary(([axis(by)], MARKED))["sap"]["released"] for by in (4.9, 5.0, 6.9, 7.0, 8.6)]
    assert [list(areas.values()) for areas in found] == [[1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert list(found[0]) == ["5", "10", "15"]


def test_what_lies_beyond_the_square_is_at_its_edge():
    marks = Annotation((ReflectionAxis(-900, 150, 900, 150),))
    inside = [DetectedAxis(0, 150, 399, 150, 0.5)]
    assert axes_summary((inside, marks))["sap"]["released"]["5"] == 1


def test_the_order_of_the_list_and_that_of_the_scores():
    """A weak one comes first and takes the axis: the strong one is wrong in the released order."""
    weak, strong = axis(4, 0.4), axis(0, 0.9)
    sap = axes_summary(([weak, strong], MARKED))["sap"]
    assert sap == {"released": {"5": 0.5, "10": 0.5, "15": 0.5}, "by_score": {"5": 1, "10": 1, "15": 1}}
    assert axes_summary(([strong, weak], MARKED))["sap"]["released"]["5"] == 1


def test_scores_of_the_competition():
    """Of two axes one is found, by the best of three; one of the three is wrong, in an image without marks."""
    marks = Annotation((UPRIGHT, ReflectionAxis(200, 150, 390, 150)))
    found = axes_summary(([axis(1, 0.8), axis(2, 0.7)], marks), ([axis(0, 0.6)], Annotation()), threshold=0.6)
    assert found["marked"] == 2 and found["found"] == 3
    assert found["max_f1"] == pytest.approx(2 / 3) and found["max_f1_score"] == 0.7
    assert found["f1"] == pytest.approx(2 / 4) and found["detection_threshold"] == 0.6
    assert found["top1"] == 1  # of the one image with marks
    missed = axes_summary(([], marks), ([axis(0)], MARKED))
    assert missed["top1"] == 0.5 and missed["max_f1"] == pytest.approx(2 / 4)
    assert axes_summary(([axis()], MARKED), threshold=None)["f1"] is None


def test_an_axis_through_a_disc_counts_for_sap_alone():
    disc = ReflectionDisc(((300, 150), (300, 100), (300, 200), (250, 150), (350, 150)))
    through = DetectedAxis(300, 110, 300, 190, 0.9)
    found = axes_summary(([through, axis(0, 0.5)], Annotation((UPRIGHT,), (disc,))))
    assert found["sap"]["released"]["5"] == 2  # two are right, one is to be found: as released
    assert found["marked"] == 1 and found["top1"] == 0
    without = axes_summary(([through, axis(0, 0.5)], MARKED))
    assert without["sap"]["released"]["5"] == 0.5


def test_centres_and_folds():
    """4.9 pixels: 2.46 in the square; 5: 2.56."""
    found = [DetectedCentre(104.9, 150, 0.9, 4), DetectedCentre(305, 150, 0.8, 2)]
    summary = centres_summary(found)
    assert summary["sap"]["released"] == {"5": 0.5, "10": 1, "15": 1}
    assert summary["fold_sap"]["by_score"] == {"5": 0.5, "10": 0.5, "15": 0.5}
    assert summary["max_f1"] == 1  # 2.5 % of 400 pixels are 10
    assert summary["folds"]["found"]["centres"] == 2 and "at marks" not in summary["folds"]
    assert not {"fold_sap", "folds"} & set(centres_summary([DetectedCentre(104.9, 150, 0.9)]))


@pytest.mark.parametrize("fold, marked", [(0, 1), (1, 1), (2, 1), (6, 1), (7, None), (8, 1), (9, None), (12, None)])
def test_folds_that_the_released_loader_drops_are_not_to_be_found(fold, marked):
    marks = Annotation(centres=(RotationCentre(100, 150, fold),))
    summary = centres_summary([DetectedCentre(100, 150, 0.9)], marks)
    assert (summary["sap"]["released"] or {}).get("5") == marked
    assert summary["marked"] == 1 and summary["max_f1"] == 1  # the other scores know all of them


def test_false_alarms_where_no_centre_is_marked():
    alarm = [DetectedCentre(10, 10, 0.95)]
    images = {0: (alarm, Annotation()), 1: ([DetectedCentre(100, 150, 0.9), DetectedCentre(300, 150, 0.8)], MARKED)}
    each = {n: image_scores(found, marks, "rotation", HEIGHT, WIDTH) for n, (found, marks) in images.items()}
    summary = DetectionScores(each).summary(0.5)
    assert summary["sap"]["released"]["5"] == 1 and summary["max_f1"] == pytest.approx(4 / 5)


@pytest.mark.parametrize("task", ["reflection", "rotation"])
def test_without_marks_there_are_no_scores(task):
    found = {"reflection": [axis()], "rotation": [DetectedCentre(9, 9, 0.5)]}[task]
    for each in ({}, {0: image_scores([], Annotation(), task, 9, 9), 1: image_scores(found, Annotation(), task, 9, 9)}):
        summary = DetectionScores(each).summary(0.5)
        assert (summary["marked"], summary["found"]) == (0, int(bool(each)))
        assert [summary[key] for key in ("max_f1", "f1", "top1")] == [None] * 3
        assert summary["sap"] == {"released": None, "by_score": None}


def random_image(rng, task):
    """Marks, and found ones of which some are near them."""
    places = rng.uniform(0, WIDTH, (4, 4))
    near = np.concatenate([places[:3] + rng.normal(0, 4, (3, 4)), rng.uniform(0, WIDTH, (3, 4))])
    if task == "reflection":
        found = [DetectedAxis(*place, score) for place, score in zip(near.tolist(), rng.random(6).round(1).tolist())]
        return found, Annotation(tuple(ReflectionAxis(*place) for place in places.tolist()))
    folds = rng.integers(0, 5, 6).tolist()
    found = [DetectedCentre(*near[n, :2].tolist(), float(rng.random()), fold) for n, fold in enumerate(folds)]
    return found, Annotation(centres=tuple(RotationCentre(*place[:2], 3) for place in places.tolist()))


@pytest.mark.parametrize("task", ["reflection", "rotation"])
@given(seed=st.integers(0, 2**32 - 1))
def test_shards_add_up(task, seed):
    rng = np.random.default_rng(seed)
    images = [random_image(rng, task) for _ in range(5)]
    each = {n: image_scores(*image, task, HEIGHT, WIDTH) for n, image in enumerate(images)}
    whole = DetectionScores(each).summary(0.5)
    shards = [DetectionScores({n: each[n] for n in range(rank, 5, 3)}) for rank in range(3)]
    assert reduce(add, shards).summary(0.5) == whole == reduce(add, shards[::-1]).summary(0.5)
    marks = "axes" if task == "reflection" else "centres"
    best, f1 = best_threshold([(found, getattr(truth, marks), WIDTH) for found, truth in images])
    assert (whole["max_f1"], whole["max_f1_score"]) == (f1, best)


def test_what_is_found_in_a_heat_map_is_read_row_by_row():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    heat_map = np.zeros((HEIGHT, WIDTH), np.float32)
    for row, column, height in ((100, 300, 0.5), (200, 50, 0.9), (100, 90, 0.7)):
        heat_map = np.maximum(heat_map, height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)).astype(np.float32)
    found = find_centres(heat_map)
    assert found_in(heat_map, "rotation") == found and [round(centre.y) for centre in found] == [200, 100, 100]
    scores = heat_map_scores(heat_map, MARKED, "rotation").matches.scores
    assert scores.tolist() == [found[1].score, found[2].score, found[0].score]


def test_a_line_in_a_heat_map():
    heat_map = np.zeros((HEIGHT, WIDTH), np.float32)
    heat_map[50:251, 99:102], heat_map[200:203, 200:390] = 0.6, 0.9
    assert found_in(heat_map, "reflection") == find_axes(heat_map)
    scores = heat_map_scores(heat_map, MARKED, "reflection")
    assert scores.matches.scores.tolist() == sorted(scores.matches.scores.tolist())  # the upper one is the weaker
    assert scores.matches.right[:, 0].tolist() == [True, False]
    summary = DetectionScores({0: scores}).summary(0.5)
    assert (
        summary["top1"] == 0 and summary["sap"]["released"]["15"] == 0.5 and summary["max_f1"] == pytest.approx(2 / 3)
    )
