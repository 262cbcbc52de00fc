"""How sharp the tests are: `python -m tests.faults [FAULT...]` plants single faults and says which test catches each.

The faults are in tests/planted/: `fault`, its name; `in`, the file or folder that holds the text `old`, once or as
often as `times` says, which becomes `new`; `tests`, what under tests/ is to fail: files, folders, or FILE::TEST.
Each is planted in a copy of the working tree. Faults are named in part, or by their YAML file. Without any fault the
same tests must pass.

Exit code 1 when they do not, when a fault cannot be planted, or when more survive than `--survive` allows.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from tqdm import tqdm

PROJECT = Path(__file__).parents[1]
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/(\S+)", re.MULTILINE)
SURVIVED = "**survived**"
OURS = ("pipeline", "stages", "tests")  # packages that the copies have their own of


def main() -> None:
    """Print the table of all faults, or of those named."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FAULT")
    parser.add_argument("--survive", type=int, default=0, metavar="N", help="so many may survive (default: none)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at a time (default: 1)")
    parser.add_argument("--dry", action="store_true", help="only say which faults cannot be planted")
    options = parser.parse_args()
    faults = list(chosen(options.names))
    reasons = {fault["fault"]: reason for fault in faults if (reason := planted(fault, PROJECT))}
    if reasons or options.dry:
        print("\n".join(f"{name}: {reason}" for name, reason in reasons.items()) or f"all {len(faults)} can be planted")
        sys.exit(bool(reasons))
    print("| fault | in | caught by |\n|---|---|---|", flush=True)
    every = {"tests": sorted({test for fault in faults for test in fault["tests"]})}
    failing: list[str] = []  # without any fault
    found: list[str] = []
    for fault, code, printed in tested([every, *faults], options.jobs):
        failed = FAILED.findall(printed)
        if fault is every:
            failing = failed if code in (0, 1) else [printed]
            continue
        found.append(failed[0] if code == 1 and failed else SURVIVED if code == 0 else f"pytest ended with {code}")
        print(f"| {fault['fault']} | `{fault['in']}` | {found[-1]} |", flush=True)
    print(f"\n{len(found)} faults, {found.count(SURVIVED)} survived")
    print("\n".join(f"fails without any fault: {test}" for test in failing), end="")
    wrong = failing or any(test.startswith("pytest ended") for test in found)
    sys.exit(bool(wrong) or found.count(SURVIVED) > options.survive)


def chosen(names: list[str]) -> Iterator[dict]:
    """The faults of these names."""
    for path in sorted((PROJECT / "tests" / "planted").glob("*.yaml")):
        for fault in yaml.safe_load(path.read_text()):
            if not names or any(name in fault["fault"] or name == path.stem for name in names):
                yield fault


def planted(fault: dict, root: Path, write: bool = False) -> str:
    """Plant it, or only look whether that can be done; what speaks against it, else an empty text."""
    place, times = root / fault["in"], fault.get("times", 1)
    texts = {path: path.read_text() for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))}
    count = sum(text.count(fault["old"]) for text in texts.values())
    if count != times:
        return f"cannot be planted: {fault['in']} holds the old text {count} times, not {times}"
    if gone := [name for name in fault["tests"] if not is_there(root / "tests", *name.split("::"))]:
        return f"cannot be tested: no tests/{gone[0]}"
    for path, text in texts.items():
        if write and fault["old"] in text:
            path.write_text(text.replace(fault["old"], fault["new"]))
    return ""


def is_there(folder: Path, name: str, test: str = "") -> bool:
    """Whether the folder has such a file or folder, with this test if one is named."""
    path = folder / name
    return f"def {test}(" in path.read_text() if test and path.is_file() else path.exists() and not test


def tested(faults: list[dict], jobs: int) -> Iterator[tuple[dict, int, str]]:
    """Each fault with the exit code and the words of its tests, as they end; one without `old` is none.

    The tests run in forks of this process, which has imported all libraries: that would take most of the time.
    """
    import tests.warm  # noqa: F401

    waiting, running = list(faults), {}
    with tqdm(total=len(faults), unit="fault", disable=False) as bar:
        while waiting or running:
            while waiting and len(running) < jobs:
                fault, place = waiting.pop(0), TemporaryDirectory(prefix="fault-")
                copy(Path(place.name))
                options = ()
                if "old" in fault:
                    planted(fault, Path(place.name), write=True)
                    options = ("-x",)
                running[fork(Path(place.name), fault["tests"], *options)] = fault, place
            child, status = os.wait()
            fault, place = running.pop(child)
            printed = (Path(place.name) / "words").read_text()
            place.cleanup()
            bar.update()
            yield fault, os.waitstatus_to_exitcode(status), printed


def copy(folder: Path) -> None:
    """Copy the working tree into a folder, under Git."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for file in subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (PROJECT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes((PROJECT / file).read_bytes())
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)


def fork(folder: Path, names: list[str], *options: str) -> int:
    """Start a process that runs tests in a copy, with their words in a file there."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 70
    try:
        file = os.open(folder / "words", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(folder)
        os.environ |= {"PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        sys.path[:] = [str(folder), *(path for path in sys.path if path not in ("", str(PROJECT)))]
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        words = ["-q", "--tb=no", "-p", "no:cacheprovider", *options, *(f"tests/{name}" for name in names)]
        code = int(pytest.main(words))
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
