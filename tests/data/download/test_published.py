"""Bringing the published data sets from folders, archives and servers, and what is said where that fails."""

import base64
import shutil
import socket
import tarfile
import zipfile
from collections import namedtuple
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.data.download import archives as judging
from pipeline.data.download import published
from pipeline.errors import DataError
from pipeline.runtime.files import atomic_folder, digest

FILES = {
    "dendi": ("reflection_split.pt", "rotation_split.pt", "images/1.jpg"),
    "sdrw": ("SDRW/reflectionTestGt2013.mat", "SDRW/reflection_training/single_training/a b.jpg"),
    "ldrs": ("LDRS/train/1.json", "LDRS/train/1.jpg"),
    "nyu": ("NYU/S/I001.png", "NYU/M/I001.png"),
}
PMC = ("sdrw", "ldrs", "nyu")
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
    for name in ("dendi",) if dataset == "dendi" else PMC:
        for file in FILES[name]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content(file))
    return folder


def packed(folder, suffix):
    archive = folder.parent / f"archive{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:" + suffix.removeprefix(".tar").removeprefix(".")) as file:
            file.add(folder, ".")
    return archive


def damaged(archive):
    """A .zip of which the last file's data are wrong, or the first half of any other archive."""
    data = bytearray(archive.read_bytes())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            entry = [entry for entry in file.infolist() if not entry.is_dir()][-1]
        data[entry.header_offset + 30 + len(entry.filename)] = 0xFF  # a kind of block that deflate does not have
    else:
        data = data[: len(data) // 2]
    archive.write_bytes(data)
    return archive


def changed(archive):
    """A .zip of other bytes with the same files."""
    with zipfile.ZipFile(archive, "a") as file:
        file.comment = b"second edition"
    return archive


def check(dataset, root):
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(FILES[dataset])
    assert all((root / file).read_bytes() == content(file) for file in FILES[dataset])


@pytest.fixture
def bring(tmp_path):
    """Brings a data set into tmp_path/data/raw/NAME, which it returns."""

    def bring(dataset, named=None, password=PASSWORD):
        root = tmp_path / "data" / "raw" / dataset
        root.mkdir(parents=True)
        published.bring(dataset, named and str(named), password, tmp_path / "data", root, first_wait=0.01)
        return root

    return bring


@pytest.fixture
def assert_fails(tmp_path, bring):
    """The message of the DataError, after which the folder is empty."""

    def assert_fails(dataset, named=None, password=PASSWORD):
        with pytest.raises(DataError) as caught:
            bring(dataset, named, password)
        root = tmp_path / "data" / "raw" / dataset
        root.rmdir()  # which has to be empty for that
        return str(caught.value)

    return assert_fails


# What the user names


@pytest.mark.parametrize("dataset", FILES)
@pytest.mark.parametrize("nested", ["", "top", "top/deeper"])
@pytest.mark.parametrize("suffix", ["", ".zip", ".tar", ".tar.gz"])
def test_folder_and_archives(tmp_path, bring, dataset, nested, suffix):
    folder = tmp_path / "download"
    unpacked(folder / nested, dataset)
    check(dataset, bring(dataset, packed(folder, suffix) if suffix else folder))
    assert (folder / nested / FILES[dataset][0]).is_file()  # the source is left alone


@pytest.mark.parametrize("dataset", ["dendi", "ldrs"])
@pytest.mark.parametrize("other", ["another/copy", "z/copy"])  # one before, one behind it in the archive
def test_the_landmark_nearest_to_the_top_counts(tmp_path, bring, dataset, other):
    folder = unpacked(tmp_path / "download" / "top", dataset).parent
    again = folder / other / FILES[dataset][0]
    again.parent.mkdir(parents=True)
    again.write_bytes(b"old")
    check(dataset, bring(dataset, packed(folder, ".zip")))


def within(archive, *names, suffix=".zip"):
    """An archive that holds another under these names, beside what macOS and OneDrive add."""
    folder = archive.parent / "outer"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(archive, folder / name)
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._PMC.zip").write_bytes(b"\0\5\x16\7" + bytes(60))
    (folder / "read me.txt").write_text("thanks")
    outer = packed(folder, suffix)
    return outer.rename(outer.with_name(f"outer{suffix}"))


@pytest.mark.parametrize("dataset", FILES)
@pytest.mark.parametrize(
    ("inner", "outer"), [(".zip", ".zip"), (".tar.gz", ".zip"), (".zip", ".tar"), (".tar", ".tar")]
)
def test_an_archive_that_lies_alone_in_another(tmp_path, bring, dataset, inner, outer):
    archive = packed(unpacked(tmp_path / "download" / "top", dataset).parent, inner)
    check(dataset, bring(dataset, within(archive, f"OneDrive_1/PMC{inner}", suffix=outer)))


def test_an_encrypted_archive_within_another(tmp_path, bring, assert_fails):
    (tmp_path / "pmc.zip").write_bytes(ENCRYPTED)
    outer = within(tmp_path / "pmc.zip", "PMC.ZIP")
    assert "Bad password" in assert_fails("nyu", outer, "wrong")
    assert (bring("nyu", outer) / "NYU" / "S" / "I.txt").read_text() == "marks\n"


def test_an_archive_beside_the_data_set_is_let_be(tmp_path, bring):
    folder = unpacked(tmp_path / "download", "ldrs")
    (folder / "old.zip").write_bytes(b"no zip")
    check("ldrs", bring("ldrs", packed(folder, ".zip")))


def test_several_archives_in_one_are_named(tmp_path, assert_fails):
    archive = packed(unpacked(tmp_path / "download", "dendi"), ".zip")
    message = assert_fails("dendi", within(archive, "a/DENDI.zip", "PMC.tgz"))
    assert "it holds PMC.tgz, a/DENDI.zip: unpack it and name the right one" in message


def test_archives_in_a_folder_are_named(tmp_path, assert_fails):
    packed(unpacked(tmp_path / "download" / "x", "dendi"), ".zip")
    (tmp_path / "download" / "x" / "reflection_split.pt").unlink()
    assert "it holds archive.zip: unpack it" in assert_fails("dendi", tmp_path / "download")


def test_what_is_wrong_within_an_archive_in_another_names_both(tmp_path, assert_fails):
    archive = packed(unpacked(tmp_path / "download", "ldrs"), ".zip")
    outer = within(archive, "PMC.zip")
    assert f"- {outer}: PMC.zip: holds no reflection_split.pt" in assert_fails("dendi", outer)
    shutil.rmtree(tmp_path / "outer")
    again = within(outer.rename(tmp_path / "once.zip"), "PMC.zip")
    assert f"- {again}: PMC.zip: holds no LDRS" in assert_fails("ldrs", again)  # one level is enough


def test_the_limits_hold_for_both_archives_together(tmp_path, assert_fails, bring, monkeypatch):
    folder = unpacked(tmp_path / "download", "ldrs")
    (folder / "LDRS" / "zeros").write_bytes(bytes(4_000_000))
    packed(folder, ".zip").rename(tmp_path / "once.zip")
    outer = within(tmp_path / "once.zip", "PMC.zip")
    monkeypatch.setattr(judging, "SMALL", 0)
    monkeypatch.setattr(judging, "LARGEST_RATIO", 4_000_000 // outer.stat().st_size)
    assert "no data set is packed so" in assert_fails("ldrs", outer)
    monkeypatch.setattr(judging, "LARGEST_RATIO", 2 * 4_000_000 // outer.stat().st_size)
    bring("ldrs", outer)


def test_encrypted_zip(tmp_path, bring):
    (tmp_path / "pmc.zip").write_bytes(ENCRYPTED)
    assert (bring("nyu", tmp_path / "pmc.zip") / "NYU" / "S" / "I.txt").read_text() == "marks\n"


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


FAULTY = [missing, without_the_set, empty_folder, not_an_archive, locked]
FAULTY += [broken(suffix) for suffix in (".zip", ".tar", ".tar.gz", ".tar.xz")]


@pytest.mark.parametrize("dataset", ["dendi", "nyu"])
@pytest.mark.parametrize("make", FAULTY, ids=lambda make: make.__name__)
def test_errors_say_what_to_get_and_leave_nothing_behind(tmp_path, assert_fails, dataset, make):
    source = make(tmp_path)
    message = assert_fails(dataset, source, "wrong")
    assert "github.com/ahyunSeo/EquiSym" in message and "github.com/ahyunSeo/PMCNet" in message
    assert ("published.dendi" if dataset == "dendi" else "published.pmc") in message
    assert f"- {source}: " in message
    assert not (tmp_path / "data" / "checksums.yaml").exists()


def test_nothing_is_left_behind_when_copying_stops(tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        copytree(*args, **kwargs)
        raise KeyboardInterrupt

    copytree, raw = shutil.copytree, tmp_path / "raw"
    folder = unpacked(tmp_path / "download", "dendi")
    monkeypatch.setattr(shutil, "copytree", stop)
    with pytest.raises(KeyboardInterrupt), atomic_folder(raw / "dendi") as root:
        published.bring("dendi", str(folder), PASSWORD, tmp_path / "data", root)
    assert not list(raw.iterdir())


def test_another_archive_of_the_same_name_is_refused(tmp_path, bring, assert_fails):
    archive, ledger = packed(unpacked(tmp_path / "download", "dendi"), ".zip"), tmp_path / "data" / "checksums.yaml"
    before = digest(archive)
    shutil.rmtree(bring("dendi", archive))
    message = assert_fails("dendi", changed(archive))
    assert before in message and digest(archive) in message and str(ledger) in message
    ledger.unlink()
    check("dendi", bring("dendi", archive))


# The catalogue's sources


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """Puts sources, of which a URL is enough, into a catalogue of our own, for both archives."""

    def catalogue(*sources):
        entries = [source if isinstance(source, dict) else {"url": source} for source in sources]
        (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"dendi": entries, "pmc": entries}))
        monkeypatch.setattr(published, "SOURCES", tmp_path / "sources.yaml")

    return catalogue


@pytest.fixture
def archives(tmp_path):
    """A good archive of each kind."""
    return {name: packed(unpacked(tmp_path / name / "files", name), ".zip") for name in ("dendi", "pmc")}


def test_catalogue_of_the_project():
    sources = yaml.safe_load(published.SOURCES.read_text())
    assert set(sources) == {"dendi", "pmc"}
    for source in sources["dendi"] + sources["pmc"]:
        assert urlsplit(source["url"]).scheme and source["from"]
        assert set(source) <= {"url", "from", "options", "sha256"}


def test_the_next_source_serves_where_one_does_not(tmp_path, server, catalogue, archives, bring):
    good = server.serve(archives["dendi"].read_bytes(), path="good")
    wrong = {"url": server.serve(archives["dendi"].read_bytes(), path="wrong"), "sha256": "0" * 64}
    broken = server.serve(damaged(archives["dendi"]).read_bytes(), path="broken")  # behind files that are sound
    page = server.serve(b"<html>sign in</html>", kind="text/html", path="page")
    catalogue(server.url("gone"), page, wrong, broken, good, server.url("never"))
    check("dendi", bring("dendi"))
    assert [request.path for request in server.requests] == ["gone", "page", "wrong", "broken", "good"]
    assert list(yaml.safe_load((tmp_path / "data" / "checksums.yaml").read_text())) == [good]


def test_where_none_serves_each_reason_is_given(server, catalogue, assert_fails):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/file.zip"
        page = server.serve(b"<html>sign in</html>", kind="text/html", path="page")
        disguised = server.serve(b"<!DOCTYPE html>", path="disguised")
        catalogue(server.url("gone"), page, disguised, refused, "memory://none.zip", "/none/file.zip")
        message = assert_fails("nyu")
    first, *reasons = [line for line in message.splitlines() if line.startswith(("nyu", "- "))]
    assert first == "nyu (params.yaml: published.pmc) cannot be fetched:"
    for reason, words in zip(
        reasons,
        [
            (server.url("gone"), "404"),
            (page, "a web page instead of a file", "name it in params.yaml"),
            ("a web page", "if it is damaged, delete"),
            (refused, "refused"),
            ("memory://none.zip",),
            ("/none/file.zip: not found",),
        ],
        strict=True,
    ):
        assert all(word in reason for word in words)
    assert len(server.requests) == 3


def kept(data):
    """The one download that is there."""
    (archive,) = (path for path in (data / "downloads").iterdir() if path.suffix != ".lock")
    return archive


def test_three_data_sets_share_one_download(tmp_path, server, catalogue, archives, bring):
    url = server.serve(archives["pmc"].read_bytes())
    catalogue(url)
    for dataset in PMC:
        check(dataset, bring(dataset))
    assert len(server.requests) == 1
    (entry,) = yaml.safe_load((tmp_path / "data" / "checksums.yaml").read_text()).items()
    assert entry[0] == url
    assert entry[1]["sha256"] == digest(archives["pmc"]) == digest(kept(tmp_path / "data"))


def test_what_the_user_names_goes_before_the_catalogue(server, catalogue, archives, bring, assert_fails):
    catalogue(server.serve(archives["dendi"].read_bytes(), path="catalogue"))
    check("dendi", bring("dendi", server.serve(archives["dendi"].read_bytes(), path="named")))
    assert "404" in assert_fails("nyu", server.url("gone"))
    assert [request.path for request in server.requests] == ["named", "gone"]


class Guarded(MemoryFileSystem):
    protocol = "guarded"

    def __init__(self, key=None, **options):
        super().__init__(**options)
        if key != "open":
            raise PermissionError("no key")


def test_options_are_for_the_storage(catalogue, bring, assert_fails, archives):
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    Guarded(key="open").pipe_file("guarded://file.zip", archives["dendi"].read_bytes())
    catalogue("guarded://file.zip")
    assert "guarded://file.zip: cannot be fetched: no key" in assert_fails("dendi")
    catalogue({"url": "guarded://file.zip", "options": {"key": "open"}})
    check("dendi", bring("dendi"))


@pytest.mark.parametrize("fault", ["damaged", "too short a Content-Length", "none, and cut"])
def test_a_faulty_download_is_kept_until_it_is_deleted(
    tmp_path, server, catalogue, archives, bring, assert_fails, fault
):
    good, broken = archives["dendi"].read_bytes(), damaged(archives["dendi"]).read_bytes()
    faults = {"damaged": {"content": broken}, "none, and cut": {"framing": "close", "cut": 30_000}}
    first = faults.get(fault, {"excess": -100})
    catalogue(server.serve(good, first))
    message = assert_fails("dendi")
    archive = kept(tmp_path / "data")
    assert f"if it is damaged, delete {archive}, and it is fetched anew" in message
    assert assert_fails("dendi") == message
    assert len(server.requests) == 1
    assert not (tmp_path / "data" / "checksums.yaml").exists()
    archive.unlink()
    check("dendi", bring("dendi"))


def test_a_file_that_changed_at_its_url(tmp_path, server, catalogue, archives, bring, assert_fails):
    catalogue(server.serve(archives["pmc"].read_bytes()))
    bring("sdrw")
    before, ledger = digest(kept(tmp_path / "data")), tmp_path / "data" / "checksums.yaml"
    kept(tmp_path / "data").unlink()
    server.serve(changed(archives["pmc"]).read_bytes())
    message = assert_fails("ldrs")
    assert before in message and digest(archives["pmc"]) in message and str(ledger) in message
    ledger.unlink()
    check("ldrs", bring("ldrs"))


def test_no_room_to_unpack(server, catalogue, archives, bring, assert_fails, monkeypatch):
    usage = namedtuple("usage", "free")
    catalogue(server.serve(archives["dendi"].read_bytes()))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(0 if path.name == "dendi" else 10**9))
        assert "unpacks to" in assert_fails("dendi")
    check("dendi", bring("dendi"))
    assert len(server.requests) == 1


def test_the_ledger_keeps_no_secrets(tmp_path, server, archives, bring):
    url = server.serve(archives["dendi"].read_bytes(), path="file.zip?signature=secret")
    check("dendi", bring("dendi", url.replace("//", "//user:secret@")))
    (source,) = yaml.safe_load((tmp_path / "data" / "checksums.yaml").read_text())
    assert "secret" not in source and source.startswith(url.split("?")[0] + " ")
