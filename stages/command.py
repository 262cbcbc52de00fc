"""How a stage is called: what it logs is shown; an error of ours, or of the system, is one message and exit code 1,
not a traceback.

A stage that a signal stopped exits as shells say it: 130 for SIGINT (Ctrl-C), 143 for SIGTERM.
"""

import json
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path

from pipeline.errors import Interrupted, ParamsError, UserError, said
from pipeline.runtime.files import write_text
from pipeline.runtime.log import log_shown
from pipeline.runtime.processor import provenance, same_kernels


def run_stage(stage: Callable[..., None]) -> None:
    """Call the stage with the words of the command line."""
    try:
        signature(stage).bind(*sys.argv[1:])
    except TypeError:
        names = " ".join(name.upper() for name in signature(stage).parameters)
        sys.exit(f"usage: python {sys.argv[0]} {names}; DVC calls it so, with `dvc repro`")
    try:
        with log_shown():
            if any(word.startswith("reproducible=") for word in sys.argv[1:]):
                raise ParamsError("reproducible: acts before a stage reads its words; set it in params.yaml instead")
            same_kernels()
            stage(*sys.argv[1:])
    except Interrupted as stop:
        if stop.signal:
            print(stop, file=sys.stderr)
            sys.exit(128 + stop.signal)
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:  # a full disk, a folder that may not be written
        sys.exit(f"{type(error).__name__}: {said(error)}")


def write_metrics(name: str, figures: dict) -> None:
    """Write metrics/NAME.json, and metrics/provenance/NAME.json, which says where: `make compare` looks at both."""
    for folder, content in ("metrics", figures), ("metrics/provenance", provenance()):
        write_text(Path(folder, f"{name}.json"), json.dumps(content, indent=2) + "\n")
