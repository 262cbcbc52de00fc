"""One file from a URL to this machine, whatever the connection does on the way.

requests carries http(s), gdown the share links of Google Drive, fsspec everything else. What has arrived is kept beside
the file as NAME.part, and the next attempt goes on from there, in this process or in a later one; the file itself
appears only when it is whole.
"""

import glob
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import gdown
import requests
import urllib3
from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from tqdm import tqdm

from pipeline.errors import DataError

logger = logging.getLogger(__name__)
ATTEMPTS, LONGEST_WAIT = 5, 30  # attempts in a row that bring nothing; seconds between two of them at the most
PATIENCE = (20, 60)  # seconds for a connection, and between two pieces of it
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses that a later attempt may not meet
BLOCK = 2**16  # bytes
PAGE = (
    "answered with a web page instead of a file: the link may ask for a sign-in or have expired. Open it in a browser, "
    "download the file there and name it in params.yaml"
)


class Unfinished(Exception):
    """The transfer broke off; another attempt may go on from there."""


class Changed(Unfinished):
    """What is here is no part of what the URL gives now."""


@dataclass(frozen=True)
class Edition:
    """What tells that a file at a URL is still the one of which a part is here: its tag, and its size in bytes."""

    tag: str | None
    size: int | None


@dataclass(frozen=True)
class Stream:
    """The bytes of a file from `start` on, and the edition that they are of."""

    edition: Edition
    start: int
    blocks: Iterator[bytes]


def download(url: str, path: Path, options: Mapping[str, object], first_wait: float = 1.0) -> None:
    """Bring the content of `url` to `path`, whose folder is made; nothing is done where it is there already.

    `options` are passed to fsspec; `first_wait` is in seconds and doubles with every attempt that brings nothing.
    Raises DataError, which names the URL and what to do.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            while not path.exists():
                arrived = _arrived(part)
                try:
                    _attempts(first_wait)(_attempt, url, part, options)
                    os.replace(part, path)
                except Exception as error:
                    if not _passing(error) or _arrived(part) <= arrived:
                        raise
            _note(part).unlink(missing_ok=True)
    except DataError:
        raise
    except Exception as error:  # of requests, gdown, fsspec and whatever carries its protocol
        kept = f"; {_arrived(part)} bytes have arrived and are kept for the next attempt" if _arrived(part) else ""
        raise DataError(f"{url}: cannot be fetched: {error}{kept}") from None


def _attempts(first_wait: float) -> Retrying:
    return Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=first_wait, max=LONGEST_WAIT, jitter=first_wait),
        retry=retry_if_exception(_passing),
        before_sleep=lambda state: logger.warning("%s; trying again", state.outcome and state.outcome.exception()),
        reraise=True,
    )


def _passing(error: BaseException) -> bool:
    """Whether the fault may be gone at the next attempt."""
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in PASSING
    broken = requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError
    return isinstance(error, (Unfinished, ConnectionError, TimeoutError, *broken))


def _attempt(url: str, part: Path, options: Mapping[str, object]) -> None:
    """Bring the rest of the file into `part`. Raises Unfinished where less arrives than was announced."""
    if urlsplit(url).hostname == "drive.google.com":
        return _from_drive(url, part)
    known, have = _edition(part), _size(part)
    if have and known.size == have:
        return None
    opened = (
        _web(url, have, known) if urlsplit(url).scheme in ("http", "https") else _storage(url, have, known, options)
    )
    with _forgotten_if_changed(part), opened as stream:
        if not stream.start:
            part.unlink(missing_ok=True)
            _note(part).write_text(json.dumps(asdict(stream.edition)))
        total = stream.edition.size
        _require_room(part, (total or 0) - stream.start, url)
        bar = tqdm(desc=part.stem, total=total, initial=stream.start, unit="B", unit_scale=True, unit_divisor=1024)
        with part.open("ab") as file, bar:
            for block in stream.blocks:
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _size(part) != total:
        raise Unfinished(f"{url}: {_size(part)} of {total} bytes have arrived")


@contextmanager
def _forgotten_if_changed(part: Path) -> Iterator[None]:
    """Remove a part that proves useless."""
    try:
        yield
    except Changed:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _web(url: str, have: int, known: Edition) -> Iterator[Stream]:
    """A file over http(s), from byte `have` on where the server still has the known edition."""
    headers = {"Accept-Encoding": "identity"}  # so that bytes can be counted
    if have and known.tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.tag}
    with requests.get(_direct(url), headers=headers, stream=True, timeout=PATIENCE) as answer:
        if answer.status_code == requests.codes.range_not_satisfiable:
            raise Changed(f"{url}: ends before byte {have}")
        answer.raise_for_status()
        if answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DataError(f"{url}: {PAGE}")
        tag = answer.headers.get("ETag")
        if tag is None or tag.startswith("W/"):  # a weak tag allows no ranges
            tag = answer.headers.get("Last-Modified")
        start, length = 0, int(answer.headers.get("Content-Length") or 0) or None
        if answer.status_code == requests.codes.partial_content:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            total = known.size if found and found[2] == "*" else found and int(found[2])
            same = tag in (None, known.tag) and known.size in (None, total)  # Last-Modified may be left out here
            if not found or int(found[1]) != have or not same:
                raise Changed(f"{url}: is not the file of before, or another range than asked for")
            start, length = have, total
        blocks = iter(lambda: answer.raw.read1(BLOCK, decode_content=False), b"")
        yield Stream(Edition(tag, length), start, blocks)


@contextmanager
def _storage(url: str, have: int, known: Edition, options: Mapping[str, object]) -> Iterator[Stream]:
    """A file of any storage that fsspec knows."""
    system, place = fsspec.core.url_to_fs(url, **options)
    edition = Edition(str(system.ukey(place)), system.size(place))
    start = have if edition == known else 0
    with system.open(place, "rb") as file:
        file.seek(start)
        yield Stream(edition, start, iter(lambda: file.read(BLOCK), b""))


def _from_drive(url: str, part: Path) -> None:
    """A file that Google Drive shares; gdown keeps parts of its own."""

    def check_room(arrived: int, total: int | None) -> None:
        _require_room(part, (total or 0) - arrived, url)

    whole = str(part.with_suffix(".drive"))
    try:
        gdown.download(url, whole, resume=True, use_cookies=False, timeout=PATIENCE, progress=check_room)
    except gdown.exceptions.FileURLRetrievalError as error:
        raise DataError(f"{url}: {PAGE} ({' '.join(str(error).split())})") from None
    except gdown.exceptions.DownloadError as error:
        raise Unfinished(str(error)) from None
    os.replace(whole, part)


def _direct(url: str) -> str:
    """The address of the file itself, for a share link of OneDrive or SharePoint; any other URL as it is."""
    host = urlsplit(url).hostname or ""
    if host.endswith((".sharepoint.com", "1drv.ms")) and "download=1" not in url:
        return f"{url}{'&' if '?' in url else '?'}download=1"
    return url


def _require_room(part: Path, needed: int, url: str) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DataError(
            f"{url}: {needed / 1e9:.1f} GB are still to come, but {part.parent} has {free / 1e9:.1f} GB free"
        )


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _arrived(part: Path) -> int:
    """Bytes in the part, and in the one that gdown keeps."""
    return sum(_size(piece) for piece in part.parent.glob(f"{glob.escape(part.stem)}.*part"))


def _note(part: Path) -> Path:
    """Where the edition of a part is written down."""
    return part.with_suffix(".edition")


def _edition(part: Path) -> Edition:
    try:
        return Edition(**json.loads(_note(part).read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or half-written: then nothing is known
        return Edition(None, None)
