"""`make bench`: the fast paths beside their plain formulations, and how cost grows. Prints Markdown."""

import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.runtime.process import keep_memory

keep_memory()  # for both formulations, before any array is made

import numpy as np
import torch

from benchmarks import plain
from benchmarks.timing import Comparison, compare, multiply_adds, peaks, repeat, shown
from benchmarks.work import PARAMS, Pair, images, paper, photograph, photographs, random_model, steps, training_step
from pipeline.data.preparation.prepare import pack
from pipeline.scoring.f1 import count
from pipeline.training.loader import TrainingSet

SIZES, PROMPTS, BATCHES = (224, 320, 417, 512, 640), (1, 5, 25, 50), (1, 2, 4)
STAGES = ("check", "fetch", "preprocess", "data_report", "train", "evaluate", "ablation", "report")
FAMILIES = ("lite", "clip")


def main() -> None:
    """All tables."""
    limits = peaks()
    print(f"{torch.get_num_threads()} threads ({processor()}); Python {platform.python_version()}", end=", ")
    print(f"torch {torch.__version__}")
    print("\nOf a product of two matrices of 2,048 x 2,048, multiply-adds a second:", end=" ")
    print("; ".join(f"{name} {speed / 1e9:.0f} G" for name, speed in limits.items()), end=".\n\n")
    print(apart(), end="\n\n", flush=True)  # first, while this process is small
    print("Plain: as the released code works, text and unused blocks at every forward; ratio: run by run, in turn.\n")
    print("| work | plain: median (range) | ours | ratio (range) | multiply-adds done | share of the peak |")
    print("|---|---|---|---|---|---|")
    for name, comparison in comparisons():
        kind = "bfloat16" if "bf16" in name else "float32"
        print(row(name, comparison, max(limits[limit] for limit in limits if kind in limit)), flush=True)
    print()
    for table in growth():
        print(table, flush=True)
    print(packed(), flush=True)
    print(start_up())


def comparisons():
    """Pairs of a name and its Comparison."""
    yield from in_the_papers_setting(Pair.build(paper()))
    yield "training step of the default (lite, 192 px, batch 8)", lite()
    heat_map, truth = np.random.default_rng(0).random((480, 640), np.float32), np.zeros((480, 640), bool)
    truth[100:400, 320] = True
    yield "F1 counts, 480 x 640", compare(lambda: plain.counts(heat_map, truth), lambda: count(heat_map, truth), 15)
    yield "twenty augmented training images of 417, on one core", loading()
    for width, height, number in ((640, 480, 96), (2000, 1500, 24), (4000, 3000, 12)):
        yield f"preprocessing {number} photographs of {width} x {height} to 417", preprocessing(width, height, number)


def in_the_papers_setting(pair: Pair):
    """Those of the model and of its upsampler."""
    upsampler, grid, image = pair.ours.decoder.upsampler, torch.randn(1, 64, 26, 26), images(1, 417)
    with torch.no_grad():
        difference = (pair.plain(image) - pair.ours(image)).abs().max().item()
        name = f"inference, one image (logits differ by {difference:.0e})"
        yield name, compare(lambda: pair.plain(image), lambda: pair.ours(image), 7)
        leaner = compare(lambda: pair.plain(image, waste=False), lambda: pair.ours(image), 7)
        yield "the same, plain without text and unused blocks", leaner
        calls = lambda: plain.upsampler(upsampler, grid), lambda: upsampler(grid)
        yield "equivariant upsampler, forward", compare(*calls, 15)
    grid.requires_grad_()
    calls = lambda: plain.upsampler(upsampler, grid).sum().backward(), lambda: upsampler(grid).sum().backward()
    yield "equivariant upsampler, forward and backward", compare(*calls, 9)
    plainly, ours = steps(pair, batch=4)
    yield "training step, batch 4", compare(plainly, ours, 3)
    pair.ours.precision = "bf16"
    yield "the same, ours in bf16", compare(plainly, ours, 3)


def lite() -> Comparison:
    """The model of params.yaml, its image tower the same in both."""
    recipe = PARAMS.train.model_copy(update={"precision": "fp32"})
    params = PARAMS.model_copy(update={"backbone": "lite", "train": recipe})
    model, size = random_model(params, text_width=384).train(), params.chosen.input_size

    def plainly(pictures: torch.Tensor) -> torch.Tensor:
        features, grid = model.image_tower(pictures)
        logits = plain.decoder(model.decoder, features, model.text_embeddings, grid)
        return torch.nn.functional.interpolate(logits, size=(size, size), mode="bilinear", align_corners=True)

    parameters = [p for p in model.parameters() if p.requires_grad]
    found = compare(*(training_step(forward, parameters, 8, size) for forward in (plainly, model)), 9)
    return replace(found, multiply_adds=0)  # the counter takes the tower's depthwise convolutions for full ones


def loading() -> Comparison:
    """Twenty augmented images a run, as a worker process makes them: with one thread. The file is in memory already."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        sample, split = photograph(Path(folder), 417)
        ours, epochs = TrainingSet([split], 0, "turned"), iter(range(1_000_000))
        found = compare(
            lambda: [plain.training_sample(sample, "reflection", 417) for _ in range(20)],
            lambda: [ours[next(epochs), 0] for _ in range(20)],
            9,
        )
    torch.set_num_threads(threads)
    return found


def preprocessing(width: int, height: int, number: int) -> Comparison:
    """A loop that decodes, resizes and paints one image after another; ours on all cores. Files are cached already."""
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        samples = photographs(Path(folder), width, height, number)
        found = compare(
            lambda: [plain.prepared(sample, "reflection", 417) for sample in samples],
            lambda: pack(samples, "reflection", 417, Path(folder) / "train.safetensors", ""),
            5,
        )
    return replace(found, multiply_adds=0)


def packed() -> str:
    """What a packed split of 10,000 images costs."""
    command = [sys.executable, "-m", "benchmarks.packed", "10000", "417"]
    size, imported, grown, writing, opening, reading = map(float, subprocess.check_output(command).split())
    return (
        f"10,000 packed images of 417 px: {size / 1e9:.2f} GB on disk, written in {writing:.0f} s and read at random; "
        f"memory grows by {grown / 1e6:.0f} MB on the {imported / 1e6:.0f} MB of Python with PyTorch. Opening and the "
        f"first image: {opening * 1e3:.1f} ms; an image and its target: {reading * 1e3:.2f} ms.\n"
    )


def apart() -> str:
    """Memory and times of training steps in processes of their own."""
    lines = ["| training with batch 4 | peak memory | a step |", "|---|---|---|"]
    names = {"plain": "plain, the system's allocation of memory", "ours": "ours"}
    for formulation, name in names.items():
        command = [sys.executable, "-m", "benchmarks.memory", formulation, "4"]
        memory, *times = map(float, subprocess.check_output(command).split())
        lines.append(f"| {name} | {memory:.1f} GB | {shown(times)} |")
    return "\n".join(lines)


def start_up() -> str:
    """Table of how long the stages take to begin, as processes of their own."""
    lines = ["| before the work begins: Python and the imports of | |", "|---|---|"]
    stages = [f"stages.{stage}" for stage in STAGES]
    towers = [f"stages.train, pipeline.model.backbones.{family}" for family in FAMILIES]
    for names in [*stages, *towers]:
        command = [sys.executable, "-c", f"import {names}"]
        lines.append(f"| {names} | {shown(repeat(partial(subprocess.check_call, command), runs=5))} |")
    return "\n".join(lines)


def growth():
    """Tables of our times over the number of prompts, the image size and the batch."""
    settings = {
        "prompts M": {f"{m}": (paper(prompts=m), 1) for m in PROMPTS},
        "image size": {f"{size} px": (paper(size=size), 1) for size in SIZES},
        "batch": {f"{batch}": (paper(), batch) for batch in BATCHES},
    }
    for axis, values in settings.items():
        lines = [f"| {axis} | inference | multiply-adds | training step | multiply-adds |", "|---|---|---|---|---|"]
        for name, (params, batch) in values.items():
            model, size = random_model(params), params.chosen.input_size
            step = training_step(model.train(), [p for p in model.parameters() if p.requires_grad], batch, size)
            training = cell(step, runs=3)
            with torch.no_grad():
                inference = cell(partial(model.eval(), images(batch, size)), runs=5)
            lines.append(f"| {name} | {inference} | {training} |")
        yield "\n".join([*lines, ""])


def cell(call: Callable[[], object], runs: int) -> str:
    """Time and arithmetic of one entry of the growth tables."""
    return f"{shown(repeat(call, runs))} | {multiply_adds(call) / 1e9:.0f} G"


def row(name: str, comparison: Comparison, peak: float) -> str:
    """One line of the main table."""
    ratios, done = comparison.ratios, comparison.multiply_adds
    ratio = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    share = f"{done / statistics.median(comparison.ours) / peak:.0%}" if done else ""
    arithmetic = f"{done / 1e9:.1f} G" if done else ""
    return f"| {name} | {shown(comparison.plain)} | {shown(comparison.ours)} | {ratio} | {arithmetic} | {share} |"


def processor() -> str:
    """The processor's vendor, family and instructions that matter here."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        values = {key.strip(): value.strip() for key, value in lines.items()}
        return f"{values['model name']}, family {values['cpu family']}, {torch.backends.cpu.get_cpu_capability()}"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
