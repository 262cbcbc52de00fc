"""Errors that a user can mend: each message says what was expected, what came and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Base of the errors below; the command line prints its message without a traceback."""


def said(error: OSError) -> str:
    """What the system refused, in one line that names the file, where it names one."""
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(files)}: {error.strerror}" if files else str(error)


def brief(error: Exception) -> str:
    """One line on an error of a library, without the colours of a terminal."""
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(' '.join(lines[:3]).split())}"


@contextmanager
def needs(install: str) -> Iterator[None]:
    """What is imported inside comes with `pip install INSTALL`. Raises PackageError where a package of it is missing.

    Ours are left to Python: a module of this project that is not there is no mistake of the user's.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing(error, install) from None


def missing(error: ModuleNotFoundError, install: str) -> Exception:
    """The PackageError that says what to install; the error itself where the module is one of ours."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "pipeline", "stages"):
        return error
    return PackageError(f"the package {package} is not installed: pip install {install}")


class PackageError(UserError):
    """A package that only some commands need is not installed."""


class ParamsError(UserError):
    """params.yaml holds something that is not allowed; the message lists every such key."""


class DataError(UserError):
    """A data set is not as published; the message names the file and what was expected."""


class BackboneError(UserError):
    """A backbone's weights are missing or not of the form that the catalogue asks for."""


class CheckpointError(UserError):
    """A file is not a checkpoint of this project."""


class TrainingError(UserError):
    """A training cannot go on; the message names the batch."""


class Interrupted(UserError):
    """A signal asked a training to stop; all is saved.

    `signal`: its number; 0 in all processes but the first, which alone speaks and fails: what started them would take
    another's failure for a reason to kill those that are still at work.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
