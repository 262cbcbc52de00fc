"""The training loop (METHOD section 6), to be read from top to bottom."""

from pathlib import Path

import numpy as np
import torch
from dvclive import Live
from tqdm import tqdm

from pipeline.backbones.catalogue import embed_prompts
from pipeline.checkpoints import build_model, save_model
from pipeline.clipsym import CLIPSym, best_device
from pipeline.errors import DataError
from pipeline.loading import TrainingSet, training_batches
from pipeline.loss import alpha_focal
from pipeline.names import TEST_SETS
from pipeline.packing import PackedSplit
from pipeline.params import Params
from pipeline.prediction import score
from pipeline.prompts import draw, read_vocabulary
from pipeline.records import ModelRecord
from pipeline.schedules import factor
from pipeline.scoring.f1 import THRESHOLDS, F1Counts


def train(params: Params, training: list[PackedSplit], validation: list[PackedSplit], folder: Path) -> ModelRecord:
    """Train; leave in `folder` the weights of the best validation F1 (`model.safetensors`) and the curves (`live/`).

    Runs on a GPU when there is one. Raises DataError when there is nothing to train on or to validate with.
    """
    dataset = TrainingSet(training, params.seed)
    if not len(dataset):
        raise DataError(f"no training images for task {params.task} in {', '.join(params.train.datasets)}")
    if not any(len(split) for split in validation):
        raise DataError(f"no validation images for task {params.task} in {', '.join(params.train.datasets)}")
    torch.manual_seed(params.seed)
    device = best_device()
    model, prompts = new_model(params)
    model.to(device)
    if params.train.compile and device.type == "cuda":  # on the CPU it was slower than the paths made for it
        model.compile()
    optimiser = torch.optim.Adam(
        [
            {"params": [p for p in model.image_tower.parameters() if p.requires_grad], "top": params.chosen.tower_lr},
            {"params": list(model.decoder.parameters()), "top": params.chosen.decoder_lr},
        ]
    )
    recipe, best = params.train, None
    with Live(str(folder / "live"), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        for epoch in range(1, recipe.epochs + 1):
            scale = factor(recipe.schedule, epoch, recipe.epochs, recipe.decay, recipe.warmup)
            for group in optimiser.param_groups:
                group["lr"] = group["top"] * scale
            batches = training_batches(dataset, epoch, recipe.batch, recipe.workers)
            live.log_metric("loss", _train_epoch(model, optimiser, batches, params, f"epoch {epoch}/{recipe.epochs}"))
            live.log_metric("lr_scale", scale)
            if epoch % recipe.validate_every == 0 or epoch == recipe.epochs:
                f1, thresholds = _validate(model.eval(), validation, recipe.batch)
                live.log_metric("validation_f1", f1)
                if best is None or f1 > best.validation_f1:
                    best = ModelRecord(params, prompts, epoch, f1, thresholds)
                    save_model(folder / "model.safetensors", model, best)
            live.next_step()
    return best


def new_model(params: Params) -> tuple[CLIPSym, list[str]]:
    """A model with a pretrained image tower and a fresh decoder, and the prompts drawn for it."""
    vocabulary = read_vocabulary(params.prompts.vocabulary)
    prompts = draw(params.prompts.kind, params.prompts.count, params.prompts.words, vocabulary, params.seed)
    return build_model(params, prompts, embed_prompts(params.chosen, prompts), pretrained=True), prompts


def _validate(model: CLIPSym, validation: list[PackedSplit], batch: int) -> tuple[float, dict[str, float]]:
    """The mean over the data sets of their max F1, and each test set's best threshold on its validation images.

    Each data set counts alike: summed pixels would follow the set with the largest filled discs. A test set without
    validation images of its own takes the threshold that is best on all of them.
    """
    counts = {split.dataset: score(model, [split], batch, f"validation {split.dataset}") for split in validation}
    marked = {dataset: found for dataset, found in counts.items() if found.best is not None}
    if not marked:
        raise DataError("the validation images hold no marks, so that no epoch can be called best")
    thresholds = {}
    for test_set, datasets in TEST_SETS.items():
        own = [marked[dataset] for dataset in datasets if dataset in marked] or marked.values()
        thresholds[test_set] = float(THRESHOLDS[sum(own, F1Counts.zero()).best])
    return float(np.mean([found.f1.max() for found in marked.values()])), thresholds


def _train_epoch(
    model: CLIPSym, optimiser: torch.optim.Optimizer, batches: torch.utils.data.DataLoader, params: Params, title: str
) -> float:
    """One pass over the batches; the mean loss."""
    model.train()
    device, total = model.device, 0.0
    with tqdm(batches, desc=title, unit="batch") as bar:
        for number, (images, targets) in enumerate(bar, start=1):
            images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            loss = alpha_focal(model(images), targets, params.train.alpha, params.train.gamma).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
            bar.set_postfix(loss=f"{total / number:.5f}")
    return total / number
