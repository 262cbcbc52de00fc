"""How the libraries of this process compute: all alike on every processor, or as the one at hand does it fastest.

PyTorch, oneDNN, MKL, OpenBLAS and NumPy choose their code by the processor, and add up in an order that follows the
number of threads. Each choice changes the last bits, and a training makes points of F1 of them.
"""

import logging
import os
import platform
import sys
from pathlib import Path

logger = logging.getLogger(__name__)

ANYWHERE = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own loops
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # products; what it offers besides differs between the makers of processors
    "MKL_DYNAMIC": "FALSE",  # else fewer threads where there are fewer cores
    "OPENBLAS_CORETYPE": "Haswell",  # products of NumPy and SciPy
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",  # no bits: two threads that share a core, or a busy machine, wait without working
    "OPENCV_IPP": "avx2",  # Intel's filters in OpenCV; its own code for AVX-512 changes no bit of what is used here
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # on a GPU: what torch.use_deterministic_algorithms asks for
}


def compute_as(params: Path) -> None:
    """Set what the key `reproducible` of this params.yaml asks for; to be called before NumPy and PyTorch are imported.

    What cannot be read changes nothing here: whoever loads the parameters says what is wrong with them.
    """
    if _asked(params) == "anywhere":
        os.environ.update(ANYWHERE)


def same_kernels() -> None:
    """Have PyTorch take GPU kernels that always add up in one order, and name those that have no such form; say where
    this processor is none for which `anywhere` is made. Nothing under `machine`; to be called before the work.
    """
    if not computes_alike():
        return
    if not has_avx2():
        logger.warning("reproducible: anywhere is made for x86-64 with AVX2; on this processor figures differ a little")
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)


def computes_alike() -> bool:
    """Whether this process was started to compute as on every processor."""
    return all(os.environ.get(name) == value for name, value in ANYWHERE.items())


def provenance() -> dict[str, str | int]:
    """What the figures of this process depend on beside the code, the data and the parameters. Two that were made with
    the same are equal to the last bit.
    """
    import torch  # here: not all that look at this module's settings have it

    alike = computes_alike()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(alike and has_avx2())
    asked = "anywhere" if alike else "machine"
    return {"reproducible": asked, "device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor(alike: bool) -> str:
    """Any with AVX2, or this one by name, family, model and the instructions that PyTorch takes."""
    import torch

    if alike:
        return "x86-64 with AVX2"
    known = [_cpuinfo("model name"), *(f"{key} {_cpuinfo(key)}" for key in ("cpu family", "model") if _cpuinfo(key))]
    return ", ".join([*filter(None, known), platform.machine(), torch.backends.cpu.get_cpu_capability()])


def has_avx2() -> bool:
    """Whether this is an x86-64 processor with AVX2; elsewhere than on Linux taken for granted."""
    return platform.machine() in ("x86_64", "AMD64") and (not (found := _cpuinfo("flags")) or "avx2" in found.split())


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def _asked(params: Path) -> str:
    """The value of `reproducible` in this file, without a reader of YAML, whose import takes a while."""
    try:
        lines = params.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    values = [line.partition(":")[2].partition("#")[0] for line in lines if line.startswith("reproducible:")]
    return values[-1].strip(" \"'") if values else ""
