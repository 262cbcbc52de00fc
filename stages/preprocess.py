"""Stage `preprocess`: one data set's splits as packed arrays, under data/packed/PURPOSE/NAME."""

from pathlib import Path

from pipeline.datasets.catalogue import SPLITS, read
from pipeline.packing import pack
from pipeline.params import load_params
from stages.command import run_stage


def preprocess(dataset: str, purpose: str) -> None:
    """Pack for `purpose`: `model`, at the chosen backbone's input size, or `ablation`, at the size of the grid."""
    params = load_params()
    size = params.ablation.input_size if purpose == "ablation" else params.chosen.input_size
    for split in SPLITS[dataset]:
        root = Path("data/raw") / dataset
        samples = read(dataset, root, params.task, split, params.evaluate.sdrw_validation, params.seed)
        pack(samples, params.task, size, Path("data/packed") / purpose / dataset / split, f"{dataset} {split}")


if __name__ == "__main__":
    run_stage(preprocess)
