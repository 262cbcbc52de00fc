"""`python -m benchmarks.memory plain|ours BATCH`: the peak memory of a process that does two training steps."""

import resource
import sys

from benchmarks.work import Pair, steps


def main(formulation: str, batch: int) -> None:
    """Print gigabytes. Linux counts in units of 1,024 bytes."""
    plain, ours = steps(Pair.build(), batch)
    step = {"plain": plain, "ours": ours}[formulation]
    step()
    step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
