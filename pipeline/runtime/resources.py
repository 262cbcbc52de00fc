"""What a run takes: time and memory."""

import resource
import sys
import time

import torch


class Stopwatch:
    """Adds up the seconds spent within `with` blocks."""

    def __init__(self) -> None:
        self.seconds, self.start = 0.0, 0.0

    def __enter__(self) -> "Stopwatch":
        self.start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self.start


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held: of the GPU on a GPU, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
