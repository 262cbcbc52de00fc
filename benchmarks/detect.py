"""What `detect` takes on one core, in a process of its own: `python -m benchmarks.detect`.

Start-up (imports, weights, the first picture), the median of the next pictures, and the peak memory, each beside the
same model in the form that it was trained in, with timm's tower and without folding.
"""

import os
import subprocess
import sys

SIZES = ((480, 640), (1500, 2000))
CHILD = """
import sys, time
start = time.perf_counter()
import numpy as np, resource, torch
torch.set_num_threads(1)
from pipeline import load
detector = load(sys.argv[1], device="cpu")
if sys.argv[2] == "trained":
    from pipeline.model.backbones.catalogue import random_image_tower
    from pipeline.model.clipsym import build_model
    record = detector.record
    detector.model = build_model(random_image_tower(record.towers), None, record.decoder, "fp32").eval()
from PIL import Image
from skimage import data
photographs = [Image.fromarray(a) for a in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())]
images = [np.asarray(photograph.resize((w, h))) for photograph in photographs for h, w in {sizes}]
detector.detect(images[0])
times = [time.perf_counter() - start]
for image in images:
    start = time.perf_counter()
    detector.detect(image)
    times.append(time.perf_counter() - start)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(times[0], np.median(times[1::2]), np.median(times[2::2]), memory)
"""


def main() -> None:
    """Print a table in Markdown."""
    small, large = (f"{width} x {height}" for height, width in SIZES)
    print(f"| task | form | start-up | {small} | {large} | peak memory |\n|:--|:--|--:|--:|--:|--:|")
    for task in ("reflection", "rotation"):
        for form in ("shipped", "trained"):
            command = [sys.executable, "-c", CHILD.replace("{sizes}", repr(SIZES)), task, form]
            printed = subprocess.run(
                command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
            )
            start, first, second, memory = map(float, printed.stdout.split())
            print(f"| {task} | {form} | {start:.1f} s | {first:.2f} s | {second:.2f} s | {memory:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
