"""Stage `robustness`: the trained model on turned and mirrored test images of DENDI, under metrics/robustness.json."""

from pathlib import Path

from pipeline.data.packed.split import packed_splits
from pipeline.evaluation.robustness import robustness
from pipeline.model.base import best_device
from pipeline.model.checkpoint import load_model
from pipeline.params import load_params
from stages.command import run_stage, write_metrics


def main() -> None:
    """Write F1 and consistency by transformation."""
    params = load_params()
    model, record = load_model(Path("models/main/model.safetensors"))
    splits = packed_splits(Path("data/packed/model"), ("dendi",), "test", params.task)
    threshold = record.threshold("dendi")
    found = robustness(model.to(best_device()), splits, params.train.batch, threshold, params.seed)
    figures = {params.task: {name: sums.summary(threshold) for name, sums in found.items()}}
    write_metrics("robustness", figures)


if __name__ == "__main__":
    run_stage(main)
