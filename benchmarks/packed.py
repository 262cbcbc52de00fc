"""`python -m benchmarks.packed COUNT SIDE`: a packed split of that many images, written and read at random.

Prints bytes on disk; bytes of memory once everything is imported, and how far it grew from there at the most; seconds
of writing, of opening, and of reading one sample.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc
from pipeline.data.packed.split import PackedSplit
from pipeline.data.packed.targets import mask, unscaled_target
from pipeline.data.preparation.packing import Packed, write_packed
from pipeline.geometry import Letterbox

READS = 2_000


def main(count: int, side: int) -> None:
    """Noise for images, since it cannot be compressed on the way; every fourth target is a large disc."""
    generator, imported = np.random.default_rng(0), peak_memory()
    images = [generator.integers(0, 256, (side, side, 3), np.uint8) for _ in range(8)]
    middle, radius = side / 2, side / 4
    disc = ReflectionDisc(
        ((middle, middle - radius), (middle, middle + radius), (radius, middle), (3 * radius, middle))
    )
    marks = [Annotation(axes=(ReflectionAxis(9 * n, 5, side - 9, side - 9 * n),)) for n in range(3)]
    marks.append(Annotation(discs=(disc,)))
    letterbox = Letterbox(side, side, side)
    samples = [
        Packed.of(
            image,
            unscaled_target(mask(mark, "reflection", side, side), "reflection", letterbox, clip=True),
            {"name": f"{n:05d}", "file": f"{n:05d}.jpg", "height": side, "width": side, "annotation": mark.to_dict()},
        )
        for n, (image, mark) in enumerate(zip(images, marks * 2))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "train.safetensors", time.perf_counter()
        write_packed(path, (samples[n % len(samples)] for n in range(count)), side)
        written = time.perf_counter()
        split = PackedSplit(path, "reflection")
        split.image(0)
        opened = time.perf_counter()
        for number in generator.integers(count, size=READS):
            split.image(int(number)), split.target(int(number))
        read = (time.perf_counter() - opened) / READS
        grown = peak_memory() - imported
        print(path.stat().st_size, imported, grown, written - start, opened - written, read)


def peak_memory() -> int:
    """Of this process so far, in bytes, on Linux."""
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin at the peak of the parent
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
