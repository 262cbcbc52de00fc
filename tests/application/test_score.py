"""`symmetry score` as its users call it: every form of predictions and truth, and what is wrong with others."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline.application.marks import name_of
from pipeline.application.predictions import read_heat_map
from pipeline.data.packed.targets import mask
from pipeline.errors import DataError
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, count
from tests.project import PROJECT

WIDTH, HEIGHT = 120, 90
AXES = {"a": (30, 10, 30, 80), "b": (80, 15, 80, 75)}  # of each image, x1 y1 x2 y2
WRONG = (10, 45, 110, 45, 0.3)


def score(*words, fails=False):
    """What the command prints in a process of its own, in both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "score", *map(str, words)], capture_output=True, text=True, cwd=PROJECT
    )
    assert done.returncode == int(fails), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if fails else (done.stdout, done.stderr)


def figures(*words):
    return json.loads(score("--json", *words)[0])


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def heat(axis):
    """A map with a line, and a fainter one that is wrong."""
    found = np.zeros((HEIGHT, WIDTH), np.float32)
    x, top, _, bottom = axis
    found[top : bottom + 1, x - 1 : x + 2], found[44:47, 10:111] = 200 / 255, 77 / 255
    return found


def record(name, **parts):
    return {"image": f"somewhere/{name}.jpg", "reflection": {"width": WIDTH, "height": HEIGHT, **parts}}


@pytest.fixture
def truth(tmp_path):
    """Our JSON, an image a file."""
    for name, axis in AXES.items():
        write(tmp_path / f"truth/{name}.json", {"width": WIDTH, "height": HEIGHT, "axes": [axis]})
    return tmp_path / "truth"


@pytest.fixture
def found(tmp_path):
    """JSON lines: the axis of each, and a wrong one."""
    lines = [
        record(name, axes=[dict(zip(("x1", "y1", "x2", "y2", "score"), (*axis, 0.9))), [*WRONG]])
        for name, axis in AXES.items()
    ]
    return write(tmp_path / "found.jsonl", "\n".join(map(json.dumps, lines)))


@pytest.fixture
def maps(tmp_path):
    (tmp_path / "maps").mkdir()
    for name, axis in AXES.items():
        Image.fromarray((255 * heat(axis)).round().astype(np.uint8)).save(tmp_path / f"maps/{name}.png")
    return tmp_path / "maps"


def test_json_lines(truth, found):
    (run,) = figures(found, truth, "--threshold", 0.3)["predictions"]
    assert run["reflection"]["missing"] == run["without_truth"] == [] and "rotation" not in run
    scores = run["reflection"]
    assert (scores["images"], scores["marked"], scores["found"]) == (2, 2, 4)
    assert scores["max_f1"] == scores["top1"] == 1 and scores["max_f1_score"] == 0.9
    assert scores["f1"] == pytest.approx(2 * 2 / (2 + 2 + 2))
    assert scores["sap"]["released"] == scores["sap"]["by_score"] == {"5": 1, "10": 1, "15": 1}


def test_the_table(truth, found, tmp_path):
    """Two predictions side by side; of the second one image is missing, and one is nobody's."""
    rows = [record("a", axes=[[*WRONG]]), record("c", axes=[])]
    other = write(tmp_path / "other.json", rows)
    printed, told = score(found, other, truth)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]
    table = dict((name, cells) for name, *cells in lines)
    assert table["axes"] == [str(found), str(other)]
    assert table["images"] == ["2", "2"] and table["without a prediction"] == ["0", "1"]
    assert table["max F"] == ["100.0", "0.0"] and table["sAP@10, released"] == ["100.0", "0.0"]
    assert table["score of max F"] == ["0.900", "1.000"] and "F at --threshold" not in table
    assert "x right, y down, pixels" in printed
    assert f"{other}: 1 images without a prediction of axes count as ones in which nothing was found: b" in told
    assert f"{other}: 1 predictions of images without a truth are not scored: c" in told


def test_heat_maps_of_all_kinds_are_scored_alike(truth, maps, tmp_path):
    for name, axis in AXES.items():
        values = np.round(255 * heat(axis)) / 255
        for kind, array in (("npy", values.astype(np.float64)), ("npy16", (values * 65535).round().astype(np.uint16))):
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"{name}.npy", array)
        (tmp_path / "png16").mkdir(exist_ok=True)
        Image.fromarray((values * 65535).round().astype(np.uint16)).save(tmp_path / f"png16/{name}.png")
    runs = figures(maps, *(tmp_path / kind for kind in ("png16", "npy", "npy16")), truth)["predictions"]
    first, *others = (run["reflection"] for run in runs)
    counts = F1Counts.zero()
    for axis in AXES.values():
        marked = np.zeros((HEIGHT, WIDTH), bool)
        marked[axis[1] : axis[3] + 1, axis[0]] = True
        counts += count(np.round(255 * heat(axis)).astype(np.float32) / 255, marked)
    assert first["pixels"]["max_f1"] == pytest.approx(counts.f1.max()) and counts.f1.max() < 1
    assert first["pixels"]["threshold"] == pytest.approx(THRESHOLDS[counts.f1.argmax()])
    assert first["marked"] == 2 and first["max_f1"] == first["top1"] == 1
    for other in others:
        assert other["pixels"] == first["pixels"] and other["sap"] == first["sap"]
        assert other["max_f1_score"] == pytest.approx(first["max_f1_score"], abs=1e-4)


def test_an_image_without_a_heat_map_is_one_where_nothing_was_found(truth, maps):
    whole = figures(maps, truth)["predictions"][0]["reflection"]
    (maps / "b.png").unlink()
    (run,) = figures(maps, truth)["predictions"]
    assert run["reflection"]["missing"] == ["b"] and run["reflection"]["marked"] == 2
    assert run["reflection"]["pixels"]["recall"] < 0.6 < whole["pixels"]["recall"]
    assert run["reflection"]["top1"] == 0.5


def dendi(folder):
    for name, (x1, y1, x2, y2) in AXES.items():
        figure = {"label": "reflection", "shape": {"coordinates": [[x1, y1], [x2, y2]]}}
        write(folder / f"{name}.jpg.json", {"figures": [figure]})
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{name}.jpg")


def labelme(folder):
    for name, (x1, y1, x2, y2) in AXES.items():
        shape = {"label": "axis", "shape_type": "line", "points": [[x1, y1], [x2, y2]]}
        write(folder / f"{name}.json", {"shapes": [shape], "imageWidth": WIDTH, "imageHeight": HEIGHT})


def sdrw_training(folder):
    entries = np.array(
        [(f"{name}.png ", np.array(axis, float)) for name, axis in AXES.items()], dtype=[("name", "O"), ("ax", "O")]
    )
    folder.mkdir()
    savemat(folder / "singleGT_training.mat", {"gt": entries})
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "b.jpg")


def sdrw_test(folder):
    folder.mkdir()
    content = {
        key: {"names": np.array([f"{name}.jpg"], object), "segments": np.array([AXES[name]], float)}
        for key, name in (("gtS", "a"), ("gtM", "b"))
    }
    savemat(folder / "reflectionTestGt2013.mat", content)


def lines(folder):
    records = [record(name, axes=[dict(zip(("x1", "y1", "x2", "y2"), axis))]) for name, axis in AXES.items()]
    write(folder / "detections.jsonl", "\n".join(map(json.dumps, records)))


@pytest.mark.parametrize("form", [dendi, labelme, sdrw_training, sdrw_test, lines])
def test_forms_of_truth(form, found, tmp_path, truth):
    form(tmp_path / "form")
    expected, run = (figures(found, path)["predictions"][0]["reflection"] for path in (truth, tmp_path / "form"))
    assert run == expected


def test_centres_and_folds(tmp_path):
    marked = {"image": "a", "centres": [[30, 40, None, 4], [90, 40, None, 5]]}
    found = {"image": "a.png", "width": WIDTH, "height": HEIGHT, "centres": [[30, 40, 0.9, 4], [90, 40, 0.8, 3]]}
    paths = write(tmp_path / "found.json", found | {"axes": []}), write(tmp_path / "truth.jsonl", json.dumps(marked))
    (run,) = figures(*paths)["predictions"]
    assert "reflection" not in run and run["rotation"]["sap"]["released"]["10"] == 1
    assert run["rotation"]["fold_sap"]["released"]["10"] == 0.5


def test_what_detect_writes_is_what_score_reads(tmp_path, weights):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "a.png")
    write(tmp_path / "truth/a.json", {"axes": [AXES["a"]]})
    words = ["detect", tmp_path / "a.png", "--weights", weights, "--task", "reflection", "--out", tmp_path / "out"]
    subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, words), "--threshold", "0"], check=True, cwd=PROJECT
    )
    runs = figures(tmp_path / "out", tmp_path / "out/reflection/heatmaps", tmp_path / "truth")["predictions"]
    assert [run["reflection"]["marked"] for run in runs] == [1, 1] and "pixels" in runs[1]["reflection"]


def test_it_needs_neither_torch_nor_dvc(truth, maps, found):
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        f"try:\n    main(['score', {str(found)!r}, {str(maps)!r}, {str(truth)!r}])\nexcept SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'dvc', 'pandas', 'scipy', 'skimage', 'pydantic', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert "pixels: max F1" in done.stdout


NAN = '{"image": "a", "axes": [[NaN, 0, 1, 1, 0.5]]}'
SIZES = '{"image": "a", "width": 9, "height": 9, "axes": []}'


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("p.jsonl", None, "p.jsonl: no such file or folder; expected a folder of heat maps"),
        ("p.txt", "", "p.txt: expected a folder of heat maps"),
        ("p.jsonl", "", "p.jsonl: no prediction is called like an image"),
        ("p.jsonl", "{\n", "p.jsonl: line 1: expected one object of JSON a line"),
        ("p.jsonl", "\n[1]", "p.jsonl: line 2: expected an object with `image`"),
        ("p.json", "[", "p.json: expected JSON"),
        ("p.json", '[{"image": "a"}]', "p.json: image 0: expected `reflection`, `rotation`, `axes` or `centres`"),
        ("p.jsonl", '{"axes": []}', "line 1: expected `image`"),
        ("p.jsonl", '{"image": 3, "axes": []}', "image: expected the name of its file, got 3"),
        ("p.jsonl", '{"image": "a", "axes": 3}', "expected a list `axes`, got 3"),
        ("p.jsonl", NAN, "line 1: axes[0]: expected numbers x1, y1, x2, y2, score, in pixels, got"),
        ("p.jsonl", '{"image": "a", "axes": [[1, 2, 3]]}', "axes[0]: expected numbers x1, y1, x2, y2, score"),
        ("p.jsonl", '{"image": "a", "axes": [{"x1": 1, "y": 2}]}', "no y1, x2, y2 among the keys ['x1', 'y']"),
        (
            "p.jsonl",
            '{"image": "a", "axes": [[1, 2, 3, 4]]}',
            "axes[0] has no `score`, by which predictions are ranked",
        ),
        ("p.jsonl", '{"image": "a", "axes": [[1, 2, 3, 4, NaN]]}', "got nan for the score"),
        ("p.jsonl", '{"image": "a", "centres": [[1, 2, 0.5, 2.5]]}', "got 2.5 for the fold, a whole number from 0"),
        ("p.jsonl", SIZES, "a has 9 x 9 pixels (width x height) here, but 120 x 90 in"),
        ("p.jsonl", SIZES.replace("9,", '"x",', 1), "expected width and height in whole pixels, got 'x' and 9"),
        ("p.jsonl", f"{SIZES}\n{SIZES}", "line 2: "),
        ("p.jsonl", '{"image": "z", "axes": []}', "no prediction is called like an image of"),
        ("p.jsonl", '{"image": "a", "centres": []}', "p.jsonl: tells of no axes, which are marked"),
        ("maps/a.txt", "", "maps: expected a folder of heat maps"),
        ("maps/a.png", "no image", "a.png: cannot be read as a heat map"),
        ("maps/a.npy", "no array", "a.npy: cannot be read as a heat map"),
    ],
)
def test_predictions_that_cannot_be_scored(name, content, message, truth, tmp_path):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    path = path.parent if name.startswith("maps") else path
    said = score(path, truth, fails=True)
    assert message in said and said.startswith("DataError: ") and said.count("\n") == 1, said


@pytest.mark.parametrize(
    "array, message",
    [
        (np.full((HEIGHT, WIDTH), np.nan), f"{HEIGHT * WIDTH} pixels are NaN or infinite"),
        (np.full((HEIGHT, WIDTH), 3.0), "expected probabilities in 0..1, got 3 to 3; of logits take the sigmoid"),
        (np.zeros((1, HEIGHT, WIDTH)), f"expected a heat map of [height, width], got shape [1, {HEIGHT}, {WIDTH}]"),
        (np.zeros((HEIGHT, WIDTH), int), "expected floats in 0..1, uint8 or uint16, got int64"),
        (np.zeros((WIDTH, HEIGHT)), "a has 90 x 120 pixels (width x height) here, but 120 x 90 in"),
        (np.array([None]), "a.npy: cannot be read as a heat map: Object arrays cannot be loaded"),
    ],
)
def test_heat_maps_that_cannot_be_scored(array, message, truth, tmp_path):
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps/a.npy", array)
    said = score(tmp_path / "maps", truth, fails=True)
    assert message in said and f"{tmp_path / 'maps/a.npy'}: " in said and said.count("\n") == 1


def test_a_coloured_map_is_none(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(Exception, match="expected a grey PNG of 8 or 16 bits, got one of Pillow's mode RGB"):
        read_heat_map(tmp_path / "a.png")


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "truth: expected a folder of JSON (DENDI's, LabelMe's or ours), SDRW's .mat"),
        ({"t/a.json": "{"}, "a.json: expected JSON"),
        ({"t/a.json": '{"x": 1}'}, "a.json: expected `reflection`, `rotation`, `axes` or `centres`"),
        ({"t/a.json": '{"shapes": [{"points": [[1, 2]]}]}'}, "a.json: shape 0: "),
        ({"t/a.json": '{"figures": [{"label": "x"}]}'}, "a.json: figure 0: "),
        ({"t/a.mat": "x"}, "a.mat: not a MATLAB file that can be read"),
        ({"t/a.mat": "x", "t/a.json": "{}"}, "got 1 files of JSON and 1 of MATLAB"),
        ({"t/a.json": '{"axes": []}'}, "truth: no axes or centres are marked in 1 images"),
        ({"t/a.json": '{"axes": [[1, 2, 3, 4]]}'}, "the size of the image a is not known: put the image beside"),
        ({"t/a.json": '{"axes": []}', "u/a.jpg.json": '{"axes": []}'}, "is of an image called a, too"),
        (
            {"t/a.json": '{"axes": [[1, 2, 3, 4]], "discs": [{"points": [[1, 2]]}]}'},
            "discs: expected a list of objects",
        ),
    ],
)
def test_truth_that_cannot_be_read(files, message, tmp_path):
    found = write(tmp_path / "p.jsonl", '{"image": "a", "axes": []}')
    (tmp_path / "truth").mkdir()
    for name, content in files.items():
        write(tmp_path / "truth" / name, content)
    said = score(found, tmp_path / "truth", fails=True)
    assert message in said and said.startswith("DataError: ") and said.count("\n") == 1, said


def test_heat_maps_show_one_task(maps, truth):
    write(truth / "a.json", {"width": WIDTH, "height": HEIGHT, "axes": [AXES["a"]], "centres": [[9, 9]]})
    assert "say by --task reflection or --task rotation" in score(maps, truth, fails=True)
    assert figures(maps, truth, "--task", "rotation")["predictions"][0]["rotation"]["marked"] == 1


def test_names_of_images_annotations_and_predictions():
    paths = ["a.jpg", "x/a.jpg", r"C:\x\a.jpg", "a.jpg.json", "a.json", "a.png", "a.npy", "a.JPG.png"]
    assert {name_of(path) for path in paths} == {"a"}
    assert name_of("a.v2.png") == "a.v2" and name_of(".json") == ".json" and name_of("a") == "a"
    assert name_of("e\u0301.png") == name_of("\u00e9.jpg")


def test_the_mask_of_discs_is_that_of_evaluation(tmp_path):
    """A disc is painted filled for the pixels; it is no axis to be found."""
    disc = [[60, 45], [60, 25], [60, 65], [40, 45], [80, 45]]
    truth = {"image": "a", "width": WIDTH, "height": HEIGHT, "axes": [AXES["a"]], "discs": [{"points": disc}]}
    write(tmp_path / "truth/a.json", truth)
    (tmp_path / "maps").mkdir()
    from pipeline.application.truth import read_truth

    (marked,) = read_truth(tmp_path / "truth").each.values()
    np.save(tmp_path / "maps/a.npy", mask(marked.annotation, "reflection", HEIGHT, WIDTH).astype(np.float32))
    (run,) = figures(tmp_path / "maps", tmp_path / "truth")["predictions"]
    assert run["reflection"]["pixels"]["max_f1"] == 1 and run["reflection"]["marked"] == 1


@pytest.mark.parametrize("what", ["map", "record", "drawing"])
def test_predictions_are_of_the_size_of_the_image_beside_the_truth(tmp_path, what):
    """DENDI's JSON tells no size, LabelMe's that of the image which was marked."""
    folder, image = tmp_path / "truth", tmp_path / "truth/a.jpg"
    line = {"label": "reflection", "shape": {"coordinates": [[60, 10], [60, 80]]}, "attributes": []}
    write(folder / "a.json", {"figures": [line]})
    pixels = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    pixels.save(image)
    if what == "map":
        (tmp_path / "found").mkdir()
        np.save(tmp_path / "found/a.npy", np.zeros((HEIGHT // 2, WIDTH // 2), np.float32))
        found = tmp_path / "found"
    else:
        size = {"width": WIDTH // 2, "height": HEIGHT // 2} if what == "record" else {}
        found = write(
            tmp_path / "found.json", [{"image": "a.jpg", "reflection": {"axes": [[60, 10, 60, 80, 1]], **size}}]
        )
    if what == "drawing":  # of an image that EXIF turns, by its pixels as they lie in the file
        shape = {"label": "axis", "shape_type": "line", "points": [[60, 10], [60, 80]]}
        write(folder / "a.json", {"shapes": [shape], "imageWidth": WIDTH, "imageHeight": HEIGHT, "imagePath": "a.jpg"})
        exif = pixels.getexif()
        exif[0x0112] = 6
        pixels.save(image, exif=exif)
    said = score(found, folder, fails=True)
    assert "a has" in said and f"{WIDTH} x {HEIGHT}" in said and "turned as EXIF says" in said


def test_what_a_record_does_not_tell_is_missing(tmp_path):
    """One image was looked at for axes, the other for centres; both hold both."""
    centre = {"centres": [[60, 45, 1.0]]}
    both = {"width": WIDTH, "height": HEIGHT, "axes": [[60, 10, 60, 80]], "centres": [[60, 45]]}
    for name in "ab":
        write(tmp_path / f"truth/{name}.json", both)
    records = [
        record("a", axes=[[60, 10, 60, 80, 1]]),
        {"image": "b.jpg", "rotation": {"width": WIDTH, "height": HEIGHT, **centre}},
    ]
    (run,) = figures(write(tmp_path / "found.json", records), tmp_path / "truth")["predictions"]
    assert run["reflection"]["missing"] == ["b"] and run["rotation"]["missing"] == ["a"]
    _, told = score(write(tmp_path / "axes.json", records[:1]), tmp_path / "truth")
    assert "tells of no centres, which are marked and not scored" in told


def test_maps_in_which_nothing_shows_are_told(maps, truth):
    for path in maps.iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 100).astype(np.uint8)).save(path)  # 0 and 1, of 255
    (run,) = figures(maps, truth)["predictions"]
    assert run["reflection"]["pixels"]["max_f1"] == 0
    assert "no heat map has a value above the lowest threshold, 1/101" in score(maps, truth)[1]


def test_an_archive_of_arrays_is_no_heat_map(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, np.zeros((3, 4)))
    with pytest.raises(DataError, match="archive of np.savez"):
        read_heat_map(tmp_path / "a.npy")


def test_files_of_other_kinds_are_named(tmp_path, found, truth):
    drawing = write(tmp_path / "drawn/a.json", {"shapes": [], "imageWidth": WIDTH, "imageHeight": HEIGHT})
    assert "a drawing of LabelMe's can be the truth, but no prediction" in score(drawing.parent, truth, fails=True)
    write(truth / "classes.json", ["axis"])
    said = score(found, truth, fails=True)
    assert f"{truth}/classes.json" in said and "take a file that is something else out of the folder" in said
