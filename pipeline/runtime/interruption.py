"""Ctrl-C and SIGTERM, taken as the wish to stop at the next good moment; the end of DVC, taken as SIGTERM."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

SIGNALS = signal.SIGINT, signal.SIGTERM


class Wish:
    """`signal` is the number of the one that came, 0 as long as none did."""

    signal: int = 0


@contextmanager
def stop_wish() -> Iterator[Wish]:
    """Note the first signal instead of dying of it; a second one has its usual effect.

    Signals reach a program's main thread only, so that elsewhere nothing changes.
    """
    wish = Wish()
    before: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        wish.signal = number
        for known, handler in before.items():
            signal.signal(known, handler)

    if threading.current_thread() is threading.main_thread():
        before.update({number: signal.signal(number, note) for number in SIGNALS})
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_dvc() -> None:
    """Where DVC runs this process as a stage: send SIGTERM to it soon after DVC has ended.

    DVC that is killed leaves its stage behind, which would work on beside the next one. Processes that DVC did not
    start are left alone.
    """
    stage = os.environ.get("DVC_STAGE")
    if not stage:
        return
    dvc = _starter(stage)

    def watch() -> None:
        while _starter(stage) == dvc:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _starter(stage: str) -> int | None:
    """The next ancestor that is not itself of the stage, as the shell is through which DVC runs it, or the process that
    started this one. DVC tells its stages by DVC_STAGE. An orphan's next ancestor is another one than before.
    """
    try:
        process = psutil.Process().parent()
        while process and _stage_of(process) == stage:
            process = process.parent()
        return process.pid if process else None
    except psutil.NoSuchProcess:  # one of them has ended just now
        return None


def _stage_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("DVC_STAGE")
    except (psutil.AccessDenied, OSError):  # another user's, as the first of all processes is
        return None
