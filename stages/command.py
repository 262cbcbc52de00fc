"""How a stage is called: an error of ours is one message and exit code 1, not a traceback."""

import sys
from collections.abc import Callable

from pipeline.errors import UserError


def run_stage(stage: Callable[..., None]) -> None:
    """Call the stage with the words of the command line."""
    try:
        stage(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")
