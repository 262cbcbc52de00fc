"""Folders that appear whole or not at all."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.files import atomic_folder

OLD, NEW = {"a": "old", "deep/b": "old"}, {"a": "new", "c": "new"}
CHILD = """
import os, shutil, sys
from pathlib import Path
from pipeline.runtime.files import atomic_folder
{before}
with atomic_folder(Path(sys.argv[1])) as folder:
    for name in ("a", "c"):
        (folder / name).write_text("new")
        {during}
"""
REMOVE_ONE = """
def remove_one(folder, *_, **__):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    if files:
        files[0].unlink()
        os._exit(9)
shutil.rmtree = remove_one
"""


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def killed(folder, before="", during=""):
    """Fill the folder in a process that ends as if it were killed."""
    code = CHILD.format(before=before, during=during)
    process = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=Path(__file__).parents[2])
    assert process.returncode == 9


@pytest.fixture(params=["new", "replacing"])
def folder(request, tmp_path):
    """Where nothing is yet, or where OLD is."""
    folder = tmp_path / "raw" / "dendi"
    if request.param == "replacing":
        write(folder, OLD)
    return folder


def test_success(folder):
    before = contents(folder)
    with atomic_folder(folder) as part:
        assert part.parent == folder.parent and not list(part.iterdir())
        write(part, NEW)
        assert contents(folder) == before
    assert contents(folder) == NEW
    assert list(folder.parent.iterdir()) == [folder]


def test_an_empty_folder_is_placed_too(folder):
    with atomic_folder(folder):
        pass
    assert folder.is_dir() and not list(folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there(folder, error):
    before = contents(folder)
    with pytest.raises(error), atomic_folder(folder) as part:
        write(part, NEW)
        raise error
    assert contents(folder) == before
    assert list(folder.parent.iterdir()) == ([folder] if before else [])


def test_killed_while_filling(folder):
    before = contents(folder)
    killed(folder, during="os._exit(9)")
    assert contents(folder) == before and folder.exists() == bool(before)
    assert len([path for path in folder.parent.iterdir() if path.suffix != ".lock"]) == 1 + bool(before)
    with atomic_folder(folder) as part:
        assert not list(part.iterdir())
        write(part, {"d": "newer"})
    assert contents(folder) == {"d": "newer"}
    assert list(folder.parent.iterdir()) == [folder]


def test_killed_while_placing(folder):
    before = contents(folder)
    killed(folder, before="os.rename = os.replace = Path.rename = Path.replace = lambda *_, **__: os._exit(9)")
    assert contents(folder) in ({}, before)
    with atomic_folder(folder) as part:
        write(part, NEW)
    assert contents(folder) == NEW
    assert list(folder.parent.iterdir()) == [folder]


def test_killed_while_the_old_one_is_removed(tmp_path):
    folder = tmp_path / "dendi"
    write(folder, OLD)
    killed(folder, before=REMOVE_ONE)
    assert contents(folder) in ({}, OLD, NEW)
    with atomic_folder(folder) as part:
        write(part, NEW)
    assert contents(folder) == NEW
    assert list(folder.parent.iterdir()) == [folder]


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from pipeline.runtime.files import save_image

resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # as a full disk: the first write takes a part
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
try:
    save_image(image, Path(sys.argv[1]))
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_that_is_cut_off_is_an_error(tmp_path, suffix):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / f"a{suffix}"], capture_output=True, text=True)
    assert done.stdout.strip() == str(errno.EFBIG), done.stderr
