"""The devices and processes of a training or an evaluation, by Lightning Fabric: one GPU or CPU, all GPUs of a machine,
or several machines.

Processes come from `torchrun` or Slurm's `srun` where these started the program; else Fabric starts one for each GPU.
Where there is one process only, nothing of this costs anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from pipeline.errors import ParamsError
from pipeline.params.choices import Precision
from pipeline.runtime.process import end_with_parent

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Found = TypeVar("Found")


@dataclass(frozen=True)
class Shard:
    """What one of several processes, `rank` of `world_size`, does of each batch, in one or more parts.

    A batch is dealt out image by image, so that all images together are the same for any number of processes.
    """

    rank: int = 0
    world_size: int = 1
    parts: int = 1

    def deal(self, batch: Sequence[int]) -> list[Sequence[int]]:
        """The images of each part; none where there are fewer images than parts in all."""
        return [batch[self.rank * self.parts + part :: self.world_size * self.parts] for part in range(self.parts)]


ALL = Shard()


def start(precision: Precision) -> Fabric:
    """Fabric, with all its processes running. Raises ParamsError for a launch that does not fit."""
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
    devices = processes or own_devices()
    if gpu and devices > torch.cuda.device_count():
        raise ParamsError(f"{devices} processes were started on a machine with {torch.cuda.device_count()} GPUs")
    device = "cuda" if gpu else "cpu"
    plugins: list[Any] = [] if processes else [LightningEnvironment()]  # else Fabric would wait in a Slurm job of one
    if precision == "fp16":
        plugins.append(Scaled("16-mixed", device))
    if processes or os.environ.get("LOCAL_RANK", "0") != "0":  # which Fabric sets in those that it starts
        end_with_parent()
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


def own_devices() -> int:
    """How many processes are to be started where nobody else did."""
    return max(1, torch.cuda.device_count())


def evaluation_shard() -> Shard:
    """What falls to this process in evaluation; starts the processes unless a training did. Raises ParamsError."""
    if not distributed.is_initialized():
        processes, nodes = launched(os.environ)
        if (processes or own_devices()) * nodes == 1:
            return ALL
        start("fp32")  # that of the loss; the model casts by itself
    return Shard(distributed.get_rank(), distributed.get_world_size())


def gathered(found: Found) -> list[Found]:
    """What each process found, in the order of the processes."""
    if not distributed.is_initialized():
        return [found]
    everything: list = [None] * distributed.get_world_size()
    distributed.all_gather_object(everything, found)
    return everything
