"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def placed(folder: Path) -> Iterator[Path]:
    """A folder to be filled, which takes the place of `folder` when the block ends without an error.

    It lies beside `folder` as `.NAME.part`; what a killed process left there is removed first. An error removes it, and
    leaves what stood in `folder`.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(part, folder)
