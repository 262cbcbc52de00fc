"""Parameters for tests of the whole graph: `python -m tests.small params.yaml` rewrites the file with them."""

import sys
from pathlib import Path

import yaml

OVERRIDES = {
    "backbone": "tiny",
    "embedded.images": 8,
    "prompts.count": 2,
    "decoder.width": 8,
    "decoder.group": "C4",
    "train.epochs": 1,
    "train.warmup": 0,
    "evaluate.gallery": 2,
    "ablation.backbone": ["tiny"],
    "ablation.prompts": ["none"],
    "ablation.upsampler": ["plain"],
    "ablation.input_size": 64,
    "ablation.epochs": 1,
    "backbones.tiny.input_size": 64,
}


def shrink(path: Path) -> None:
    """Write the overrides into a params.yaml."""
    params = yaml.safe_load(path.read_text())
    for key, value in OVERRIDES.items():
        *sections, last = key.split(".")
        section = params
        for name in sections:
            section = section[name]
        section[last] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


if __name__ == "__main__":
    shrink(Path(sys.argv[1]))
