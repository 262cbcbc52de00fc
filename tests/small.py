"""Parameters for tests of the whole graph: `python -m tests.small params.yaml` rewrites the file with them."""

import sys
from functools import reduce
from pathlib import Path

import yaml

from pipeline.params.changes import changed

CHANGES = [
    "reproducible=machine",  # on one thread, which is faster for models this small
    "backbone=tiny",
    "embedded.images=8",
    "prompts.count=2",
    "decoder.width=8",
    "decoder.layers=2",
    "train.epochs=1",
    "train.schedule=cos",  # at a constant rate the plain model and the equivariant one came to the same max F1
    "train.warmup=0",
    "train.ema=0.0",
    "evaluate.gallery=2",
    "ablation.backbone=[tiny]",
    "ablation.prompts=[none]",
    "ablation.upsampler=[plain]",
    "ablation.input_size=64",
    "ablation.epochs=1",
    "presets.seeds=[0]",
    "backbones.tiny.input_size=64",
]


def shrink(path: Path) -> None:
    """Write the changes into a params.yaml."""
    params = reduce(changed, CHANGES, yaml.safe_load(path.read_text()))
    path.write_text(yaml.safe_dump(params, sort_keys=False))


if __name__ == "__main__":
    shrink(Path(sys.argv[1]))
