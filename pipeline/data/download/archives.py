"""Zip and tar archives from strangers: listed, judged as a whole, and only then unpacked.

Nothing but plain files below the folder is ever written; links, devices, modes and owners are not carried over.
"""

import io
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyzipper
from tqdm import tqdm

from pipeline.errors import DataError

MOST_FILES = 500_000
MOST_BYTES = 2**36  # 64 GB unpacked
LARGEST_RATIO, SMALL = 100, 2**27  # unpacked to packed size; below 128 MB any ratio will do
LARGEST_HEADER = 2**20  # bytes
LONG_HEADERS = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
AES = 99  # zip's mark of files that Python's own module cannot decrypt
METHODS = {0, 8, 12, 14}  # of compression in a zip, that Python knows: none, Deflate, bzip2, LZMA
OTHER_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "xz", 96: "JPEG", 98: "PPMd"}
STRONG = 0x40  # a flag: encrypted in PKWARE's own way
WINDOWS = {0, 10}  # systems whose zips may have backslashes between folders
ENDING, LOCATOR = b"PK\5\6", b"PK\6\7"  # of a zip: the record at its end, and the one before that in a zip64
LONGEST_ENDING = 2**16 + 22  # bytes
PART = "one part of several, which 7-Zip joins"
OTHER_KINDS = {
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"7z\xbc\xaf": "a 7z archive",
    b"rar!": "a RAR archive",
    b"pk\3\4": f"a .zip that is cut off, or {PART}",
    b"pk\7\x08": PART,
}
SHOWN = 5  # faulty names in a message


@dataclass(frozen=True)
class Member:
    """An entry: its name, whether it is a plain file (not a folder), its unpacked size, and a fault or none.

    `method`: of compression or encryption, where Python lacks it.
    """

    name: str
    file: bool
    size: int
    fault: str | None
    entry: Any
    method: str | None = None


class Archive:
    """An open archive whose members have been judged; made by `opened`."""

    def __init__(self, path: Path, members: list[Member], reader: Any) -> None:
        self.path, self.members, self._reader = path, members, reader

    def files(self) -> list[str]:
        """The names of the plain files, with slashes."""
        return [member.name for member in self.members if member.file]

    def unpack(self, prefix: str, folder: Path, description: str) -> None:
        """Write the files whose names begin with `prefix` under `folder`, without that prefix.

        Raises DataError where there is no room; errors of a damaged archive come as the modules raise them.
        """
        chosen = [member for member in self.members if member.file and member.name.startswith(prefix)]
        for member in chosen:
            if member.method:
                tools = "7-Zip, Keka on macOS" + (", Info-ZIP's unzip" if member.method == "Deflate64" else "")
                raise DataError(
                    f"{self.path}: {member.name!r} is packed by {member.method}, which Python does not unpack; unpack "
                    f"it with another tool ({tools}) and name the folder in params.yaml (published)"
                )
        needed, free = sum(member.size for member in chosen), shutil.disk_usage(folder).free
        if needed > free:
            raise DataError(f"{self.path}: unpacks to {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free")
        with tqdm(desc=description, total=needed, unit="B", unit_scale=True, unit_divisor=1024) as bar:
            for member in chosen:
                target = folder / (member.name.removeprefix(prefix) or PurePosixPath(member.name).name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._open(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 2**20)
                bar.update(member.size)

    def _open(self, member: Member) -> Any:
        read = self._reader.extractfile if isinstance(self._reader, tarfile.TarFile) else self._reader.open
        return read(member.entry)


@contextmanager
def opened(path: Path, password: str, packed: int | None = None) -> Iterator[Archive]:
    """The archive at `path`, a zip (encrypted or not) or a tar (compressed or not).

    `packed`: bytes that it came from, where it lay within another archive. Raises DataError when it is neither,
    damaged, the password is wrong, or anything in it is not to be trusted: names that lead out of the folder, links,
    devices, more files or bytes than a data set can have.
    """
    try:
        packed = packed or path.stat().st_size
        with _OneDisk(path) as file, _reader(path, file, password) as reader:
            is_tar = isinstance(reader, tarfile.TarFile)
            members = list(_tar_members(path, reader, packed) if is_tar else _zip_members(reader))
            _judge(path, packed, members)
            yield Archive(path, members, reader)
    except DataError:
        raise
    except Exception as error:  # EOFError, zlib.error, RuntimeError (password), OSError (disk full), ...
        hint = " (params.yaml: published.password)" if "password" in str(error).lower() else ""
        raise DataError(f"{path}: cannot be unpacked: {error}{hint}") from None


class _Header(tarfile.TarInfo):
    """A tar header whose long name or attributes must be short: tarfile reads them into memory, whatever their size."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in LONG_HEADERS and not 0 <= self.size <= LARGEST_HEADER:
            raise DataError(
                f"{archive.name!s}: not unpacked, because it holds a name or attributes of {self.size} bytes"
            )
        return super()._proc_member(archive)  # type: ignore[misc]  # known to CPython alone


class _OneDisk(io.BufferedReader):
    """A zip file whose zip64 record counts one disk where OneDrive wrote none, which pyzipper refuses.

    `is_part`: whether its ending tells that something is missing before it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        start = max(0, path.stat().st_size - LONGEST_ENDING - 20)
        self._place = -1  # of the number of disks
        self.seek(start)
        tail = self.read()
        end = tail.rfind(ENDING)
        number, size, offset = struct.unpack_from("<H6xII", tail[end:].ljust(20, b"\0"), 4)
        is_zip64 = 2**32 - 1 in (size, offset)
        self.is_part = number not in (0, 2**16 - 1) or not is_zip64 and size + offset > start + end
        record = end - 20
        if record >= 0 and tail.startswith(LOCATOR, record) and not any(tail[record + 16 : record + 20]):
            self._place = start + record + 16
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        offset = self._place - self.tell()
        data = super().read(size)
        return data[:offset] + b"\1" + data[offset + 1 :] if 0 <= offset < len(data) else data


def _reader(path: Path, file: _OneDisk, password: str) -> zipfile.ZipFile | tarfile.TarFile:
    with suppress(tarfile.ReadError):  # before zip, whose mark is looked for at the end, where a tar may hold a zip
        return tarfile.open(path, tarinfo=_Header)
    if zipfile.is_zipfile(file):
        if file.is_part:
            raise DataError(f"{path}: cannot be unpacked: damaged, or {PART}: unpack it so, name the folder")
        reader = zipfile.ZipFile(file)
        if any(entry.compress_type == AES for entry in reader.infolist()):
            reader = pyzipper.AESZipFile(file)
        reader.setpassword(password.encode())
        return reader
    file.seek(0)
    head = file.read(512).lstrip().lower()
    what = next((what for beginning, what in OTHER_KINDS.items() if head.startswith(beginning)), "neither")
    raise DataError(f"{path}: expected a .zip or .tar archive, got {what}; another kind: unpack it, name the folder")


def _zip_members(reader: Any) -> Iterator[Member]:
    for entry in reader.infolist():
        kind = entry.external_attr >> 28  # of Unix: 8 a file, 4 a folder, 10 a link; 0 where it was not noted
        fault = None if kind in (0, 4, 8) else "a link or device"
        name = entry.orig_filename  # `filename` ends at a null character
        name = name.replace("\\", "/") if entry.create_system in WINDOWS else name
        method = entry.compress_type
        other = None if method in METHODS else OTHER_METHODS.get(method, f"method {method}")
        other = "PKWARE's strong encryption" if entry.flag_bits & STRONG else other
        yield Member(name, not name.endswith("/"), entry.file_size, fault or _name_fault(name), entry, other)


def _tar_members(path: Path, reader: Any, packed: int) -> Iterator[Member]:
    total = 0
    for number, entry in enumerate(reader):  # header by header, so that a bomb is seen before it is decompressed
        total += entry.size
        _judge_size(path, packed, number, total)
        fault = None if entry.isfile() or entry.isdir() else "a link or device"
        fault = "of negative size" if entry.size < 0 else fault
        name = entry.name.removeprefix("./")
        yield Member(name, entry.isfile(), entry.size, fault or _name_fault(name), entry)
    reader.fileobj.seek(reader.offset)  # tarfile takes a damaged header, or none, for the end
    if reader.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise DataError(f"{path}: cannot be unpacked: damaged or cut off behind {total} bytes")
    while rest := len(reader.fileobj.read(2**20)):  # to where the checksum of the compressed stream is
        total += rest
        _judge_size(path, packed, 0, total)


def _name_fault(name: str) -> str | None:
    if "" in name.removesuffix("/").split("/") or "\\" in name or name[1:2] == ":":
        return "an absolute path or one of another system"
    if ".." in PurePosixPath(name).parts:
        return "a path that leads out of the folder"
    return "a name with a null character" if "\0" in name else None


def _judge(path: Path, packed: int, members: list[Member]) -> None:
    faulty = [f"{member.name!r} is {member.fault}" for member in members if member.fault]
    if faulty:
        more = f" and {len(faulty) - SHOWN} more" if len(faulty) > SHOWN else ""
        raise DataError(
            f"{path}: not unpacked, because {'; '.join(faulty[:SHOWN])}{more}; a data set has no such entries"
        )
    _judge_size(path, packed, len(members), sum(member.size for member in members))


def _judge_size(path: Path, packed: int, files: int, total: int) -> None:
    if files > MOST_FILES:
        raise DataError(f"{path}: not unpacked, because it holds more than {MOST_FILES} files")
    if total > MOST_BYTES or total > max(SMALL, LARGEST_RATIO * packed):
        raise DataError(f"{path}: not unpacked, because {packed} bytes would become {total}: no data set is packed so")
