"""The training (docs/method.md, Training), to be read from top to bottom."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from pipeline.data.packed.split import PackedSplit, TargetSplit
from pipeline.errors import DataError
from pipeline.model.backbones.catalogue import build_text_tower, embed_prompts
from pipeline.model.checkpoint import build_model, load_model, load_weights
from pipeline.model.clipsym import CLIPSym
from pipeline.model.prompts import chosen
from pipeline.model.record import ModelRecord, load_record
from pipeline.monitoring.journal import open_journal
from pipeline.params import Params
from pipeline.params.project import located, project
from pipeline.processes import gathered, share_of, start
from pipeline.runtime.files import alone
from pipeline.runtime.interruption import stop_wish
from pipeline.scoring.f1 import THRESHOLDS, F1Counts
from pipeline.scoring.prediction import score
from pipeline.scoring.sets import TEST_SETS
from pipeline.training.loader import TrainingSet, epoch_batches
from pipeline.training.resume import Checkpoint, fingerprint
from pipeline.training.state import Run
from pipeline.training.trainer import Trainer


def train(
    params: Params,
    training: list[PackedSplit],
    validation: list[PackedSplit],
    folder: Path,
    threshold: Callable[[CLIPSym, list[PackedSplit]], float | None] | None = None,
) -> ModelRecord:
    """Train; leave in `folder` the weights of the best validation F1 (`model.safetensors`) and the curves (`live/`).

    `threshold`: finds the detection threshold of the best model on the validation images, once, in the first process;
    short runs, whose models only score pixels, do without.
    A run that was killed goes on where its last checkpoint was written. Raises DataError when there is nothing to
    train on or to validate with, CheckpointError when there is no room, TrainingError when the loss is no number,
    Interrupted after SIGINT or SIGTERM.
    """
    for name, splits in (("training", training), ("validation", validation)):
        if not any(len(split) for split in splits):
            raise DataError(f"no {name} images for task {params.task} in {', '.join(params.train.datasets)}")
    key = fingerprint(params, [*training, *validation])
    if params.train.overfit:
        training = first_batches(training, params)
        validation = [TargetSplit(split.path, split.task, split.chosen) for split in training]
    recipe = params.train
    dataset = TrainingSet(training, params.seed, None if recipe.overfit else recipe.augmentation)
    fabric, checkpoint, journal = start(params.train.precision), Checkpoint(key), None
    with ExitStack() as stack:
        if fabric.is_global_zero:
            stack.enter_context(alone(folder, "trains", wait=fabric.world_size == 1))
            stack.enter_context(checkpoint.locked(wait=fabric.world_size == 1))
        wish = stack.enter_context(stop_wish())
        model, prompts = new_model(params)
        run = Run(fabric, params, model)
        if (state := fabric.broadcast(checkpoint.load() if fabric.is_global_zero else None)) is not None:
            run.restore(state)
            fabric.print(f"going on in epoch {run.epoch} after step {run.step}, from {checkpoint.folder}")
        if fabric.is_global_zero:
            logs = project() / "logs" / f"{folder.name}-{key}"
            journal = stack.enter_context(open_journal(folder / "live", logs, run.history))
        trainer = Trainer(run, fabric, params, dataset, checkpoint, wish)
        while run.epoch <= params.train.epochs:
            figures = trainer.train_epoch()
            if run.epoch % params.train.validate_every == 0 or run.epoch == params.train.epochs:
                kept = run.evaluated()
                f1, thresholds = _validate(kept, validation, params.train.batch, fabric)
                figures["validation_f1"] = f1
                if f1 > run.best_f1:
                    run.best, run.best_f1 = run.epoch, f1
                    if fabric.is_global_zero:
                        checkpoint.save_best(kept, ModelRecord(params, prompts, run.epoch, f1, thresholds))
                if journal:
                    journal.pictures(run.epoch, kept, validation, params.train.batch)
            if journal:
                journal.epoch(run.epoch, figures)
            run.end_epoch(figures)
        trainer.report()
        if fabric.is_global_zero:
            if threshold is not None:
                model, record = load_model(checkpoint.best(run.best))
                found = threshold(model.to(fabric.device), validation)
                checkpoint.save_best(model, replace(record, detection_threshold=found))
            checkpoint.deliver(run.best, folder / "model.safetensors")
        fabric.barrier()
    record = load_record(folder / "model.safetensors")
    fabric.print(f"best epoch {record.epoch}: validation F1 {record.validation_f1:.3f}")
    return record


def new_model(params: Params) -> tuple[CLIPSym, list[str]]:
    """A model with pretrained towers and a fresh decoder, or with `train.initial`'s weights, and the prompts drawn."""
    torch.manual_seed(params.seed)
    prompts = chosen(params.prompts, params.seed)
    model = build_model(params, prompts, embed_prompts(params.chosen, prompts), pretrained=True)
    if params.train.initial:
        load_weights(model, located(params.train.initial))
    if params.train.image_tower == "frozen":
        model.image_tower.requires_grad_(False)
    if params.train.text_tower == "trained" and prompts:  # the ablation's grid may leave them out
        model.text_tower = build_text_tower(params.chosen, prompts)
    return model, prompts


def first_batches(training: list[PackedSplit], params: Params) -> list[PackedSplit]:
    """The samples of the first `train.overfit` batches of the first epoch."""
    recipe, dataset = params.train, TrainingSet(training, params.seed)
    batches = epoch_batches(len(dataset), params.seed, 1, recipe.batch)[: recipe.overfit]
    places = sorted((training.index(split), number) for batch in batches for split, number in map(dataset.place, batch))
    chosen = {place: tuple(number for split, number in places if split == place) for place, _ in places}
    return [training[place].excerpt(numbers) for place, numbers in chosen.items()]


def _validate(
    model: CLIPSym, validation: list[PackedSplit], batch: int, fabric: Fabric
) -> tuple[float, dict[str, float]]:
    """The mean over the data sets of their max F1, and each test set's best threshold on its validation images.

    Each data set counts alike: summed pixels would follow the set with the largest filled discs. A test set without
    validation images of its own takes the threshold that is best on all of them.
    """
    share = share_of(fabric)
    counts = {
        split.dataset: sum(
            gathered(score(model, [split], batch, f"validation {split.dataset}", share)), F1Counts.zero()
        )
        for split in validation
    }
    marked = {dataset: found for dataset, found in counts.items() if found.best is not None}
    if not marked:
        raise DataError("the validation images hold no marks, so that no epoch can be called best")
    thresholds = {}
    for test_set, datasets in TEST_SETS.items():
        own = [marked[dataset] for dataset in datasets if dataset in marked] or marked.values()
        thresholds[test_set] = float(THRESHOLDS[sum(own, F1Counts.zero()).best])
    return float(np.mean([found.f1.max() for found in marked.values()])), thresholds
