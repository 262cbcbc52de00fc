"""`python -m benchmarks.memory plain|ours BATCH`: peak memory and time of training steps in a process of their own.

The plain formulation runs with the system's own allocation of memory here, as any program does that does not ask for
more; `benchmarks.speed` gives both formulations what our stages use.
"""

import re
import sys
from pathlib import Path

from pipeline.runtime.process import keep_memory

if sys.argv[1] == "ours":
    keep_memory()

from benchmarks.timing import repeat
from benchmarks.work import Pair, paper, steps


def main(formulation: str, batch: int) -> None:
    """Print gigabytes (on Linux) and the seconds of each of three steps."""
    plain, ours = steps(Pair.build(paper()), batch)
    times = repeat({"plain": plain, "ours": ours}[formulation], runs=3)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin at the peak of the parent
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9, *times)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
