"""Training images from photographs: the marks are written as they are, and nothing depends on luck."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from skimage.data import astronaut, chelsea, coffee

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.data.formats.labelme import own
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.data.synthesis.backdrops import Backdrops, uncovered
from pipeline.data.synthesis.composites import Recipe, compose
from pipeline.data.synthesis.outlines import random_profile
from pipeline.data.synthesis.symmetries import MIRROR
from pipeline.data.synthesis.synthetic import RECIPES, generate, read_marks, read_photographs
from pipeline.errors import DataError
from pipeline.params import load_params

PHOTOGRAPHS = [astronaut()[::2, ::2], chelsea()[::2, ::2], coffee()[::2, ::2]]
BACKDROPS = Backdrops(PHOTOGRAPHS)
point = st.tuples(st.floats(-50, 500), st.floats(-50, 500))


@given(st.lists(st.tuples(point, point)), st.lists(st.tuples(point, st.integers(0, 40))), st.integers(0, 2))
def test_labelme_is_read_as_it_was_written(tmp_path_factory, axes, centres, discs):
    annotation = Annotation(
        tuple(ReflectionAxis(*a, *b) for a, b in axes),
        (ReflectionDisc(((5.0, 5.0), (5.0, 1.0), (5.0, 9.0), (1.0, 5.0), (9.0, 5.0))),) * discs,
        tuple(RotationCentre(*place, fold) for place, fold in centres),
    )
    path = tmp_path_factory.mktemp("labelme") / "a.json"
    path.write_text(json.dumps(labelme.content(annotation, "a.jpg", 300, 400)))
    labels = load_params(Path(__file__).parents[3] / "params.yaml").own.labels
    drawing = labelme.read_drawing(path, labels)
    assert drawing.annotation == annotation and (drawing.image, drawing.size) == ("a.jpg", (400, 300))


@pytest.mark.parametrize("task", RECIPES)
def test_images_follow_from_seed_and_number_alone(tmp_path, task):
    for name, workers, count in (("one", 0, 6), ("two", 2, 4)):
        (tmp_path / name / "train").mkdir(parents=True)
        generate(PHOTOGRAPHS, tmp_path / name / "train", task, count, 96, 5, workers)
    for path in sorted((tmp_path / "two" / "train").iterdir()):
        assert path.read_bytes() == (tmp_path / "one" / "train" / path.name).read_bytes()
    samples = own.samples(tmp_path / "one", [], "train", "reflection", ())
    assert len(samples) == 6 and any(sample.annotation.serves(task) for sample in samples)
    assert len({sample.image.read_bytes() for sample in samples}) == 6
    for sample in samples:
        assert max(Image.open(sample.image).size) == 96


def test_photographs_of_training_and_validation_are_apart(tmp_path):
    for number in range(40):
        (tmp_path / "deep").mkdir(exist_ok=True)
        Image.new("RGB", (900, 300), (number, 0, 0)).save(tmp_path / "deep" / f"{number}.png")
    training, validation = read_photographs(tmp_path)
    assert len(training) == 38 and len(validation) == 2
    colours = [int(pixels[0, 0, 0]) for pixels in [*training.values(), *validation.values()]]
    assert sorted(colours) == list(range(40))
    assert all(int(pixels[0, 0, 0]) == int(Path(name).stem) for name, pixels in training.items())
    assert {pixels.shape for pixels in training.values()} == {(213, 640, 3)}


def test_too_few_or_damaged_photographs(tmp_path):
    with pytest.raises(DataError, match="expected a folder of 20 photographs or more, found 0"):
        read_photographs(tmp_path / "nowhere")
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be decoded"):
        read_photographs(tmp_path)


def mirror_difference(image, axis):
    """Mean difference of the pixels to the left and to the right of an upright axis, close to it."""
    x, top, bottom = (axis.x1 + axis.x2) / 2, *sorted((axis.y1, axis.y2))
    rows = image[round(top) + 4 : round(bottom) - 3].astype(float)
    return np.mean([np.abs(rows[:, round(x) - k] - rows[:, round(x) + k]).mean() for k in range(2, 8)])


UPRIGHT = Recipe(mirrors=(1,), upright=1.0, extent=(0.8, 0.9))


@pytest.mark.parametrize(
    "change", [{"profiles": 1.0}, {"aligned": 1.0}, {"feathered": 1.0}, {"profiles": 1.0, "bend": 0.3}]
)
def test_new_kinds_of_objects_are_mirrored_about_their_mark(change):
    symmetric, beside = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, annotation = compose(rng, PHOTOGRAPHS, BACKDROPS, (200, 200), replace(UPRIGHT, **change), disturb=False)
        (axis,) = annotation.axes
        if abs(axis.x1 - axis.x2) < 4:
            symmetric.append(mirror_difference(image, axis))
            beside.append(mirror_difference(image, ReflectionAxis(axis.x1 + 9, axis.y1, axis.x2 + 9, axis.y2)))
    assert len(symmetric) > 3 and np.median(symmetric) < 0.5 * np.median(beside)


def test_profiles_lie_in_the_unit_disc_around_their_axis():
    for seed in range(50):
        outline = random_profile(np.random.default_rng(seed))
        v, u = np.mgrid[-1.5:1.5:121j, -1.5:1.5:121j]
        inside = outline(*MIRROR.reduce(u, v)) <= 1
        assert inside.any() and np.hypot(u, v)[inside].max() < 1.2
        np.testing.assert_array_equal(inside, inside[::-1])
        assert inside[60].sum() > 40  # the axis itself, without a gap
        assert np.ptp(np.flatnonzero(inside[60])) + 1 == inside[60].sum()


def lined(x1, y1, x2, y2, shape=(300, 400)):
    """A dark photograph with a bright line between two points."""
    image = Image.new("RGB", shape[::-1], (30, 30, 30))
    ImageDraw.Draw(image).line([x1, y1, x2, y2], fill=(255, 255, 255), width=5)
    return np.asarray(image)


def test_axes_of_backdrops_are_carried_along():
    ends = [(200, 60, 210, 240), (90, 150, 300, 140), (60, 60, 120, 130)]
    backdrops = Backdrops(
        [lined(*points) for points in ends], [Annotation((ReflectionAxis(*points),)) for points in ends]
    )
    marked = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        image, annotation = compose(rng, PHOTOGRAPHS, backdrops, (180, 200), Recipe(bare=1.0), disturb=False)
        for axis in annotation.axes:
            marked += 1
            for share in np.linspace(0.1, 0.9, 9):  # the ends are blurred
                x, y = axis.x1 + share * (axis.x2 - axis.x1), axis.y1 + share * (axis.y2 - axis.y1)
                if 1 < x < 198 and 1 < y < 178:
                    assert image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].max() > 120
    assert marked > 30


def test_centres_of_backdrops_are_carried_along():
    places, marked = [(60, 60), (200, 150), (390, 290)], 0
    photograph = np.full((300, 400, 3), 30, np.uint8)
    for x, y in places:
        photograph[max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7] = 255
    known = Annotation(centres=tuple(RotationCentre(x, y, 0) for x, y in places))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        recipe = Recipe(bare=1.0)
        image, annotation = compose(rng, PHOTOGRAPHS, Backdrops([photograph], [known]), (180, 200), recipe, False)
        marked += len(annotation.centres)
        for centre in annotation.centres:
            assert 0 <= centre.x <= 199 and 0 <= centre.y <= 179 and image[round(centre.y), round(centre.x)].min() > 120
    assert marked > 20


def test_axes_are_drawn_as_often_as_people_draw_them():
    always, at_times, never = (ReflectionAxis(0, row, 9, row) for row in (1, 2, 3))
    marks, rng = Annotation((always, at_times, never), centres=(RotationCentre(4, 4, 0),)), np.random.default_rng(0)
    drawn = [Backdrops([], [marks], [[1, 0.3, 0]]).drawn(rng, 0) for _ in range(1000)]
    assert {one.centres for one in drawn} == {marks.centres}
    assert {one.axes for one in drawn} == {(always,), (always, at_times)}
    assert 250 < sum(len(one.axes) == 2 for one in drawn) < 350
    assert Backdrops([], [marks]).drawn(rng, 0) == marks and Backdrops([]).drawn(rng, 0) == Annotation()


def test_hidden_marks_of_backdrops_are_not_taken_over():
    axis, other = ReflectionAxis(100, 20, 100, 120), ReflectionAxis(10, 10, 60, 10)
    within, beside = RotationCentre(100, 50, 0), RotationCentre(150, 60, 0)
    marks = Annotation((axis, other), centres=(within, beside))
    assert uncovered(marks, []) == marks
    assert uncovered(marks, [(100, 60, 40)]) == Annotation((other,), centres=(beside,))
    assert uncovered(marks, [(100, 20, 15)]) == marks  # a seventh of the axis
    assert uncovered(marks, [(100, 20, 15), (100, 120, 15)]) == Annotation((other,), centres=(within, beside))


def test_whole_photographs_are_a_share(tmp_path):
    axis, photographs = ReflectionAxis(200, 60, 210, 240), [lined(200, 60, 210, 240)] * 3
    slope, whole = (axis.x2 - axis.x1) / (axis.y2 - axis.y1), []
    backdrops = Backdrops(photographs, [Annotation((axis,))] * 3)
    for name, share in (("without", 0.0), ("with", 0.3)):
        (tmp_path / name / "train").mkdir(parents=True)
        generate(photographs, tmp_path / name / "train", "reflection", 40, 96, 1, 0, share, backdrops)
        marks = [sample.annotation.axes for sample in own.samples(tmp_path / name, [], "train", "reflection", ())]
        slopes = [(axes[0].x2 - axes[0].x1) / (axes[0].y2 - axes[0].y1 + 1e-9) for axes in marks if len(axes) == 1]
        whole.append(sum(abs(abs(found) - slope) < 1e-6 for found in slopes))
    assert whole[0] == 0 and 6 < whole[1] < 34


def test_only_photographs_that_are_in_no_doubt(tmp_path):
    scores = {"a": [0.9], "b": [0.45], "c": [0.9, 0.45], "d": [], "e": [0.39]}
    found = {name: {"axes": [[1, 2, 3, 4, s] for s in some], "centres": []} for name, some in scores.items()}
    found["f"] = {"axes": [[1, 2, 3, 4]], "shares": [0.6], "centres": [[5, 6]]}  # marked by a person
    (tmp_path / "marks.json").write_text(json.dumps(found))
    photographs = {name: np.full((2, 2, 3), number) for number, name in enumerate("abcdefg")}  # nothing is known of g
    backdrops = read_marks(tmp_path / "marks.json", photographs, 0.5)
    assert [int(pixels[0, 0, 0]) for pixels in backdrops.photographs] == [0, 3, 4, 5]
    axis, centre = ReflectionAxis(1, 2, 3, 4), RotationCentre(5, 6, 0)
    assert backdrops.marks == [Annotation((axis,)), Annotation(), Annotation(), Annotation((axis,), centres=(centre,))]
    assert backdrops.shares == [[1], [], [], [0.6]]
    with pytest.raises(DataError, match="every photograph has an axis of a score between 0.4 and 0.5"):
        read_marks(tmp_path / "marks.json", {name: photographs[name] for name in "bc"}, 0.5)
    with pytest.raises(DataError, match="marks.json: names none of the 1 photographs for training"):
        read_marks(tmp_path / "marks.json", {"g": photographs["g"]}, 0.5)


@pytest.mark.parametrize(
    "entry",
    [
        3,
        [],
        {"axes": []},
        {"axes": [[1, 2, 3]], "centres": []},
        {"axes": [[1, 2, 3, "x"]], "centres": []},
        {"axes": [[1, 2, 3, 4, "x"]], "centres": []},
        {"axes": [], "centres": [[1, 2, 3]]},
        {"axes": [], "centres": 1},
        {"axes": [[1, 2, 3, 4]], "shares": [], "centres": []},
        {"axes": [[1, 2, 3, 4]], "shares": [60], "centres": []},
        {"axes": [[1, 2, 3, 4]], "shares": 1, "centres": []},
    ],
)
def test_a_wrong_file_of_marks(tmp_path, entry):
    (tmp_path / "marks.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(DataError, match="marks.json: expected {photograph"):
        read_marks(tmp_path / "marks.json", {"a": np.zeros((2, 2, 3))}, 0.5)
