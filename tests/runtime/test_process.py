"""Freed arrays stay with the process, where its allocator can be told so."""

import os
import platform
import subprocess
import sys

import pytest

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
