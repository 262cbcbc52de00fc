"""The devices and processes of a run, by Lightning Fabric: one GPU or CPU, all GPUs of a machine, or several machines.

Processes come from `torchrun` or Slurm's `srun` where these started the program; else Fabric starts one for each GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.errors import ParamsError
from pipeline.loading import Share
from pipeline.names import Precision
from pipeline.scoring.f1 import F1Counts

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def start(precision: Precision) -> Fabric:
    """The engine, with all its processes running. Raises ParamsError for a launch that does not fit."""
    from lightning_fabric import Fabric  # here and below: it takes two seconds
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.plugins.precision import MixedPrecision
    from lightning_fabric.plugins.precision import Precision as Full
    from lightning_fabric.strategies import DDPStrategy

    class Scaled(MixedPrecision):
        """Scales the loss, so that small gradients survive; the model casts by itself, in use as in training."""

        forward_context = Full.forward_context
        convert_input = Full.convert_input

    gpu = torch.cuda.is_available()
    processes, nodes = launched(os.environ)
    devices = processes or (torch.cuda.device_count() if gpu else 1)
    if gpu and devices > torch.cuda.device_count():
        raise ParamsError(f"{devices} processes were started on a machine with {torch.cuda.device_count()} GPUs")
    device = "cuda" if gpu else "cpu"
    plugins = [] if processes else [LightningEnvironment()]  # within a Slurm job of one task Fabric would wait for more
    if precision == "fp16":
        plugins.append(Scaled("16-mixed", device))
    strategy = DDPStrategy(broadcast_buffers=False) if devices * nodes > 1 else "auto"
    fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, strategy=strategy, plugins=plugins)
    fabric.launch()
    return fabric


def launched(environment: Mapping[str, str]) -> tuple[int, int]:
    """How many processes a machine `torchrun` or `srun` has started, and on how many machines; 0 and 1 where none."""
    if "TORCHELASTIC_RUN_ID" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    if int(environment.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_ID" in environment:
        nodes = int(environment["SLURM_NNODES"])
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return 0, 1


def share_of(fabric: Fabric, parts: int = 1) -> Share:
    """What falls to this process."""
    return Share(fabric.global_rank, fabric.world_size, parts)


def summed(fabric: Fabric, counts: F1Counts) -> F1Counts:
    """The counts of all processes together: integers, so that their number does not matter."""
    flat = torch.from_numpy(np.concatenate([counts.true, counts.predicted, [counts.actual]])).to(fabric.device)
    true, predicted, actual = fabric.all_reduce(flat, reduce_op="sum").cpu().split([100, 100, 1])
    return F1Counts(true.numpy(), predicted.numpy(), int(actual))
