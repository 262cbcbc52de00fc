"""Stage `choose`: a digest of each packed split that the training takes, in data/training.json.

`train` depends on this file instead of on all packed splits, so that it does not run again for the sake of others.
"""

import json
from pathlib import Path

from pipeline.params import load_params
from pipeline.runtime.files import digest, write_text
from stages.command import run_stage


def main() -> None:
    """Write {data set: {split: sha256}} for the training and validation splits of `train.datasets`."""
    packed = Path("data/packed/model")
    found = {
        name: {split: digest(path) for split in ("train", "val") for path in (packed / name).glob(f"{split}.*")}
        for name in load_params().train.datasets
    }
    write_text(Path("data/training.json"), json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
