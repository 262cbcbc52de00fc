"""Times of calls: medians over runs in turn, ratios run by run, and the processor's own limits."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from pipeline.model.kernels import mix_channels

ATTENTION = {  # the counter knows only those of GPUs
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4])
    ),
}


@dataclass(frozen=True)
class Comparison:
    """Seconds of each run of the plain formulation and of ours, taken in turn; multiply-adds of one run of ours."""

    plain: list[float]
    ours: list[float]
    multiply_adds: float

    @property
    def ratios(self) -> list[float]:
        """Plain over ours, run by run: what both runs of a pair share, the machine's speed of the moment, cancels."""
        return [plain / ours for plain, ours in zip(self.plain, self.ours)]


def compare(plain: Callable[[], object], ours: Callable[[], object], runs: int) -> Comparison:
    """Run both once unseen, then `runs` times in turn."""
    arithmetic = multiply_adds(ours)
    plain(), ours()
    pairs = [(seconds(plain), seconds(ours)) for _ in range(runs)]
    return Comparison(*(list(times) for times in zip(*pairs)), arithmetic)


def repeat(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each of `runs` runs after one unseen."""
    call()
    return [seconds(call) for _ in range(runs)]


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def multiply_adds(call: Callable[[], object]) -> float:
    """Of the matrix products and convolutions in one call, forward and backward."""
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
    with torch.enable_grad(), counter:  # without gradients it trips over escnn
        call()
    return counter.get_total_flops() / 2


def peaks() -> dict[str, float]:
    """Multiply-adds a second of a large float32 product by MKL and by oneDNN, and of one in bfloat16."""
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    pixels, half = a.view(1, 1, size, size).permute(0, 3, 1, 2), (a.bfloat16(), b.bfloat16())
    calls = {
        "MKL, float32": lambda: a @ b,
        "oneDNN, float32": lambda: mix_channels(pixels, b[:, :, None, None]),
        "oneDNN, bfloat16": lambda: half[0] @ half[1],
    }
    with torch.no_grad():
        return {name: size**3 / min(repeat(call, 10)) for name, call in calls.items()}


def shown(times: list[float]) -> str:
    """`median (least to most)` in seconds or milliseconds."""
    unit, scale = ("s", 1) if statistics.median(times) >= 1 else ("ms", 1e3)
    median, least, most = (f"{f(times) * scale:.3g}" for f in (statistics.median, min, max))
    return f"{median} {unit} ({least} to {most})"
