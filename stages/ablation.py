"""Stage `ablation`: one cell of the grid, trained and tested on DENDI, under models/ablation/CELL."""

import json
from pathlib import Path

from pipeline.checkpoints import load_model
from pipeline.clipsym import best_device
from pipeline.engine import evaluation_share, gathered
from pipeline.packing import packed_splits
from pipeline.params import load_params
from pipeline.prediction import score
from pipeline.scoring.f1 import F1Counts
from pipeline.training import train
from stages.command import run_stage


def main(backbone: str, prompts: str, upsampler: str) -> None:
    """Train the cell and write its scores; F1 in 0..1."""
    params = load_params().cell(backbone, prompts, upsampler)
    folder, packed = Path("models/ablation") / f"{backbone}-{prompts}-{upsampler}", Path("data/packed/ablation")
    training, validation, test = (
        packed_splits(packed, params.train.datasets, split, params.task) for split in ("train", "val", "test")
    )
    best = train(params, training, validation, folder)
    model, _ = load_model(folder / "model.safetensors")
    share = evaluation_share()
    counts = sum(gathered(score(model.to(best_device()), test, params.train.batch, "test", share)), F1Counts.zero())
    if share.rank:
        return
    scores = {
        "backbone": backbone, "prompts": prompts, "upsampler": upsampler, "task": params.task,
        "max_f1": float(counts.f1.max()), "validation_f1": best.validation_f1, "epoch": best.epoch,
    }  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
