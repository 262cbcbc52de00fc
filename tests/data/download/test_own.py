"""A researcher's own images: a folder of any shape becomes one folder a split, and what is passed over is said."""

import os
import shutil
import unicodedata

import pytest
from PIL import Image

from pipeline.data.download.own import SPLITS, bring
from pipeline.data.formats.labelme import own
from pipeline.errors import DataError
from tests.data.formats.test_own import LABELS, labelled, shape


def photographs(folder, count, suffix=".png"):
    for number in range(count):
        labelled(folder / f"{number}.json", shape("line", (1, 2), (3, number)))
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"{number}{suffix}")
    return folder


def brought(folder, root, seed=0, needed=True):
    root.mkdir(parents=True)
    bring(folder, root, seed, needed)
    found = {split: own.samples(root, findings := [], split, "reflection", LABELS) for split in SPLITS}
    assert not findings
    return {split: [int(sample.name) for sample in samples] for split, samples in found.items()}


def test_one_folder_is_split_by_the_seed(tmp_path):
    folder = photographs(tmp_path / "mine", 40)
    first = brought(folder, tmp_path / "a")
    assert {split: len(names) for split, names in first.items()} == {"train": 28, "val": 6, "test": 6}
    assert sorted(sum(first.values(), [])) == list(range(40))
    assert brought(folder, tmp_path / "b") == first != brought(folder, tmp_path / "c", seed=1)
    assert (tmp_path / "a" / "test" / f"{first['test'][0]}.png").is_file()


def test_folders_named_after_the_splits_are_kept(tmp_path):
    for split, count in {"train": 3, "val": 2}.items():
        photographs(tmp_path / "mine" / split, count, ".jpg")
    assert brought(tmp_path / "mine", tmp_path / "raw") == {"train": [0, 1, 2], "val": [0, 1], "test": []}


def test_only_images_and_their_annotations_are_copied(tmp_path):
    folder = photographs(tmp_path / "mine", 3)
    (folder / "0.txt").write_text("notes")
    (folder / "1.sh").write_text("rm -rf")
    Image.new("RGB", (9, 9)).save(folder / "unmarked.png")
    brought(folder, tmp_path / "raw")
    copied = {path.name for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    assert copied == {f"{n}.{kind}" for n in range(3) for kind in ("json", "png")}


def test_no_own_data(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("put images here")
    assert brought(tmp_path / "mine", tmp_path / "raw", needed=False) == {"train": [], "val": [], "test": []}
    with pytest.raises(DataError, match="own.folder.*train.datasets"):
        bring(tmp_path / "mine", tmp_path / "raw", 0, needed=True)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_to_split(tmp_path, count):
    with pytest.raises(DataError, match="three annotated images"):
        bring(photographs(tmp_path / "mine", count), tmp_path, 0, needed=False)


def names(root):
    """Of the images of all splits, sorted."""
    return sorted(s.image.name for split in SPLITS for s in own.samples(root, [], split, "reflection", LABELS))


def own_images(tmp_path, caplog, needed=True):
    """What is brought of `mine` and read: sorted names, and what was said."""
    (tmp_path / "raw").mkdir()
    bring(tmp_path / "mine", tmp_path / "raw", 0, needed)
    return names(tmp_path / "raw"), caplog.text


def test_hidden_files_are_no_data_and_shift_no_split(tmp_path):
    plain = brought(photographs(tmp_path / "mine", 40), tmp_path / "a")
    for number in range(40):
        for suffix in ("json", "png"):
            (tmp_path / "mine" / f"._{number}.{suffix}").write_bytes(b"\0\5\x16\7" + bytes(60))
    for name in (".Trash", "@eaDir", "__MACOSX"):
        photographs(tmp_path / "mine" / name, 3)
    assert brought(tmp_path / "mine", tmp_path / "b") == plain


def test_folders_below_are_read(tmp_path, caplog):
    for day in ("day1", "day2/morning"):
        photographs(tmp_path / "mine" / day, 3)
    found, said = own_images(tmp_path, caplog)
    assert found == ["0.png", "0.png", "1.png", "1.png", "2.png", "2.png"] and not said
    samples = [s for split in SPLITS for s in own.samples(tmp_path / "raw", [], split, "reflection", LABELS)]
    assert {s.name for s in samples} == {f"{day}--{n}" for day in ("day1", "day2--morning") for n in range(3)}


def test_capitals_and_accents(tmp_path, caplog):
    for number in range(3):
        name = f"대칭-é{number}"
        labelled(tmp_path / "mine" / f"{unicodedata.normalize('NFC', name)}.JSON", shape("line", (1, 2), (3, 4)))
        Image.new("RGB", (9, 9)).save(tmp_path / "mine" / f"{unicodedata.normalize('NFD', name)}.JPG", "JPEG")
    labelled(tmp_path / "mine" / "P.json", shape("line", (1, 2), (3, 4)))
    Image.new("RGB", (9, 9)).save(tmp_path / "mine" / "p.png")
    found, said = own_images(tmp_path, caplog)
    assert len(found) == 4 and "p.png" in found and not said


def test_an_image_of_any_name_is_known_by_its_content(tmp_path, caplog):
    photographs(tmp_path / "mine", 3)
    for number, suffix in enumerate((".jfif", ".jpg_large", "")):
        (tmp_path / "mine" / f"{number}.png").unlink()
        Image.new("RGB", (9, 9)).save(tmp_path / "mine" / f"{number}{suffix}", "JPEG")
    (tmp_path / "mine" / "0.txt").write_text("P1: notes; BM, too")
    assert own_images(tmp_path, caplog) == (["0.jfif", "1.jpg_large", "2"], "")


def test_the_image_that_a_file_names(tmp_path, caplog):
    """Among several of one name; under another name; in another folder, as LabelMe writes it."""
    mine = tmp_path / "mine"
    photographs(mine, 4)
    for name in ("0.jpg", "other.png", "images/far.png"):
        (mine / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 5)).save(mine / name)
    for number, named in ((0, "0.png"), (1, "other.png"), (2, "..\\mine\\images\\far.png")):
        labelled(mine / f"{number}.json", shape("line", (1, 2), (3, 4)), imagePath=named)
    for number in (1, 2):
        (mine / f"{number}.png").unlink()
    found, said = own_images(tmp_path, caplog)
    assert found == ["0.png", "3.png", "far.png", "other.png"] and not said
    findings = []
    for split in SPLITS:
        own.samples(tmp_path / "raw", findings, split, "reflection", LABELS)
    (note,) = findings
    assert note.what == "two images of one name" and "0.jpg: not used" in note.text


def test_an_image_outside_the_folder_is_not_taken(tmp_path, caplog):
    photographs(tmp_path / "mine", 3)
    Image.new("RGB", (5, 5)).save(tmp_path / "secret.png")
    for named in ("../secret.png", str(tmp_path / "secret.png")):
        labelled(tmp_path / "mine" / "x.json", shape("line", (1, 2), (3, 4)), imagePath=named)
        (tmp_path / "raw").mkdir()
        bring(tmp_path / "mine", tmp_path / "raw", 0, needed=True)
        assert not list((tmp_path / "raw").rglob("secret.png"))
        findings = []
        for split in SPLITS:
            own.samples(tmp_path / "raw", findings, split, "reflection", LABELS)
        (fault,) = findings
        assert "x.json: there is no image of that name beside it, nor secret.png, which it names" in fault.text
        shutil.rmtree(tmp_path / "raw")


def test_what_is_passed_over_is_told(tmp_path, caplog):
    photographs(tmp_path / "mine" / "train", 2)
    photographs(tmp_path / "mine" / "Val", 2)
    photographs(tmp_path / "mine" / "more", 1)
    Image.new("RGB", (5, 5)).save(tmp_path / "mine" / "train" / "bare.png")
    (tmp_path / "mine" / "linked").symlink_to(tmp_path)
    found, said = own_images(tmp_path, caplog)
    assert len(found) == 4
    assert "linked: links to folders are not followed" in said and "3 files are not used, such as" in said


@pytest.mark.parametrize("name", ["0.png", "1.json"])
def test_links_to_nothing_are_named_all_at_once(tmp_path, name):
    mine = photographs(tmp_path / "mine", 4)
    for gone in (name, "3.png"):
        (mine / gone).unlink()
        (mine / gone).symlink_to("/annex/objects/gone")
    with pytest.raises(DataError) as caught:
        bring(mine, tmp_path / "raw", 0, needed=True)
    for gone in (name, "3.png"):
        assert f"{gone}: a link to /annex/objects/gone, which is not there" in str(caught.value)


def test_folders_and_pipes_called_like_files(tmp_path, caplog):
    mine = photographs(tmp_path / "mine", 3)
    (mine / "0.jpg").mkdir()
    (mine / "old.json").mkdir()
    assert own_images(tmp_path, caplog) == (["0.png", "1.png", "2.png"], "")
    os.mkfifo(mine / "1.jpg")
    with pytest.raises(DataError, match="1.jpg"):
        bring(mine, tmp_path / "raw2", 0, needed=True)
