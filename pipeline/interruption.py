"""Ctrl-C and SIGTERM, taken as the wish to stop at the next good moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = signal.SIGINT, signal.SIGTERM


class Wish:
    """`signal` is the number of the one that came, 0 as long as none did."""

    signal: int = 0


@contextmanager
def stop_wish() -> Iterator[Wish]:
    """Note the first signal instead of dying of it; a second one has its usual effect.

    Signals reach a program's main thread only, so that elsewhere nothing changes.
    """
    wish, before = Wish(), {}

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
