"""Freed arrays stay with the process, where its allocator can be told so; all cores work."""

import os
import platform
import subprocess
import sys

import psutil
import pytest

from pipeline.runtime.process import on_all_cores

SCRIPT = """
import os, sys
from pathlib import Path
import numpy as np
from pipeline.runtime.process import keep_memory
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
if sys.argv[1] == "kept":
    keep_memory()
before = resident()
array = np.ones(200_000_000, np.uint8)
del array
print(resident() - before, os.environ.get("THP_MEM_ALLOC_ENABLE"))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc")
def test_freed_memory_is_kept():
    grown = {}
    for mode in ("kept", "default"):
        environment = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"}
        out = subprocess.check_output([sys.executable, "-c", SCRIPT, mode], text=True, env=environment)
        grown[mode], huge_pages = int(out.split()[0]), out.split()[1]
        assert huge_pages == ("1" if mode == "kept" else "None")
    assert grown["default"] < 50e6 < 150e6 < grown["kept"]


def test_all_cores_work_and_the_order_stays():
    assert list(on_all_cores(abs, range(-50, 0))) == list(range(50, 0, -1))
    with pytest.raises(ZeroDivisionError):
        list(on_all_cores((1).__truediv__, [1, 0, 1]))


WORKING = """
import os, signal, sys, time
from pipeline.runtime.process import on_all_cores
def work(number):
    os.write(1, f"{os.getpid()}\\n".encode())  # at once: two that print at the same time may mix their lines
    time.sleep(60)
if sys.argv[1] == "starting":  # the first thing that each does takes long, and meanwhile its starter is killed
    signal.signal = lambda *arguments: os.write(1, f"{os.getpid()}\\n".encode()) and time.sleep(2)
list(on_all_cores(work, range(4)))
"""


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="one core works alone")
@pytest.mark.parametrize("moment", ["starting", "working"])
def test_those_that_work_end_with_the_process_that_is_killed(moment):
    parent = subprocess.Popen([sys.executable, "-c", WORKING, moment], stdout=subprocess.PIPE, text=True)
    workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
    parent.kill()
    _, left = psutil.wait_procs(workers, timeout=20)
    parent.wait()
    parent.stdout.close()
    assert not left
