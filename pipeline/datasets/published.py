"""The published data sets, from a folder or archive on this machine to the layout that the readers know."""

import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from pipeline.errors import DataError

# What marks the root of each data set inside the archive that holds it.
LANDMARKS = {"dendi": "reflection_split.pt", "sdrw": "SDRW", "ldrs": "LDRS", "nyu": "NYU"}
ADVICE = """the data are not ours to pass on. Download them yourself:
  dendi: DENDI, linked in the README of github.com/ahyunSeo/EquiSym
  pmc:   SDRW, LDRS and NYU in one archive, linked in the README of github.com/ahyunSeo/PMCNet
then name each unpacked folder, .zip or .tar in params.yaml under published.dendi and published.pmc
(dvc exp run -S data=published -S published.dendi=/path -S published.pmc=/path)"""


def bring(dataset: str, source: Path | None, password: str, root: Path) -> None:
    """Copy one data set from `source`, a folder or an archive, to `root`, which must not exist yet.

    Raises DataError when there is no source, or the data set is not inside it.
    """
    key = "dendi" if dataset == "dendi" else "pmc"
    if source is None:
        raise DataError(f"params.yaml: data: published needs published.{key} for {dataset}; {ADVICE}")
    if not source.exists():
        raise DataError(f"{source}: not found (params.yaml: published.{key}); {ADVICE}")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        folder = source if source.is_dir() else _unpack(source, key, password, Path(scratch) / "unpacked")
        landmark = _find(folder, source, dataset)
        staged = Path(scratch) / "staged"
        if dataset == "dendi":
            shutil.copytree(landmark.parent, staged)
        else:
            shutil.copytree(landmark, staged / landmark.name)
        staged.rename(root)


def _find(folder: Path, source: Path, dataset: str) -> Path:
    """Where the data set's landmark lies; the one nearest to the top if it occurs again further down."""
    name = LANDMARKS[dataset]
    found = sorted(folder.rglob(name), key=lambda path: len(path.parts))
    if not found:
        raise DataError(f"{source}: holds no {name}, which marks the root of {dataset}; {ADVICE}")
    return found[0]


def _unpack(archive: Path, key: str, password: str, folder: Path) -> Path:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                file.extractall(folder, pwd=password.encode())
        else:
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
    except Exception as error:  # a cut download or wrong password shows as EOFError, zlib.error, RuntimeError, ...
        raise DataError(
            f"{archive}: cannot be unpacked as .zip or .tar (params.yaml: published.{key}): {error}; {ADVICE}"
        ) from None
    return folder
