"""Archives that are hostile, damaged or none at all: unpacked as they were packed, or refused with nothing outside."""

import base64
import gzip
import io
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import pyzipper
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.download import archives
from pipeline.data.download.archives import opened
from pipeline.errors import DataError

PASSWORD = "ldrs2021"
ENCRYPTED = base64.b64decode(  # NYU/S/I.txt, "marks\n"; zip -X -0 -P ldrs2021
    "UEsDBAoACQAAAAAAIVAnbInAEgAAAAYAAAALAAAATllVL1MvSS50eHQcQXVeeXtifOaw5rSjoLVglAJQSwcIJ2yJwBIAAAAGAAAAUEsB"
    "Ah4DCgAJAAAAAAAhUCdsicASAAAABgAAAAsAAAAAAAAAAAAAAKSBAAAAAE5ZVS9TL0kudHh0UEsFBgAAAAABAAEAOQAAAEsAAAAAAA=="
)
NOISE = np.random.default_rng(0).bytes(30_000)
FILES = {"set/a.jpg": NOISE, "set/deeper/b b.jpg": b"b" * 999, "set/empty": b"", "other/c.jpg": NOISE[::-1]}
MODES = {".zip": "", ".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def zipped(path, files):
    """A zip of the content by name or ZipInfo."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for entry, content in files.items():
            file.writestr(entry if isinstance(entry, zipfile.ZipInfo) else zip_entry(entry, stat.S_IFREG), content)
    return path


def tarred(path, files, mode="w"):
    """A tar of the content by name or TarInfo."""
    with tarfile.open(path, mode) as file:
        for entry, content in files.items():
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
            info.size = info.size or len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def packed(folder, suffix, files=FILES):
    path = folder / f"archive{suffix}"
    return zipped(path, files) if suffix == ".zip" else tarred(path, files, MODES[suffix])


def zip_entry(name, mode):
    info = zipfile.ZipInfo("entry")
    info.filename, info.external_attr, info.compress_type = name, mode << 16, zipfile.ZIP_DEFLATED
    return info


def tar_entry(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def listing(folder):
    """All that lies in a folder: permissions, and content or what a link points to."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def unpack(path, folder, prefix="", password=""):
    with opened(path, password) as archive:
        archive.unpack(prefix, folder, "test")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    """Deep enough that what climbs out of it stays within tmp_path."""
    path = tmp_path / "1" / "2" / "target"
    path.mkdir(parents=True)
    return path


def assert_fails(path, folder, prefix="", password="", empty=True):
    """The message of the DataError, which names the archive; nothing is written outside the folder, or at all."""
    before = listing(folder.parents[2])
    with pytest.raises(DataError) as caught:
        unpack(path, folder, prefix, password)
    inside = f"{folder.relative_to(folder.parents[2])}/"
    after = {name: entry for name, entry in listing(folder.parents[2]).items() if empty or not name.startswith(inside)}
    assert after == before
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize("suffix", MODES)
def test_round_trip(tmp_path, folder, suffix):
    path = packed(tmp_path, suffix)
    with opened(path, PASSWORD) as archive:  # which is not needed
        assert sorted(archive.files()) == sorted(FILES)
        archive.unpack("", folder, "test")
    assert contents(folder) == FILES


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_prefix_selects(tmp_path, folder, suffix):
    unpack(packed(tmp_path, suffix), folder, "set/")
    assert contents(folder) == {"a.jpg": NOISE, "deeper/b b.jpg": b"b" * 999, "empty": b""}


def test_tar_of_the_current_folder(tmp_path, folder):
    path = packed(tmp_path, ".tar", {f"./{name}": content for name, content in FILES.items()})
    with opened(path, "") as archive:
        assert sorted(archive.files()) == sorted(FILES)
        archive.unpack("other/", folder, "test")
    assert contents(folder) == {"c.jpg": NOISE[::-1]}


def test_modes_and_owners_are_not_carried_over(tmp_path, folder):
    info = tar_entry("b", tarfile.REGTYPE)
    info.mode, info.uid, info.mtime = 0o6777, 12345, 1
    unpack(zipped(tmp_path / "a.zip", {zip_entry("a", stat.S_IFREG | 0o6777): b"a"}), folder)
    unpack(tarred(tmp_path / "b.tar", {info: b"b"}), folder)
    usual = tmp_path / "usual"
    usual.touch()
    for name in "ab":
        found, expected = (folder / name).stat(), usual.stat()
        assert (found.st_mode, found.st_uid) == (expected.st_mode, expected.st_uid) and found.st_mtime > 1


# Names


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../x", "leads out of the folder"),
        ("a/../../x", "leads out of the folder"),
        ("a/..", "leads out of the folder"),
        ("..", "leads out of the folder"),
        ("./../x", "leads out of the folder"),
        ("{tmp}/x", "an absolute path"),
        ("//x", "an absolute path"),
        (".//{tmp}/x", "an absolute path"),
        ("C:/x", "of another system"),
        ("C:x", "of another system"),
        ("..\\..\\x", "of another system"),
        ("\\\\host\\x", "of another system"),
    ],
)
def test_names_that_lead_elsewhere(tmp_path, folder, suffix, name, fault):
    name = name.format(tmp=tmp_path)
    message = assert_fails(packed(tmp_path, suffix, FILES | {name: b"evil"}), folder)
    assert repr(name) in message or repr(name.removeprefix("./")) in message
    assert fault in message


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_prefix_does_not_make_a_name_absolute(tmp_path, folder, suffix):
    assert_fails(packed(tmp_path, suffix, FILES | {f"set/{tmp_path}/x": b"evil"}), folder, "set/")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_with_a_null_character(tmp_path, folder, kind):
    if kind == "zip":
        path = zipped(tmp_path / "a.zip", {zip_entry("a\0.jpg", stat.S_IFREG): b"evil"})
    else:
        info = tar_entry("a", tarfile.REGTYPE)
        info.pax_headers = {"path": "a\0.jpg"}
        path = tarred(tmp_path / "a.tar", {info: b"evil"})
    assert "null character" in assert_fails(path, folder)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b"), ("",), (".",), ("x" * 300,)], ids=str)
def test_names_that_cannot_be_files(tmp_path, folder, suffix, names):
    assert_fails(packed(tmp_path, suffix, {name: b"x" for name in names}), folder, empty=False)


def test_many_faults_are_counted(tmp_path, folder):
    message = assert_fails(packed(tmp_path, ".zip", {f"../{number}": b"" for number in range(7)}), folder)
    assert message.count("leads out of the folder") == 5 and "and 2 more" in message


def from_windows(name):
    info = zip_entry(name, 0)
    info.create_system = 0
    return info


def test_backslashes_of_windows_stand_between_folders(tmp_path, folder):
    files = {from_windows(name.replace("/", "\\")): content for name, content in FILES.items()}
    path = zipped(tmp_path / "a.zip", files | {from_windows("set\\deeper\\"): b""})
    with opened(path, "") as archive:
        assert sorted(archive.files()) == sorted(FILES)
    unpack(path, folder)
    assert contents(folder) == FILES


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("..\\..\\x", "leads out of the folder"),
        ("a\\..\\..\\x", "leads out of the folder"),
        ("\\x", "an absolute path"),
        ("\\\\host\\x", "an absolute path"),
        ("C:\\x", "of another system"),
    ],
)
def test_backslashes_of_windows_that_lead_elsewhere(tmp_path, folder, name, fault):
    assert fault in assert_fails(zipped(tmp_path / "a.zip", FILES | {from_windows(name): b"evil"}), folder)


# Links and devices


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"?"]
)
@pytest.mark.parametrize("target", ["set/a.jpg", "..", "{tmp}"])
def test_tar_entries_that_are_no_files(tmp_path, folder, kind, target):
    entry = tar_entry("link", kind, target.format(tmp=tmp_path))
    path = packed(tmp_path, ".tar", FILES | {entry: b"", "link/x": b"evil"})
    if kind == b"?":  # of no known kind: the standard has it read as a file, which "link/x" cannot lie below
        assert_fails(path, folder, empty=False)
    else:
        assert "'link' is a link or device" in assert_fails(path, folder)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_zip_entries_that_are_no_files(tmp_path, folder, kind):
    entry = zip_entry("link", kind | 0o777)
    path = packed(tmp_path, ".zip", FILES | {entry: str(tmp_path), "link/x": b"evil"})
    assert "'link' is a link or device" in assert_fails(path, folder)


# Sizes


@pytest.mark.parametrize(
    ("limit", "files", "suffix"),
    [("SMALL", {"a": bytes(1_000_000)}, suffix) for suffix in MODES if suffix != ".tar"]  # which cannot be a bomb
    + [("MOST_BYTES", FILES, suffix) for suffix in MODES],
)
def test_too_many_bytes(tmp_path, folder, monkeypatch, limit, files, suffix):
    path, size = packed(tmp_path, suffix, files), sum(map(len, files.values()))
    monkeypatch.setattr(archives, limit, size - 1)
    assert re.search(r"would become \d+: no data set is packed so", assert_fails(path, folder))
    monkeypatch.setattr(archives, limit, size + 10_000)  # what surrounds the files in a tar may count too
    unpack(path, folder)
    assert contents(folder) == files


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_long_name_or_attributes_are_not_read_into_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "LARGEST_HEADER", 1000)
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, 1001
    (tmp_path / "bomb.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"a" * 4096)
    with pytest.raises(DataError, match="bomb.tar: .*name or attributes of 1001 bytes"):
        with opened(tmp_path / "bomb.tar", ""):
            pass


@pytest.mark.parametrize("suffix", MODES)
def test_too_many_files(tmp_path, folder, monkeypatch, suffix):
    path = packed(tmp_path, suffix)
    monkeypatch.setattr(archives, "MOST_FILES", len(FILES) - 1)
    assert "more than 3 files" in assert_fails(path, folder)
    monkeypatch.setattr(archives, "MOST_FILES", len(FILES))
    unpack(path, folder)
    assert contents(folder) == FILES


def test_a_bomb_is_seen_before_it_is_unpacked(tmp_path, folder):
    info = tar_entry("a", tarfile.REGTYPE)
    info.size = 2**40
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(2**16)))
    assert f"would become {2**40}" in assert_fails(path, folder)  # not that the archive ends too early


@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**40)])
def test_sizes_below_nothing(tmp_path, folder, monkeypatch, size):
    monkeypatch.setattr(archives, "MOST_FILES", 1000)
    info = tar_entry("a", tarfile.REGTYPE)
    info.size = size
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**14))
    assert_fails(path, folder)


def test_a_zip_that_lies_about_its_sizes(tmp_path, folder):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(1_000_000))
        file.filelist[0].file_size = 10
    assert_fails(path, folder, empty=False)
    assert sum(map(len, contents(folder).values())) <= 10


@pytest.mark.parametrize("suffix", MODES)
def test_no_room(tmp_path, folder, monkeypatch, suffix):
    path, size = packed(tmp_path, suffix), sum(map(len, FILES.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(size - 1))
    message = assert_fails(path, folder)
    assert re.search(r"unpacks to [\d.]+ GB, but .* has [\d.]+ GB free", message) and str(folder) in message


# What Python does not unpack


def as_method(path, name, method):
    """Change the method of compression that a zip gives for a file."""
    with zipfile.ZipFile(path) as file:
        local = file.getinfo(name).header_offset
    content = bytearray(path.read_bytes())
    content[local + 8 : local + 10] = method.to_bytes(2, "little")
    central = content.rfind(name.encode()) - 46
    content[central + 10 : central + 12] = method.to_bytes(2, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("method", "name", "tool"),
    [
        (1, "Shrink", "7-Zip"),
        (9, "Deflate64", "Info-ZIP"),
        (93, "Zstandard", "7-Zip"),
        (95, "xz", "7-Zip"),
        (97, "method 97", "7-Zip"),
        (98, "PPMd", "7-Zip"),
    ],
)
def test_methods_that_python_lacks(tmp_path, folder, method, name, tool):
    path = as_method(packed(tmp_path, ".zip"), "set/empty", method)
    message = assert_fails(path, folder)  # before anything is written
    assert f"'set/empty' is packed by {name}," in message and tool in message and "name the folder" in message
    unpack(path, folder, "other/")
    assert contents(folder) == {"c.jpg": NOISE[::-1]}


def test_methods_that_python_lacks_under_encryption(tmp_path, folder):
    path = aes(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes().replace(b"AE\3\x08\0", b"AE\3\x62\0"))
    assert "packed by PPMd" in assert_fails(path, folder, password=PASSWORD)


def test_strong_encryption(tmp_path, folder):
    path = packed(tmp_path, ".zip", {"a": b"a" * 99})
    content = bytearray(path.read_bytes())
    content[6], content[content.index(b"PK\1\2") + 8] = 0x41, 0x41
    path.write_bytes(content)
    assert "PKWARE's strong encryption" in assert_fails(path, folder)


# OneDrive


def as_onedrive(path):
    """Make a zip a zip64 whose locator counts no disks, as OneDrive does."""
    content = path.read_bytes()
    end = content.rfind(b"PK\5\6")
    *_, here, total, size, offset, _ = struct.unpack("<4sHHHHIIH", content[end : end + 22])
    path.write_bytes(
        content[:end]
        + struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, here, total, size, offset)
        + struct.pack("<4sIQI", b"PK\6\7", 0, end, 0)
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    )
    return path


@pytest.mark.parametrize("encrypted", [False, True])
def test_zip64_of_onedrive(tmp_path, folder, encrypted):
    path = as_onedrive(aes(tmp_path / "a.zip") if encrypted else packed(tmp_path, ".zip"))
    unpack(path, folder, password=PASSWORD)
    assert contents(folder) == FILES


@pytest.mark.parametrize("encrypted", [False, True])
def test_zip64_of_several_disks(tmp_path, folder, encrypted):
    path = as_onedrive(aes(tmp_path / "a.zip") if encrypted else packed(tmp_path, ".zip"))
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\6\7") + 16] = 2
    path.write_bytes(content)
    try:  # newer Pythons take it for no zip at all
        expected = "multiple disks" if zipfile.is_zipfile(path) else "a .zip that is cut off, or one part of several"
    except zipfile.BadZipFile as error:
        expected = str(error)
    assert len(expected) > 9 and expected in assert_fails(path, folder, password=PASSWORD)


# Passwords


def aes(path):
    with pyzipper.AESZipFile(path, "w", zipfile.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as file:
        file.setpassword(PASSWORD.encode())
        for name, content in FILES.items():
            file.writestr(name, content)
    return path


def zip_crypto(path):
    path.write_bytes(ENCRYPTED)
    return path


@pytest.mark.parametrize(("make", "expected"), [(aes, FILES), (zip_crypto, {"NYU/S/I.txt": b"marks\n"})])
def test_encrypted_zip(tmp_path, folder, make, expected):
    path = make(tmp_path / "a.zip")
    unpack(path, folder, password=PASSWORD)
    assert contents(folder) == expected


@pytest.mark.parametrize("make", [aes, zip_crypto])
@pytest.mark.parametrize("password", ["", "wrong", "ldrs2021 ", "\u00e9"])
def test_wrong_password(tmp_path, folder, make, password):
    path = make(tmp_path / "a.zip")
    assert "password" in assert_fails(path, folder, password=password, empty=False)
    assert not any(contents(folder).values())


# Damage


def damaged(path, place, change=1):
    content = bytearray(path.read_bytes())
    content[place] ^= change
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_one_wrong_bit(tmp_path, folder, suffix):
    path = packed(tmp_path, suffix, {"a": NOISE})  # which is stored as it is, so that only checksums tell
    assert_fails(damaged(path, path.stat().st_size // 2), folder, empty=False)


def test_one_wrong_bit_in_an_encrypted_zip(tmp_path, folder):
    assert_fails(damaged(aes(tmp_path / "a.zip"), 15_000), folder, password=PASSWORD, empty=False)


def test_a_wrong_header_within_a_tar(tmp_path, folder):
    path = packed(tmp_path, ".tar", {"a": b"a" * 512, "b": b"b" * 512})
    assert_fails(damaged(path, 1024), folder, empty=False)


@pytest.mark.parametrize("suffix", MODES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_truncated(tmp_path, folder, suffix, share):
    path = packed(tmp_path, suffix)
    os.truncate(path, int(share * path.stat().st_size))
    assert_fails(path, folder, empty=False)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_truncated_by_little(tmp_path, folder, suffix):
    path = packed(tmp_path, suffix)
    os.truncate(path, path.stat().st_size - 5)
    assert_fails(path, folder, empty=False)


@pytest.mark.parametrize("size", [512, 600, 1024, 1100, 1536, 2048])
def test_truncated_between_the_files_of_a_tar(tmp_path, folder, size):
    path = packed(tmp_path, ".tar", {"a": b"a" * 512, "b": b"b" * 512})
    os.truncate(path, size)
    assert_fails(path, folder, empty=False)


NO_ARCHIVES = {
    "empty": (b"", "neither"),
    "short": (b"PK", "neither"),
    "end of a zip": (b"PK\5\6" + bytes(17), "neither"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(500), "a 7z archive"),
    "rar": (b"Rar!\x1a\x07\x01\x00" + bytes(500), "a RAR archive"),
    "first volume": (b"PK\3\4" + bytes(500), "a .zip that is cut off, or one part of several, which 7-Zip joins"),
    "gz": (gzip.compress(b"no tar"), "neither"),
    "page": (b"<html>sign in</html>", "a web page"),
    "doctype": (b"\n  <!DOCTYPE HTML>\n<html>sign in</html>", "a web page"),
}


@pytest.mark.parametrize("start", [100, 15_000, 30_000])
def test_the_last_of_several_parts(tmp_path, folder, start):
    path = packed(tmp_path, ".zip")
    path.write_bytes(path.read_bytes()[start:])
    assert "one part of several, which 7-Zip joins" in assert_fails(path, folder)


def test_the_last_of_several_disks(tmp_path, folder):
    path = packed(tmp_path, ".zip")
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\5\6") + 4] = 3
    path.write_bytes(content)
    assert "one part of several, which 7-Zip joins" in assert_fails(path, folder)


@pytest.mark.parametrize(("content", "what"), NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_no_archive(tmp_path, folder, content, what):
    (tmp_path / "archive.zip").write_bytes(content)
    message = assert_fails(tmp_path / "archive.zip", folder)
    assert f"expected a .zip or .tar archive, got {what};" in message and "unpack it, name the folder" in message


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None], ids=["folder", "missing"])
def test_no_file(tmp_path, folder, make):
    make(tmp_path / "archive.zip")
    assert_fails(tmp_path / "archive.zip", folder)


def test_a_tar_that_holds_a_zip(tmp_path, folder):
    inner = packed(tmp_path, ".zip", {"inner": b"inner"}).read_bytes()
    unpack(packed(tmp_path, ".tar", {"inner.zip": inner}), folder)
    assert contents(folder) == {"inner.zip": inner}


EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "insert", "delete", "cut"]), st.integers(0, 2**20), st.binary(min_size=1)),
    min_size=1,
    max_size=4,
)


def edited(content, edits):
    content = bytearray(content)
    for kind, place, piece in edits:
        place %= len(content) + 1
        behind = min(place + len(piece), len(content))
        if kind == "flip":
            content[place:behind] = bytes(a ^ b for a, b in zip(content[place:behind], piece))
        elif kind == "insert":
            content[place:place] = piece
        elif kind == "delete":
            del content[place:behind]
        else:
            del content[place:]
    return bytes(content)


@pytest.mark.parametrize("suffix", MODES)
def test_edited_bytes_never_go_unnoticed(tmp_path, suffix):
    files = {"set/a": NOISE[:2000], "set/b/c": b"c" * 2000, "d": b""}
    good = packed(tmp_path, suffix, files).read_bytes()

    @given(EDITS)
    def check(edits):
        with tempfile.TemporaryDirectory() as outside:
            path, folder = Path(outside) / "archive", Path(outside) / "1" / "2" / "target"
            path.write_bytes(edited(good, edits))
            folder.mkdir(parents=True)
            try:
                unpack(path, folder)
            except DataError as error:
                assert str(path) in str(error)
            else:
                assert contents(folder) == files or suffix == ".tar"  # a plain tar has checksums of headers only
            assert {*Path(outside).rglob("*")} - {*folder.rglob("*")} == {path, *folder.parents[:2], folder}

    check()
