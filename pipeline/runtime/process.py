"""This process: the signals that ask it to stop, how it gets the memory for its arrays, how it starts others."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import psutil

Item = TypeVar("Item")
Made = TypeVar("Made")
SIGNALS = signal.SIGINT, signal.SIGTERM
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


class StopRequest:
    """`signal` is the number of the one that came, 0 as long as none did."""

    signal: int = 0


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note the first Ctrl-C or SIGTERM instead of dying of it; a second one has its usual effect.

    Signals reach a program's main thread only, so that elsewhere nothing changes.
    """
    request = StopRequest()
    before: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        request.signal = number
        for known, handler in before.items():
            signal.signal(known, handler)

    if threading.current_thread() is threading.main_thread():
        before.update({number: signal.signal(number, note) for number in SIGNALS})
    try:
        yield request
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


def end_with_parent(parent: int | None = None) -> None:
    """End this process soon after the one that started it: else it would wait for ever for those that are gone.

    `parent`: the number of that one; without it, of the present parent, which is another one if it has gone already.
    """
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def on_all_cores(function: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """What the function makes of each item, in their order; by forked processes, one a core, on Linux."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if cores == 1 or len(items) < 2:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(min(cores, len(items)), get_context("fork"), _work_quietly, (os.getpid(),))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _work_quietly(parent: int) -> None:
    """Leave Ctrl-C to the process that waits for this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)


def keep_memory() -> None:
    """Keep the memory of freed arrays for the next ones, in huge pages; to be called before the first array is made.

    glibc hands an array above 32 MB back to the system when it is freed, and the system hands out zeroed pages of 4 KB
    one by one: a third of a training step goes there. Does nothing where there is no glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)  # none by mmap, whose memory goes back at once
    mallopt(M_TRIM_THRESHOLD, -1)  # none of the rest goes back
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it at its first allocation


def start_method(workers: int) -> str | None:
    """Of the processes that load images: "fork" on Linux, as before Python 3.14, whose own choice imports everything
    anew in each and pickles the data set, which may be gigabytes. None, PyTorch's choice, elsewhere and for no worker.
    """
    return "fork" if workers and sys.platform == "linux" else None


def _starter(stage: str) -> int | None:
    """The next ancestor that is not itself of the stage, as the shell is through which DVC runs it, or the process that
    started this one. DVC tells its stages by DVC_STAGE. An orphan's next ancestor is another one than before.
    """
    import psutil  # here: detection does without

    try:
        process = psutil.Process().parent()
        while process and _stage_of(process) == stage:
            process = process.parent()
        return process.pid if process else None
    except psutil.NoSuchProcess:  # one of them has ended just now
        return None


def _stage_of(process: "psutil.Process") -> str | None:
    import psutil

    try:
        return process.environ().get("DVC_STAGE")
    except (psutil.AccessDenied, OSError):  # another user's, as the first of all processes is
        return None
