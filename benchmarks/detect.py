"""What detection takes beside an earlier commit and beside another package: `python -m benchmarks.detect`.

Both are run in turn by this interpreter, the earlier one from a worktree of its own, on one core or two as the rows
say; times are medians, ratios those of the runs of a pair. `imgsym` is installed into an environment of its own, where
that is possible. `--large N`: pictures of 12 megapixels in the folder.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from skimage import data

COMMIT = "24e5a3b"  # the last one that ran all by PyTorch
PROJECT = Path(__file__).parents[1]
SMALL, LARGE = (640, 480), (4000, 3000)
RIVAL = "imgsym==0.1.0"
FURTHER = """
import statistics, sys, time
from pipeline import load
detector = load(sys.argv[1], device="cpu")
times = []
for path in sys.argv[2:] * 3:
    start = time.perf_counter()
    detector.detect(path)
    times.append(time.perf_counter() - start)
print(statistics.median(times[2:]))
"""
RIVALS = """
import statistics, sys, time
import imgsym
from imgsym import detect_axes
import cv2
times = []
for path in sys.argv[2:]:
    start = time.perf_counter()
    detect_axes(cv2.imread(path), detector=sys.argv[1])
    times.append(time.perf_counter() - start)
print(statistics.median(times))
"""


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each pair")
    parser.add_argument("--large", type=int, default=100, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = folder / "before"
        subprocess.run(["git", "-C", PROJECT, "worktree", "add", "-q", "--detach", before, COMMIT], check=True)
        try:
            _compare(before, folder, options.runs, options.large)
        finally:
            subprocess.run(["git", "-C", PROJECT, "worktree", "remove", "--force", before], check=True)


def _compare(before: Path, folder: Path, runs: int, large: int) -> None:
    trees, small = (before, PROJECT), _pictures(folder / "small", SMALL, 4)
    print(f"| one core, 640 x 480, shipped weights | {COMMIT} | now | ratio |\n|:--|--:|--:|--:|")

    def whole(tree: Path) -> tuple[float, float]:
        words = ["detect", *small[:1], "--task", "reflection", "--no-pictures", "--out", folder / "out"]
        _, seconds, memory = _run(tree, 1, ["-m", "pipeline.cli", *words])
        return seconds, memory

    pairs = [[whole(tree) for tree in trees] for _ in range(runs + 1)][1:]  # the first fills the system's cache
    _row("`symmetry detect one.jpg`, whole process", [[run[0] for run in pair] for pair in pairs], "s")
    _row("peak memory of the process", [[run[1] for run in pair] for pair in pairs], "MB")
    _row(
        "`symmetry --help`",
        [[_run(tree, 1, ["-m", "pipeline.cli", "--help"])[1] for tree in trees] for _ in range(runs)], "s",
    )  # fmt: skip
    ours = 0.0
    for task in ("rotation", "reflection"):
        pairs = [[float(_run(tree, 1, ["-c", FURTHER, task, *small])[0]) for tree in trees] for _ in range(runs)]
        ours = _row(f"{task}, each further picture", pairs, "s")
    if python := _rival(folder / "rival"):
        for kind in ("xfeatures", "nxc"):
            seconds = float(_run(folder, 1, ["-c", RIVALS, kind, *small], python)[0])
            print(f"| each further picture by {RIVAL} `{kind}`, beside our reflection | {seconds:.3g} s | | ", end="")
            print(f"{seconds / ours:.1f} |", flush=True)
    else:
        print(f"| {RIVAL} | not installed: pip could not | | |")
    for number in (large // 5, large):
        _pictures(folder / f"large{number}", LARGE, number)
        pairs = []
        for tree in trees:
            words = ["detect", folder / f"large{number}", "--task", "reflection", "--no-pictures"]
            pairs.append(_run(tree, 2, ["-m", "pipeline.cli", *words, "--out", folder / f"out{number}"])[1:])
        title = f"two cores, a folder of {number} pictures of 12 megapixels"
        _row(title, [[pair[0] for pair in pairs]], "s")
        _row(f"{title}, peak memory", [[pair[1] for pair in pairs]], "MB")


def _row(title: str, pairs: list[list[float]], unit: str) -> float:
    """Print one; return the median of the newer ones."""
    before, now = (statistics.median(times) for times in zip(*pairs))
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    shown = [f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in (before, now)]
    print(f"| {title} | {shown[0]} {unit} | {shown[1]} {unit} | {ratio:.1f} |", flush=True)
    return now


def _run(tree: Path, cores: int, words: Sequence, python: str = sys.executable) -> tuple[str, float, float]:
    """What Python printed, the seconds that it took, and the most MB of memory that it had."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    start = time.perf_counter()
    process = subprocess.Popen(
        [python, *map(str, words)], cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(cores)},
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )  # fmt: skip
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{tree}: {' '.join(map(str, words))[:200]}: exit code {process.returncode}")
    return printed, seconds, used.ru_maxrss / 1e3


def _pictures(folder: Path, size: tuple[int, int], number: int) -> list[Path]:
    """JPEG files of photographs of scikit-image."""
    folder.mkdir()
    photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    files = []
    for n in range(number):
        files.append(folder / f"{n:03}.jpg")
        if n < len(photographs):
            Image.fromarray(photographs[n]).resize(size, Image.Resampling.BICUBIC).save(files[n], quality=90)
        else:
            files[n].hardlink_to(files[n % len(photographs)])
    return files


def _rival(folder: Path) -> str:
    """The interpreter of an environment that has it; empty where there is none."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    installed = subprocess.run([python, "-m", "pip", "install", "-q", RIVAL], capture_output=True)
    return python if installed.returncode == 0 else ""


if __name__ == "__main__":
    main()
