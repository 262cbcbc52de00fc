"""The stages of dvc.yaml, each run as `python -m stages.NAME`."""

import sys
from pathlib import Path
from types import TracebackType

from pipeline.errors import missing
from pipeline.runtime.process import keep_memory, stop_with_dvc
from pipeline.runtime.processor import compute_as

INSTALL = "--editable '.[train,cluster]' && pip install --no-deps --requirement requirements-no-deps.txt"


def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As Python does, but for a package that is not installed, in one line."""
    if isinstance(error, ModuleNotFoundError) and (found := missing(error, INSTALL)) is not error:
        print(f"{type(found).__name__}: {found}, or `make .venv/ready`", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = say  # a stage imports what it needs before it is called
stop_with_dvc()  # here and not later: importing the rest takes seconds
if any(word.startswith("stages.") for word in sys.orig_argv):  # a stage is run, and not only imported, as tests do
    compute_as(Path("params.yaml"))  # here, because libraries look at the environment when they are imported
keep_memory()  # here, because modules make arrays when they are imported
