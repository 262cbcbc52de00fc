"""How sharp the tests are: `python -m tests.faults [FAULT...]` plants single faults and says which test catches each.

The faults are in tests/planted/: `fault`, its name; `in`, the file or folder that holds the text `old`,
once or as often as `times` says, which becomes `new`; `tests`, the files under tests/ that are to fail. Each is planted
in a copy of the working tree. Names may be given in part. Without any fault the same tests must pass. Exit code 1 when
a fault cannot be planted, or more survive than `--survive` allows.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from tqdm import tqdm

PROJECT = Path(__file__).parents[1]
PLANTED = PROJECT / "tests" / "planted"
FORKS = get_context("forkserver")  # with the libraries at hand, whose import would take most of the time
LIBRARIES = [
    "dvc.repo", "dvclive", "escnn.nn", "hypothesis", "lightning_fabric", "matplotlib.figure", "open_clip", "pandas",
    "safetensors.torch", "scipy.ndimage", "skimage.data", "timm", "torchvision.transforms.v2",
    "transformers.models.bert",
]  # fmt: skip
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/(\S+)", re.MULTILINE)
SURVIVED, PASSED, FAILS = "**survived**", 0, 1  # the last two are exit codes of pytest; others: it could not run


def main() -> None:
    """Print the table of all faults, or of those named."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FAULT", help="a part of a fault's name, or of its YAML file's")
    parser.add_argument("--survive", type=int, default=0, metavar="N", help="so many may survive (default: none)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at a time (default: 1)")
    parser.add_argument("--dry", action="store_true", help="only say which cannot be planted")
    options = parser.parse_args()
    faults = list(chosen(options.names))
    if options.dry:
        reasons = {fault["fault"]: reason for fault in faults if (reason := planted(fault))}
        print("\n".join(f"{name}: {reason}" for name, reason in reasons.items()) or f"all {len(faults)} can be planted")
        sys.exit(bool(reasons))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    FORKS.set_forkserver_preload(LIBRARIES)
    with ThreadPoolExecutor(options.jobs) as pool:
        results, found = pool.map(caught, faults), []
        control = pool.submit(without_any, faults)
        for fault, result in zip(faults, tqdm(results, total=len(faults), unit="fault", disable=False)):
            found.append(result)
            tqdm.write(f"| {fault['fault']} | `{fault['in']}` | {result} |", file=sys.stderr)  # all may take an hour
    if control.result():
        sys.exit(f"without any fault the tests do not pass:\n{control.result()}")
    print("| fault | in | caught by |\n|---|---|---|")
    for fault, result in zip(faults, found):
        print(f"| {fault['fault']} | `{fault['in']}` | {result} |")
    survived, wrong = found.count(SURVIVED), sum(result.startswith("not ") for result in found)
    print(f"\n{len(faults)} faults: {len(faults) - survived - wrong} caught, {survived} survived, {wrong} not planted")
    sys.exit(survived > options.survive or wrong > 0)


def chosen(names: list[str]) -> Iterator[dict]:
    """The faults of these names."""
    for path in sorted(PLANTED.glob("*.yaml")):
        for fault in yaml.safe_load(path.read_text()):
            if not names or any(name in fault["fault"] or name == path.stem for name in names):
                yield fault


@contextmanager
def copy() -> Iterator[Path]:
    """A copy of the working tree, under Git."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()
    with TemporaryDirectory(prefix="fault-") as folder:
        for file in files:
            if (PROJECT / file).is_file():
                (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / file).write_bytes((PROJECT / file).read_bytes())
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
        yield Path(folder)


def planted(fault: dict, root: Path = PROJECT, write: bool = False) -> str:
    """Plant it, or only look whether that can be done; what speaks against it, else an empty text."""
    place, times = root / fault["in"], fault.get("times", 1)
    paths = [place] if place.is_file() else sorted(place.rglob("*.py"))
    counts = {path: path.read_text().count(fault["old"]) for path in paths}
    if sum(counts.values()) != times:
        return f"not planted: the old text is there {sum(counts.values())} times, not {times}"
    for path in (path for path, count in counts.items() if count and write):
        path.write_text(path.read_text().replace(fault["old"], fault["new"]))
    return ""


def caught(fault: dict) -> str:
    """The test that fails, or that none does."""
    with copy() as folder:
        if reason := planted(fault, folder, write=True):
            return reason
        code, printed = tests(folder, fault["tests"])
    if code == PASSED:
        return SURVIVED
    failed = FAILED.search(printed)
    return f"`{failed[1]}`" if code == FAILS and failed else f"not run: pytest ended with {code}"


def without_any(faults: list[dict]) -> str:
    """What the tests of these faults print if they fail where nothing is planted."""
    with copy() as folder:
        code, printed = tests(folder, sorted({test for fault in faults for test in fault["tests"]}))
    return printed if code else ""


def tests(folder: Path, names: list[str]) -> tuple[int, str]:
    """Exit code and words of pytest in a copy of the project, up to the first failure."""
    with TemporaryDirectory() as place:
        process = FORKS.Process(target=run, args=(folder, [f"tests/{name}" for name in names], Path(place) / "words"))
        process.start()
        process.join()
        return process.exitcode, (Path(place) / "words").read_text()


def run(folder: Path, names: list[str], words: Path) -> None:
    """In a process of its own, whose modules are those of the copy."""
    with words.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [str(folder), *(path for path in sys.path if path not in ("", str(PROJECT)))]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pipeline", "stages", "tests")]:
        del sys.modules[name]
    code = pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *names])
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
