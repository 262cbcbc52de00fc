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
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if folder.exists():
        os.rename(folder, old)  # in one step; removing it takes many, between which a process may be killed
    os.rename(part, folder)
    shutil.rmtree(old, ignore_errors=True)
