"""`python -m benchmarks.files_executed [BACKBONE]`: how much of pipeline/ a training, an evaluation, a detection run.

Counts the files of which a function is called, and those functions; for each both the call of the library, on
parameters and packed data that were read before, and the whole command. Each in a process of its own, on two
photographs. What a module does when it is imported does not count, nor do lambdas and comprehensions.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from inspect import CO_OPTIMIZED
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType

import yaml

PROJECT = Path(__file__).parents[1]
PACKED, MODEL = Path("data/packed/model"), Path("models/main/model.safetensors")
NAMES = "train", "python -m stages.train", "evaluate", "python -m stages.evaluate dendi", "detect", "symmetry detect"
SPLITS = "train", "val", "test"
CHANGES = ["train.datasets=[dendi]", "train.epochs=2", "train.warmup=0", "train.validate_every=1", "decoder.width=16"]


def main(backbone: str = "lite") -> None:
    """Print a table in Markdown and, for each call, its files with their functions."""
    with TemporaryDirectory() as folder:
        prepare(Path(folder), backbone)
        found = {name: in_a_process(name, folder) for name in NAMES}
    print("| call | files | functions |\n|:--|--:|--:|")
    for name, functions in found.items():
        print(f"| `{name}` | {len(functions)} | {sum(map(len, functions.values()))} |")
    for name, functions in found.items():
        print(f"\n{name}:")
        print(*(f"  {file}: {', '.join(names)}" for file, names in functions.items()), sep="\n")


def prepare(folder: Path, backbone: str) -> None:
    """Make the folder of a project: small parameters, packed splits, a picture."""
    from benchmarks.work import photographs  # here and below: the processes below need none of it before they count
    from pipeline.data.packed.split import SUFFIX
    from pipeline.data.preparation.prepare import pack
    from pipeline.params.changes import changed

    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for change in [f"backbone={backbone}", f"backbones.{backbone}.input_size=96", *CHANGES]:
        params = changed(params, change)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    samples = photographs(folder, 160, 120, 2)
    with redirect_stderr(StringIO()):
        for split in SPLITS:
            pack(samples, "reflection", 96, folder / PACKED / f"dendi/{split}{SUFFIX}", split)


def in_a_process(name: str, folder: str) -> dict[str, list[str]]:
    """{file: its functions} that a call executes in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TQDM_DISABLE": "1"}
    words = [sys.executable, "-m", "benchmarks.files_executed", "--only", name]
    lines = subprocess.check_output(words, cwd=folder, env=environment, text=True).splitlines()
    functions: dict[str, list[str]] = {}
    for file, function in map(str.split, lines):
        functions.setdefault(file, []).append(function)
    return functions


def call(name: str) -> Callable[[], object]:
    """The call of a name, with what it needs imported and read."""
    if name == "detect":
        from pipeline import detect

        return lambda: detect("0.jpg")
    if name == "symmetry detect":
        from pipeline import cli

        return lambda: cli.main(["detect", "0.jpg", "--out", "found"])
    from pipeline.data.packed.split import packed_splits
    from pipeline.params import load_params
    from stages import evaluate, train

    params = load_params()
    splits = [packed_splits(PACKED, ["dendi"], split, params.task) for split in SPLITS]
    calls: dict[str, Callable[[], object]] = {
        "train": lambda: train.train(params, *splits[:2], MODEL.parent, train.detection_threshold),
        "python -m stages.train": train.main,
        "evaluate": lambda: evaluate.evaluate(evaluate.load_model(MODEL)[0], splits[2], 2).summary(0.5),
        "python -m stages.evaluate dendi": lambda: evaluate.main("dendi"),
    }
    return calls[name]


def count(name: str) -> None:
    """Print `FILE FUNCTION` for each function of pipeline/ that a call executes in the present folder."""
    called: set[CodeType] = set()
    package = str(PROJECT / "pipeline")

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            called.add(frame.f_code)

    counted = call(name)
    with redirect_stdout(StringIO()):
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            counted()
        except SystemExit as end:  # of the command line
            if end.code:
                raise
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    functions = [code for code in called if code.co_flags & CO_OPTIMIZED and code.co_name[0] != "<"]  # no class bodies
    for code in sorted(functions, key=lambda code: (code.co_filename, code.co_firstlineno)):
        print(Path(code.co_filename).relative_to(PROJECT), getattr(code, "co_qualname", code.co_name))


if __name__ == "__main__":
    count(sys.argv[2]) if sys.argv[1:2] == ["--only"] else main(*sys.argv[1:])
