"""Bringing the published data sets from folders and archives."""

import base64
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from pipeline.datasets.published import bring
from pipeline.errors import DataError

FILES = {
    "dendi": ("reflection_split.pt", "rotation_split.pt", "images/1.jpg"),
    "sdrw": ("SDRW/reflectionTestGt2013.mat", "SDRW/reflection_training/single_training/a b.jpg"),
    "ldrs": ("LDRS/train/1.json", "LDRS/train/1.jpg"),
    "nyu": ("NYU/S/I001.png", "NYU/M/I001.png"),
}
PASSWORD = "ldrs2021"
ENCRYPTED = base64.b64decode(  # NYU/S/I.txt, "marks\n"; zip -X -0 -P ldrs2021
    "UEsDBAoACQAAAAAAIVAnbInAEgAAAAYAAAALAAAATllVL1MvSS50eHQcQXVeeXtifOaw5rSjoLVglAJQSwcIJ2yJwBIAAAAGAAAAUEsB"
    "Ah4DCgAJAAAAAAAhUCdsicASAAAABgAAAAsAAAAAAAAAAAAAAKSBAAAAAE5ZVS9TL0kudHh0UEsFBgAAAAABAAEAOQAAAEsAAAAAAA=="
)


def content(file):
    """Bytes that hardly compress, so that half an archive is half of the data."""
    return np.random.default_rng(len(file)).bytes(20_000)


def unpacked(folder, dataset):
    """The unpacked archive that holds `dataset`: DENDI alone, or the other three together."""
    for name in ("dendi",) if dataset == "dendi" else ("sdrw", "ldrs", "nyu"):
        for file in FILES[name]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content(file))
    return folder


def packed(folder, suffix):
    archive = folder.parent / f"archive{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in folder.rglob("*"):
                file.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:" + suffix.removeprefix(".tar").removeprefix(".")) as file:
            file.add(folder, ".")
    return archive


def damaged(archive):
    """A .zip of which the first file's data are wrong, or the first half of any other archive."""
    data = bytearray(archive.read_bytes())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            entry = next(entry for entry in file.infolist() if not entry.is_dir())
        data[entry.header_offset + 30 + len(entry.filename)] = 0xFF  # a kind of block that deflate does not have
    else:
        data = data[: len(data) // 2]
    archive.write_bytes(data)
    return archive


def check(dataset, root):
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(FILES[dataset])
    assert all((root / file).read_bytes() == content(file) for file in FILES[dataset])
    assert list(root.parent.iterdir()) == [root]


@pytest.mark.parametrize("dataset", FILES)
@pytest.mark.parametrize("nested", ["", "top", "top/deeper"])
@pytest.mark.parametrize("suffix", ["", ".zip", ".tar", ".tar.gz"])
def test_folder_and_archives(tmp_path, dataset, nested, suffix):
    folder = tmp_path / "download"
    unpacked(folder / nested, dataset)
    bring(dataset, packed(folder, suffix) if suffix else folder, PASSWORD, tmp_path / "data" / "raw" / dataset)
    check(dataset, tmp_path / "data" / "raw" / dataset)
    assert (folder / nested / FILES[dataset][0]).is_file()  # the source is left alone


@pytest.mark.parametrize("dataset", ["dendi", "ldrs"])
def test_the_landmark_nearest_to_the_top_counts(tmp_path, dataset):
    folder = unpacked(tmp_path / "download" / "top", dataset)
    again = tmp_path / "download" / "another" / "copy" / FILES[dataset][0]
    again.parent.mkdir(parents=True)
    again.write_bytes(b"old")
    bring(dataset, folder.parent, PASSWORD, tmp_path / "raw" / dataset)
    check(dataset, tmp_path / "raw" / dataset)


def test_encrypted_zip(tmp_path):
    (tmp_path / "pmc.zip").write_bytes(ENCRYPTED)
    bring("nyu", tmp_path / "pmc.zip", PASSWORD, tmp_path / "raw" / "nyu")
    assert (tmp_path / "raw" / "nyu" / "NYU" / "S" / "I.txt").read_text() == "marks\n"


def none(folder):
    return None


def missing(folder):
    return folder / "missing.zip"


def without_the_set(folder):
    (folder / "download" / "other").mkdir(parents=True)
    return packed(folder / "download", ".zip")


def empty_folder(folder):
    (folder / "download").mkdir()
    return folder / "download"


def not_an_archive(folder):
    (folder / "page.html").write_text("<html>sign in to download</html>")
    return folder / "page.html"


def locked(folder):
    (folder / "pmc.zip").write_bytes(ENCRYPTED)
    return folder / "pmc.zip"


def broken(suffix):
    def source(folder):
        return damaged(packed(unpacked(folder / "download", "dendi"), suffix))

    source.__name__ = f"broken_{suffix}"
    return source


SOURCES = [none, missing, without_the_set, empty_folder, not_an_archive, locked]
SOURCES += [broken(suffix) for suffix in (".zip", ".tar", ".tar.gz", ".tar.xz")]


@pytest.mark.parametrize("dataset", ["dendi", "nyu"])
@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_errors_say_what_to_get_and_leave_nothing_behind(tmp_path, dataset, make):
    source, raw = make(tmp_path), tmp_path / "raw"
    with pytest.raises(DataError) as caught:
        bring(dataset, source, "wrong", raw / dataset)
    message = str(caught.value)
    assert "github.com/ahyunSeo/EquiSym" in message and "github.com/ahyunSeo/PMCNet" in message
    assert ("published.dendi" if dataset == "dendi" else "published.pmc") in message
    assert source is None or str(source) in message
    assert not raw.exists() or not list(raw.iterdir())


def test_nothing_is_left_behind_when_copying_stops(tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        copytree(*args, **kwargs)
        raise KeyboardInterrupt

    copytree = shutil.copytree
    folder = unpacked(tmp_path / "download", "dendi")
    monkeypatch.setattr(shutil, "copytree", stop)
    with pytest.raises(KeyboardInterrupt):
        bring("dendi", folder, PASSWORD, tmp_path / "raw" / "dendi")
    assert not list((tmp_path / "raw").iterdir())
