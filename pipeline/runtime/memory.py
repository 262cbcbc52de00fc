"""How a process on the CPU gets the memory for its arrays."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


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
