"""Files and folders that appear whole or not at all, each made by one process at a time.

What stands in their place is never written into: it may be a link to an object of DVC's cache (`cache.type`), which
would change with it. It is replaced.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pipeline.errors import CheckpointError

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, deed: str = "makes the same", wait: bool = True) -> Iterator[None]:
    """Keep other processes from what is made at `path`, which need not be there yet.

    Waits, and says so, for one that is under way, an orphan of a killed DVC perhaps; without `wait` raises
    CheckpointError. `deed` says in either message what that one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message = f"process {_owner(file)} {deed} just now ({path})"
        if not wait:
            raise CheckpointError(f"{message}; run the same command again after its end") from None
        logger.info("%s; waiting for its end", message)
        lock.acquire()
    try:
        file.write_text(str(os.getpid()))
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A folder to be filled, which takes the place of `folder` when the block ends without an error.

    It lies beside `folder` as `.NAME.part`; what a killed process left there is removed first. An error removes it, and
    leaves what stood in `folder`.
    """
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    with locked(folder):
        _remove(part)
        _remove(old)
        part.mkdir()
        try:
            yield part
        except BaseException:
            _remove(part)
            raise
        if folder.exists() or folder.is_symlink():
            os.rename(folder, old)  # in one step; removing it takes many, between which a process may be killed
        os.rename(part, folder)
        _remove(old)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file to be written, with the same suffix, which takes the place of `path` when the block ends without an error.

    It is on the disk by then, so that not even a power failure leaves half of it.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    with locked(path):
        part.unlink(missing_ok=True)
        try:
            yield part
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with atomic_file(path) as part:
        part.write_text(text)


def save_image(image: "Image.Image", path: Path, **options: Any) -> None:
    """Write a JPEG or PNG file. Pillow writes the former without asking whether a full disk took all of it."""
    content = BytesIO()
    image.save(content, {".jpg": "JPEG", ".png": "PNG"}[path.suffix], **options)
    path.write_bytes(content.getvalue())


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def _owner(lock: Path) -> str:
    """The process that holds a lock, as far as it has written that down."""
    try:
        return lock.read_text() or "unknown"
    except OSError:
        return "unknown"


def _remove(folder: Path) -> None:
    """Delete a folder; of a link to one only the link."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
