"""`python -m benchmarks.gpu PART`: the parts of `benchmarks/gpu.sh`, each a process of its own that prints rows of a
Markdown table.

FLOPs: two for each multiply-add of the matrix products and convolutions of a training step, forward and backward, as
torch.utils.flop_counter counts them in that same formulation (ours does fewer than the plain one). Share of the peak:
FLOPs a second over those of a product of two bf16 matrices of 8,192 x 8,192, measured in the same process.
"""

import gc
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.timing import multiply_adds, repeat, seconds, shown
from benchmarks.work import Pair, images, paper, photographs, random_model, training_step
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.prepare import pack
from pipeline.inference.detector import Detector, load
from pipeline.training.loop import train
from stages.command import run_stage

SMALL = "GPU_SMALL" in os.environ  # on the CPU, to see whether the script works
DEVICE = "cpu" if SMALL else "cuda"
SETTING, BATCH, MATRIX = (paper(prompts=2, size=64), 2, 256) if SMALL else (paper(), 16, 8192)
RUNS, LONGEST = (2, 1) if SMALL else (20, 15)  # timed steps, and seconds after which no more are begun
BATCHES = (1, 2) if SMALL else (1, 8, 32, 128)
PHOTOGRAPHS = 4 if SMALL else 64
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROOT = Path(__file__).parents[1]


def machine() -> None:
    """What it is, and its speed at products of matrices."""
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.processor() or "CPU"
    memory = f"{torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB, " if DEVICE == "cuda" else ""
    print(f"| device | {name}, {memory}CUDA {torch.version.cuda}, {os.cpu_count()} cores |")
    print(f"| software | Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__} |")
    for precision, dtype in DTYPES.items():
        print(f"| product in {precision}, {MATRIX} x {MATRIX} | {peak(dtype) / 1e12:.3g} TFLOP/s |", flush=True)


def peak(dtype: torch.dtype) -> float:
    """FLOPs a second of a large product."""
    a, b = (torch.randn(MATRIX, MATRIX, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * MATRIX**3 / min(repeat(finished(lambda: a @ b), 10))


def training(formulation: str, *precisions: str) -> None:
    """Steps of `plain`, `ours` or `compiled`; where memory does not suffice, of half the images, and so on."""
    for precision in precisions:
        row, batch = None, BATCH
        while row is None and batch:
            try:
                row = steps(formulation, precision, batch)
            except torch.OutOfMemoryError:
                batch //= 2
            reset_memory()  # here, where the exception and what it holds are gone
            torch.cuda.empty_cache()
        print(row or f"| {formulation} | {precision} | 1 | does not fit | | | | | |", flush=True)


def steps(formulation: str, precision: str, batch: int) -> str:
    """A row: formulation, precision, batch, images a second, a step, TFLOPs a step, share of the peak, memory, first
    step.
    """
    step = finished(step_of(formulation, precision, batch))
    first = seconds(step)
    flops = 2 * multiply_adds(step_of("ours", precision, batch) if formulation == "compiled" else step)
    reset_memory()
    step()
    times, end = [seconds(step)], time.perf_counter() + LONGEST
    while len(times) < RUNS and time.perf_counter() < end:
        times.append(seconds(step))
    a_step = statistics.median(times)
    share = flops / a_step / peak(torch.bfloat16)
    return (
        f"| {formulation} | {precision} | {batch} | {batch / a_step:.1f} | {shown(times)} | {flops / 1e12:.2f} | "
        f"{share:.0%} | {memory()} | {first:.1f} s |"
    )


def step_of(formulation: str, precision: str, batch: int) -> Callable[[], None]:
    """A training step in the paper's setting, with random weights."""
    size = SETTING.chosen.input_size
    if formulation == "plain":
        pair = Pair.build(SETTING, DEVICE)
        parameters = [*pair.clip.visual.parameters(), *pair.ours.decoder.parameters()]

        def plainly(pictures: torch.Tensor) -> torch.Tensor:
            with torch.autocast(DEVICE, DTYPES[precision], enabled=precision != "fp32"):
                return pair.plain(pictures).float()

        return training_step(plainly, parameters, batch, size)
    model = random_model(SETTING).to(DEVICE).train()
    model.precision = precision
    if formulation == "compiled":
        model.compile(backend="aot_eager" if SMALL else "inductor")
    return training_step(model, [p for p in model.parameters() if p.requires_grad], batch, size)


def inference() -> None:
    """The networks alone, on images that lie on the device; a row for each precision and batch."""
    lite = shipped("reflection")
    networks = {
        "ViT-B/16": (random_model(SETTING).to(DEVICE).eval(), SETTING.chosen.input_size),
        "lite": (lite.model, lite.size),
    }
    with torch.inference_mode():
        for model, precision, batch in product(networks, ("fp32", "bf16"), BATCHES):
            network, size = networks[model]
            network.precision, pictures = precision, images(batch, size).to(DEVICE)
            reset_memory()
            times = repeat(finished(partial(network, pictures)), RUNS)
            speed = batch / statistics.median(times)
            print(
                f"| {model}, {size} px | {precision} | {batch} | {speed:.0f} | {shown(times)} | {memory()} |",
                flush=True,
            )


def pictures() -> None:
    """From JPEG files to axes or centres, all views, by the shipped weights."""
    with TemporaryDirectory() as folder:
        paths = [sample.image for sample in photographs(Path(folder), 640, 480, PHOTOGRAPHS)]
        for task, batch in product(("reflection", "rotation"), (1, 16)):
            detector = shipped(task)
            times = repeat(finished(lambda detector=detector, batch=batch: [*detector.stream(paths, batch)]), 2)
            print(f"| {task} | {batch} | {PHOTOGRAPHS / min(times):.1f} |", flush=True)


def shipped(task: str) -> Detector:
    """The shipped weights in PyTorch, named as a file, for which nothing else is used."""
    return load(task, ROOT / "pipeline" / "weights" / f"lite_{task}.safetensors", DEVICE)


def resume() -> None:
    """A training that is stopped by SIGTERM, then killed, beside one that is not."""
    with TemporaryDirectory() as folder:
        place, size = Path(folder), SETTING.chosen.input_size
        for name, count in (("train", 4 * BATCH), ("validation", BATCH)):
            samples = place / f"{name}-photographs", place / name / "dendi" / "packed.safetensors"
            samples[0].mkdir(), samples[1].parent.mkdir(parents=True)
            pack(photographs(samples[0], 640, 480, count), "reflection", size, samples[1], "benchmark")
        run(place, "whole")
        run(place, "stopped", "epoch 2/3", signal.SIGTERM)
        run(place, "stopped", "epoch 3/3", signal.SIGKILL)
        run(place, "stopped")
        whole, stopped = (load_file(place / name / "model.safetensors") for name in ("whole", "stopped"))
        differences = max((whole[name] - stopped[name]).abs().max().item() for name in whole)
        losses = [next((place / name).rglob("loss.tsv")).read_text().split()[-1] for name in ("whole", "stopped")]
    print(f"| last loss: whole, stopped | | {losses[0]}, {losses[1]} |")
    print(f"| largest difference of their weights | | {differences:.1e} |")


def run(folder: Path, name: str, until: str | None = None, number: int = 0) -> None:
    """A training in a process of its own; when it says `until`, it gets a signal. Prints a row."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks.gpu", "train", name]
    start, said = time.perf_counter(), ""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        while part := os.read(process.stdout.fileno(), 2**16).decode(errors="replace"):
            said += part
            if until and until in said:
                process.send_signal(number)
                until, signalled = None, time.perf_counter()
    end = time.perf_counter()
    if process.returncode not in (0, 128 + signal.SIGTERM, -signal.SIGKILL):
        raise SystemExit(f"{name} ended with {process.returncode}: {said[-2000:]}")
    ended = f"{signal.Signals(number).name}, {end - signalled:.1f} s later" if number else "by itself"
    (began,) = [line for line in said.splitlines() if "going on" in line][-1:] or ["from the beginning"]
    began = began[began.find("going on") if "going on" in began else 0 :].split(", from ")[0]
    print(f"| {name}: {began} | ended {ended} | {end - start:.1f} s |", flush=True)


def trained(name: str) -> None:
    """The training of `run`, in the current folder."""
    setting = SETTING.model_copy(update={"backbone": "vit_scratch", "backbones": {"vit_scratch": scratch()}})
    recipe = {"datasets": ["dendi"], "epochs": 3, "batch": BATCH, "validate_every": 1, "precision": "fp32"}
    machine = setting.machine.model_copy(update={"workers": 0 if SMALL else 4})
    params = setting.model_copy(update={"machine": machine, "train": setting.train.model_copy(update=recipe)})
    splits = (
        PackedSplit(Path(part) / "dendi" / "packed.safetensors", "reflection") for part in ("train", "validation")
    )
    training, validation = ([split] for split in splits)
    run_stage(lambda *_: train(params, training, validation, Path(name)))


def scratch():
    """The image tower of the setting, random where none is downloaded."""
    return SETTING.chosen.model_copy(update={"pretrained": "random"})


def finished(call: Callable[[], object]) -> Callable[[], None]:
    """The call, and waiting for the device to end it."""

    def waited() -> None:
        call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return waited


def reset_memory() -> None:
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()


def memory() -> str:
    """Most memory that tensors took since."""
    return f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if DEVICE == "cuda" else ""


PARTS = {"machine": machine, "training": training, "inference": inference, "pictures": pictures, "resume": resume}

if __name__ == "__main__":
    {**PARTS, "train": trained}[sys.argv[1]](*sys.argv[2:])
