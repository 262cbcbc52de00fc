"""What the log shows, where, and how; in a process of its own, as a stage and the command are."""

import logging
import os
import subprocess
import sys

import pytest

from pipeline.runtime.log import log_shown

SCRIPT = """
import logging, sys
from tqdm import tqdm
from pipeline.runtime.log import log_shown

logger = logging.getLogger("pipeline.training.loop")
logger.warning("before")
with log_shown():
    logger.info("plain %d%%", 50)
    logging.getLogger("__main__").warning("torn?")
    logging.info("makes a handler of the root, as open_clip does")
    logging.getLogger("open_clip").info("of another library")
    logger.debug("small")
    logger.info("last")
    {end}
"""


def shown(end, **pipes):
    """Where streams have buffers. From Python 3.14 on its tracker of semaphores warns of tqdm's after `os._exit`."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    words = [sys.executable, "-W", "ignore:resource_tracker", "-c", SCRIPT.format(end=end)]
    return subprocess.run(words, text=True, env=buffered, **pipes)


def test_messages_are_plain_and_warnings_say_so():
    """Once each, and flushed: the process ends without warning."""
    done = shown("import os; os._exit(0)", capture_output=True)
    assert done.stdout == "plain 50%\nlast\n"
    assert done.stderr == "before\nwarning: torn?\n"


def test_lines_go_between_the_bars():
    end = "\n    for _ in tqdm(range(2), mininterval=0): logger.info('within')"
    done = shown(end, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line.rpartition("\r")[2] for line in done.stdout.split("\n")]
    assert lines.count("within") == 2, done.stdout


def test_the_library_alone_shows_nothing(capsys):
    logging.getLogger("pipeline.scoring").info("unseen")
    with log_shown():
        logging.getLogger("pipeline.scoring").info("seen")
    logging.getLogger("pipeline.scoring").info("unseen")
    assert capsys.readouterr() == ("seen\n", "")


def test_an_error_is_the_callers(monkeypatch):
    """A closed pipe ends the command, as it does where it prints."""

    class Closed:
        def write(self, _):
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr(sys, "stdout", Closed())
    with log_shown(), pytest.raises(BrokenPipeError):
        logging.getLogger("pipeline").info("heard by nobody")
