"""The published data sets, from where they are to the layout that the readers know.

Sources are tried in order: what params.yaml names, or else the entries of sources.yaml. Downloads are kept in
data/downloads, since three data sets share one archive.
"""

import shutil
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import yaml

from pipeline.data.download import archives, checksums, transfer
from pipeline.errors import DataError
from pipeline.runtime.files import digest

SOURCES = Path(__file__).with_name("sources.yaml")
# What marks the root of each data set: a file beside which it lies, or its folder.
LANDMARKS = {"dendi": "reflection_split.pt", "sdrw": "SDRW", "ldrs": "LDRS", "nyu": "NYU"}
SHOWN = 5  # archives in a message
ADVICE = """name it in params.yaml: an unpacked folder, a .zip or .tar, or a URL. By hand:
  dendi: DENDI, linked in the README of github.com/ahyunSeo/EquiSym
  pmc:   SDRW, LDRS and NYU in one archive, linked in the README of github.com/ahyunSeo/PMCNet
then  dvc exp run -S data=published -S published.dendi=/path -S published.pmc=/path"""


def bring(dataset: str, named: str | None, password: str, data: Path, root: Path, first_wait: float = 1.0) -> None:
    """Put one data set into the folder `root`, which exists and is empty.

    `named` is the user's folder, archive or URL, or None for the catalogue's sources; `data` is the folder that keeps
    downloads and checksums; `first_wait`, in seconds, is that before a second attempt. Raises DataError, which says of
    each source why it does not serve.
    """
    key, refused = _key(dataset), []
    for source in [{"url": named}] if named else yaml.safe_load(SOURCES.read_text())[key]:
        try:
            return _from_source(dataset, source, password, data, root, first_wait)
        except DataError as error:
            refused.append(str(error))
            for leftover in root.iterdir():
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    reasons = "\n".join(f"- {reason}" for reason in refused)
    raise DataError(f"{dataset} (params.yaml: published.{key}) cannot be fetched:\n{reasons}\n{ADVICE}")


def _from_source(dataset: str, source: dict, password: str, data: Path, root: Path, first_wait: float) -> None:
    url, ledger = source["url"], data / "checksums.yaml"
    remote = "://" in url
    if not remote and Path(url).is_dir():
        return _copy(Path(url), dataset, root)
    archive = data / "downloads" / f"{_key(dataset)}-{sha256(url.encode()).hexdigest()[:12]}" if remote else Path(url)
    if remote:
        transfer.download(url, archive, source.get("options", {}), first_wait)
    elif not archive.is_file():
        raise DataError(f"{url}: not found")
    name = _public(url) if remote else archive.name
    found = digest(archive)
    try:
        checksums.require(found, name, source.get("sha256"), ledger)
        with archives.opened(archive, password) as opened:
            _unpack(opened, password, dataset, root)
    except DataError as error:
        again = f"; if it is damaged, delete {archive}, and it is fetched anew" if remote else ""
        raise DataError(f"{error}{again}") from None
    checksums.note(found, name, archive.stat().st_size, ledger)  # only now: it is known to be whole


def _unpack(opened: archives.Archive, password: str, dataset: str, root: Path) -> None:
    """Unpack the data set, also out of an archive that lies alone in the opened one, as OneDrive packs shared files."""
    names = opened.files()
    inner = _archives(names)
    if len(inner) != 1 or _places(names, dataset):
        return opened.unpack(_prefix(names, dataset, opened.path), _inner(dataset, root), dataset)
    with TemporaryDirectory(dir=root) as folder:
        opened.unpack(inner[0], Path(folder), dataset)
        path = Path(folder) / PurePosixPath(inner[0]).name
        try:
            with archives.opened(path, password, opened.path.stat().st_size) as nested:
                nested.unpack(_prefix(nested.files(), dataset, path), _inner(dataset, root), dataset)
        except DataError as error:
            raise DataError(str(error).replace(str(path), f"{opened.path}: {inner[0]}")) from None


def _public(url: str) -> str:
    """A URL that Git may keep: without its query or a user's name, which can hold secrets, but for a short digest."""
    parts = urlsplit(url)
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return bare if bare == url else f"{bare} {sha256(url.encode()).hexdigest()[:12]}"


def _copy(folder: Path, dataset: str, root: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    prefix = _prefix(names, dataset, folder)
    try:
        shutil.copytree(folder / prefix, _inner(dataset, root), dirs_exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be copied: {error}") from None


def _prefix(names: list[str], dataset: str, source: Path) -> str:
    """Where in a source the data set lies, with a slash behind; the place nearest to the top if there are several."""
    found = _places(names, dataset)
    if not found:
        inner = _archives(names)
        hint = f"; it holds {', '.join(inner[:SHOWN])}: unpack it and name the right one" if inner else ""
        raise DataError(f"{source}: holds no {LANDMARKS[dataset]}, which marks the root of {dataset}{hint}")
    return "".join(f"{folder}/" for folder in min(found, key=lambda folders: (len(folders), folders)))


def _places(names: list[str], dataset: str) -> list[list[str]]:
    """The folders that lead to each place where the data set could lie."""
    landmark, found = LANDMARKS[dataset], []
    for name in names:
        *folders, file = name.split("/")
        if file == landmark:
            found.append(folders)
        elif landmark in folders:
            found.append(folders[: folders.index(landmark) + 1])
    return found


def _archives(names: list[str]) -> list[str]:
    """The names of archives among these, without what macOS keeps beside them."""
    return [name for name in names if name.lower().endswith(archives.SUFFIXES) and not name.split("/")[-1][0] == "."]


def _inner(dataset: str, root: Path) -> Path:
    """The folder that the files below the prefix go to; the readers expect the names of all sets but DENDI."""
    inner = root if dataset == "dendi" else root / LANDMARKS[dataset]
    inner.mkdir(exist_ok=True)
    return inner


def _key(dataset: str) -> str:
    """The archive that holds a data set."""
    return "dendi" if dataset == "dendi" else "pmc"
