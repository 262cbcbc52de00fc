"""Which files of a folder are images: by their content, and told where they cannot be read."""

import os
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.formats.labelme.ldrs import samples
from pipeline.data.preparation.catalogue import unused_images
from pipeline.data.reading.files import image_files
from pipeline.data.reading.images import FORMATS, read_photograph
from pipeline.errors import DataError

HEIC = bytes.fromhex("00000018") + b"ftypheic" + bytes(40)


def saved(path, kind="JPEG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9), (200, 30, 60)).save(path, kind)
    return path


def names(folder):
    found = image_files(folder, refused := [])
    assert not refused
    return [str(path.relative_to(folder)) for path in found]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["a", "a.dat", "a.jpg", "a.PNG", "a.jfif", "a.jpg_large"])
def test_what_is_an_image_by_its_content_is_read_whatever_its_name(tmp_path, kind, name):
    saved(tmp_path / name, kind)
    assert names(tmp_path) == [name]
    assert read_photograph(tmp_path / name).format == kind


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.HEIC", HEIC),
        ("phone", HEIC),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20)),
        ("a.jxl", b"\xff\x0a" + bytes(20)),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("a.jpg", b"<html>not found</html>"),
        ("a.avif", b""),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ("a.TGA", bytes(18)),
        ("a.exr", b"v/1\x01"),
        ("nameless", b"gimp xcf v011\0"),
    ],
)
def test_what_cannot_be_read_is_not_passed_over(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert names(tmp_path) == [name]
    with pytest.raises(DataError, match=name):
        read_photograph(tmp_path / name)


@pytest.mark.parametrize("name", ["a.NEF", "a.nrw", "a.3FR", "a.iiq"])
def test_a_camera_raw_is_not_taken_for_its_thumbnail(tmp_path, name):
    saved(tmp_path / name, "TIFF")
    assert names(tmp_path) == [name]
    with pytest.raises(DataError, match=f"{name}: camera raw, which is not read; convert it"):
        read_photograph(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"Py: which begins like a PPM of Pillow's"),
        ("table.csv", b"BMI,age\n22,30\n"),
        ("list", b"P1 P2 P3"),
        ("a.json", b"{}"),
        ("paper.pdf", b"%PDF-1.7"),
        ("data.bin", bytes(50)),
        ("empty", b""),
    ],
)
def test_other_files_are_none(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert names(tmp_path) == []


def test_hidden_files_and_folders_of_systems_are_none(tmp_path):
    for name in ("._a.jpg", ".thumbnails/a.jpg", "b/.ipynb_checkpoints/a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg"):
        saved(tmp_path / ".hidden" / name)
    saved(tmp_path / ".hidden" / "b" / "a.jpg")
    assert names(tmp_path / ".hidden") == ["b/a.jpg"]  # the folder that was named counts, whatever it is called
    assert [finding.text.split(":")[0] for finding in unused_images(tmp_path / ".hidden", set())] == [
        str(tmp_path / ".hidden/b/a.jpg")
    ]


def test_links_pipes_and_folders(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("/annex/gone.jpg")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["gone.jpg", "pipe.jpg"]
    for name, reason in (
        ("gone.jpg", "a link to /annex/gone.jpg"),
        ("pipe.jpg", "got no file"),
        ("folder.png", "got a folder"),
    ):
        with pytest.raises(DataError, match=f"{name}: .*{reason}"):
            read_photograph(tmp_path / name)


def test_what_cannot_be_looked_into_is_told(tmp_path, monkeypatch):
    saved(tmp_path / "a.jpg")
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read what others may not
    found = image_files(tmp_path, refused := [])
    assert [path.name for path in found] == ["a.jpg"]
    assert refused == [
        f"{tmp_path}/linked: links to folders are not followed; name it by itself",
        f"{tmp_path}/closed: Permission denied",
    ]


def test_ldrs_tells_the_size_that_was_drawn_on(tmp_path):
    folder = tmp_path / "LDRS" / "val"
    saved(folder / "a.jpg")
    (folder / "a.json").write_text('{"shapes": [{"points": [[1, 2], [3, 4]]}], "imageWidth": 18, "imageHeight": 18}')
    (sample,) = samples(tmp_path, [], "val", "reflection", ())
    assert sample.drawn == (18, 18)
