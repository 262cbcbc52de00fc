"""Where the program's log goes while a command or a stage runs. The library alone shows nothing."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

OURS = ("pipeline", "stages", "__main__")  # `python -m stages.NAME` calls its module so


class Lines(logging.Handler):
    """Messages, flushed at once, to standard output; warnings, which say so, to standard error. Progress bars stay
    whole.

    As after `print`, an error such as a closed pipe is the caller's.
    """

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # here: most commands say nothing

        stern = record.levelno >= logging.WARNING
        stream = sys.stderr if stern else sys.stdout
        message = self.format(record)
        with tqdm.external_write_mode(file=stream):  # flushed before the bars are back: a pipe has a buffer
            print(f"{record.levelname.lower()}: {message}" if stern else message, file=stream, flush=True)


@contextmanager
def log_shown() -> Iterator[None]:
    """Show what the program logs, from INFO on; other libraries' logs go where they would without it."""
    handler, loggers = Lines(), [logging.getLogger(name) for name in OURS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # open_clip's `logging.info` gives the root a handler, which would say all again
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
