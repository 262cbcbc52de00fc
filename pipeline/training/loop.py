"""The training (docs/method.md, Training), to be read from top to bottom."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.packed.split import PackedSplit, TargetSplit
from pipeline.errors import DataError, Interrupted, TrainingError
from pipeline.model.base import Model
from pipeline.model.checkpoint import ModelRecord, load_model, load_record
from pipeline.model.equisym.model import equisym_shape
from pipeline.monitoring.monitor import Progress, open_monitor
from pipeline.params import Params
from pipeline.params.project import project
from pipeline.processes import Shard, gathered, start
from pipeline.runtime.files import locked
from pipeline.runtime.process import StopRequest, stop_request
from pipeline.scoring.f1 import THRESHOLDS, F1Counts, lowest_alike
from pipeline.scoring.heat_maps import score
from pipeline.scoring.sets import TEST_SETS
from pipeline.training.loader import TrainingSet, epoch_batches, first_batches, training_batches
from pipeline.training.orientation import BACKGROUND, with_orientation
from pipeline.training.resume import Checkpoint, fingerprint
from pipeline.training.state import TrainingState, new_model, schedule_factor

logger = logging.getLogger(__name__)
OVERFIT_STEPS = 100  # an epoch, where only a few batches are to be fitted


def train(
    params: Params,
    training: list[PackedSplit],
    validation: list[PackedSplit],
    folder: Path,
    threshold: Callable[[Model, list[PackedSplit]], float | None] | None = None,
) -> ModelRecord:
    """Train; leave in `folder` the weights of the best validation F1 (`model.safetensors`) and the curves (`live/`).

    `threshold`: finds the detection threshold of the best model on the validation images, once, in the first process;
    the ablation's cells, whose models only score pixels, do without.
    A training that was killed goes on where its last checkpoint was written. Raises DataError when there is nothing to
    train on or to validate with, CheckpointError when there is no room, TrainingError when the loss is no number,
    Interrupted, after a checkpoint, when SIGINT or SIGTERM came to any process.
    """
    for name, splits in (("training", training), ("validation", validation)):
        if not any(len(split) for split in splits):
            raise DataError(f"no {name} images for task {params.task} in {', '.join(params.train.datasets)}")
    recipe, key = params.train, fingerprint(params, [*training, *validation])
    if recipe.overfit:
        training = first_batches(training, params)
        validation = [TargetSplit(split.path, split.task, split.chosen) for split in training]
    shape = equisym_shape(params.chosen, params.decoder.upsampler, params.task)
    oriented = shape is not None and shape.orientations > 0
    dataset = TrainingSet(training, params.seed, None if recipe.overfit else recipe.augmentation, oriented)
    rounds = ceil(OVERFIT_STEPS / recipe.overfit) if recipe.overfit else 1
    alpha = balanced_alpha(dataset) if recipe.alpha == "balanced" else recipe.alpha
    loss_of = partial(alpha_focal, alpha=alpha, gamma=recipe.gamma)
    if oriented:
        loss_of = partial(with_orientation, loss_of=loss_of, background=BACKGROUND[params.task])

    fabric, checkpoint = start(recipe.precision), Checkpoint(key)
    if fabric.device.type == "cpu" and recipe.precision != "fp32" and params.reproducible == "anywhere":
        logger.warning(
            "train.precision: %s takes many times as long as fp32, as reproducible: anywhere forbids the instructions "
            "for it; set reproducible: machine",
            recipe.precision,
        )
    first, shard = fabric.is_global_zero, Shard(fabric.global_rank, fabric.world_size, recipe.accumulate)
    with ExitStack() as stack:
        if first:
            stack.enter_context(locked(folder, "trains", wait=fabric.world_size == 1))
            stack.enter_context(checkpoint.locked(wait=fabric.world_size == 1))
        stop = stack.enter_context(stop_request())
        model, prompts = new_model(params)
        state = TrainingState(fabric, params, model)
        if (saved := fabric.broadcast(checkpoint.load() if first else None)) is not None:
            state.load_state_dict(saved)
            if first:
                logger.info("going on in epoch %d after step %d, from %s", state.epoch, state.step, checkpoint.folder)
        logs = project() / "logs" / f"{folder.name}-{key}"
        monitor = stack.enter_context(open_monitor(folder / "live", logs, state.history)) if first else None
        progress = Progress(recipe.epochs, shown=first)

        while state.epoch <= recipe.epochs:
            lr_scale = partial(
                schedule_factor, recipe.schedule, state.epoch, recipe.epochs, recipe.decay, recipe.warmup
            )
            state.model.train()
            batches = epoch_batches(len(dataset), params.seed, state.epoch, recipe.batch, rounds)
            images, left = sum(map(len, batches)), batches[state.step :]
            loader = training_batches(dataset, state.epoch, left, shard, params.machine.workers)
            with progress.epoch(state.epoch, images, images - sum(map(len, left)), loader) as parts:
                for batch in left:
                    state.scale_lr(lr_scale(part=state.step / len(batches)))
                    loss, signals, last = backward(state, batch, shard, parts, loss_of, stop)
                    if not isfinite(loss) or not state.update():
                        raise diverged(loss, state, [dataset.name(index) for index in batch], last, checkpoint, params)
                    state.loss += loss * len(batch)
                    state.step += 1
                    progress.step(len(batch), state.loss, state.lr)
                    if first and (signals or checkpoint.due):
                        checkpoint.save(state.state_dict())
                    if signals:  # and not stop.signal: one that has come since stops this process, but not the others
                        number = stop.signal or signal.SIGTERM
                        raise Interrupted(
                            f"{signal.Signals(number).name}: stopped in epoch {state.epoch} after step {state.step} of "
                            f"{len(batches)}; all is saved, and the same command goes on from there",
                            number if first else 0,
                        )
            figures = {"loss": state.loss / images, "lr_scale": lr_scale()}

            if state.epoch % recipe.validate_every == 0 or state.epoch == recipe.epochs:
                model = state.evaluated_model()
                f1, thresholds = validate(model, validation, recipe.batch, replace(shard, parts=1))
                figures["validation_f1"] = f1
                if f1 > state.best_f1:
                    state.best, state.best_f1 = state.epoch, f1
                    if first:
                        checkpoint.save_best(model, ModelRecord.of(params, prompts, state.epoch, f1, thresholds))
                if monitor:
                    monitor.draw(state.epoch, model, validation, recipe.batch)
            if monitor:
                monitor.add(state.epoch, figures)
            state.end_epoch(figures)

        if first:
            if summary := progress.summary(fabric.device):
                logger.info(summary)
            if threshold is not None:
                best, record = load_model(checkpoint.best(state.best))
                found = threshold(best.to(fabric.device), validation)
                checkpoint.save_best(best, replace(record, detection_threshold=found))
            checkpoint.deliver(state.best, folder / "model.safetensors")
        fabric.barrier()
    record = load_record(folder / "model.safetensors")
    if first:
        logger.info("best epoch %d: validation F1 %.3f", record.epoch, record.validation_f1)
    return record


def alpha_focal(logits: torch.Tensor, target: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """The alpha-focal loss (docs/method.md, Loss) per pixel, of the shape of `logits`.

    `target` is soft, in 0..1, of the same shape.
    alpha_t * (1 - p_t)^gamma * BCE with p_t = p y + (1 - p)(1 - y) and alpha_t = alpha y + (1 - alpha)(1 - y).
    alpha < 0 leaves the alpha weight out.
    """
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    loss = (1 - right) ** gamma * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss if alpha < 0 else loss * (alpha * target + (1 - alpha) * (1 - target))


def balanced_alpha(dataset: TrainingSet) -> float:
    """The alpha at which axes and background weigh alike in the training targets: the background's share."""
    targets = (split.target(number) for split in dataset.splits for number in range(len(split)))
    return 1 - sum(float(target.mean()) for target in targets) / len(dataset)


def backward(
    state: TrainingState,
    batch: Sequence[int],
    shard: Shard,
    parts: Iterator[tuple[torch.Tensor, torch.Tensor]],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    stop: StopRequest,
) -> tuple[float, bool, tuple[torch.Tensor, torch.Tensor]]:
    """The gradient of a batch: its mean loss, whether a signal came to any process, the last images and targets."""
    fabric, dealt = state.fabric, shard.deal(batch)
    state.optimiser.zero_grad()
    total = torch.zeros(2, dtype=torch.float64, device=fabric.device)  # the loss; how many processes had a signal
    for number, part in enumerate(dealt, start=1):
        images, targets = (maps.to(fabric.device, non_blocking=True) for maps in next(parts))
        with fabric.no_backward_sync(state.network, enabled=shard.world_size > 1 and number < len(dealt)):
            losses = loss_of(state.network(images), targets).mean(dim=(1, 2, 3))
            loss = losses.sum() / len(batch) if part else 0 * losses.sum()
            fabric.backward(loss * shard.world_size)  # gradients are averaged over the processes
        total[0] += loss.detach()
    total[1] = stop.signal > 0
    summed: Any = fabric.all_reduce(total, reduce_op="sum") if shard.world_size > 1 else total
    mean, signals = summed.tolist()
    return mean, signals > 0, (images, targets)


def diverged(
    loss: float,
    state: TrainingState,
    samples: list[str],
    last: tuple[torch.Tensor, torch.Tensor],
    checkpoint: Checkpoint,
    params: Params,
) -> TrainingError:
    """The error of a loss or gradient that is not finite, once all that is needed to repeat the step is kept."""
    place = {"epoch": state.epoch, "step": state.step + 1, "samples": samples, "loss": loss}
    arrays = {"model": state.model.state_dict(), "images": last[0], "targets": last[1]}
    kept = ""
    if state.fabric.is_global_zero:
        kept = checkpoint.save_diverged({**place, **arrays, "params": params.model_dump_json()})
    state.fabric.barrier()  # the end of one process is that of all
    return TrainingError(
        f"the loss ({loss}) or its gradient is not finite in epoch {state.epoch}, step {state.step + 1}; the batch: "
        f"{', '.join(samples)}. {kept}. A lower learning rate or train.precision: fp32 often helps"
    )


def validate(model: Model, validation: list[PackedSplit], batch: int, shard: Shard) -> tuple[float, dict[str, float]]:
    """The mean over the data sets of their max F1, and each test set's best threshold on its validation images.

    Each data set counts alike: summed pixels would follow the set with the largest filled discs. A test set without
    validation images of its own takes the lowest threshold that is about as good as the best one on all of them: a
    model is less sure of images of a kind that it was not trained on.
    """
    each = {
        split.dataset: sum(gathered(score(model, [split], batch, f"validation {split.dataset}", shard)), [])
        for split in validation
    }
    counts = {dataset: sum(found, F1Counts.zero()) for dataset, found in each.items()}
    marked = {dataset: found for dataset, found in counts.items() if found.best is not None}
    if not marked:
        raise DataError("the validation images hold no marks, so that no epoch can be called best")
    elsewhere, thresholds = lowest_alike([one for dataset in marked for one in each[dataset]]), {}
    for test_set, datasets in TEST_SETS.items():
        own = sum((marked[dataset] for dataset in datasets if dataset in marked), F1Counts.zero())
        thresholds[test_set] = float(THRESHOLDS[elsewhere if own.best is None else own.best])
    return float(np.mean([found.f1.max() for found in marked.values()])), thresholds
