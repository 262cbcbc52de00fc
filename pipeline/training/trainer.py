"""The steps of an epoch, with what can go wrong in them."""

import signal
import time
from collections.abc import Iterator, Sequence
from math import ceil

import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from pipeline.errors import Interrupted, TrainingError
from pipeline.params import Params
from pipeline.processes import share_of
from pipeline.runtime.interruption import Wish
from pipeline.runtime.resources import Stopwatch, peak_memory
from pipeline.training.loader import TrainingSet, epoch_batches, training_batches
from pipeline.training.loss import alpha_focal
from pipeline.training.resume import Checkpoint
from pipeline.training.schedules import factor
from pipeline.training.state import Run

SAVE_EVERY = 60.0  # seconds between two checkpoints
OVERFIT_STEPS = 100  # an epoch, where only a few batches are to be fitted


class Trainer:
    """Takes a run through its epochs."""

    def __init__(
        self, run: Run, fabric: Fabric, params: Params, dataset: TrainingSet, checkpoint: Checkpoint, wish: Wish
    ) -> None:
        self.run, self.fabric, self.params, self.dataset = run, fabric, params, dataset
        self.checkpoint, self.wish, self.saved = checkpoint, wish, time.monotonic()
        self.share = share_of(fabric, params.train.accumulate)
        self.alpha = balanced_alpha(dataset) if params.train.alpha == "balanced" else params.train.alpha
        self.images, self.working, self.waiting = 0, Stopwatch(), Stopwatch()

    def train_epoch(self) -> dict[str, float]:
        """The rest of the run's epoch; its mean loss and the schedule's factor.

        Raises Interrupted, after a checkpoint, when a signal came to any process; TrainingError.
        """
        run, recipe = self.run, self.params.train
        scale = factor(recipe.schedule, run.epoch, recipe.epochs, recipe.decay, recipe.warmup)
        run.set_schedule(scale)
        run.model.train()
        batches = self._batches()
        images, done = sum(map(len, batches)), sum(map(len, batches[: run.step]))
        parts = iter(training_batches(self.dataset, run.epoch, batches[run.step :], self.share, self.params.machine.workers))
        with self._bar(images, done) as bar, self.working:
            for batch in batches[run.step :]:
                loss, stopped = self._step(batch, parts)
                run.loss += loss * len(batch)
                run.step += 1
                self.images, done = self.images + len(batch), done + len(batch)
                bar.set_postfix_str(
                    f"loss={run.loss / done:.5f} lr={run.rate:.1e} all done in {self._left(images, done)}",
                    refresh=False,
                )
                bar.update(len(batch))
                if stopped or time.monotonic() - self.saved >= SAVE_EVERY:
                    self.save()
                if stopped:
                    raise Interrupted(
                        f"{signal.Signals(stopped).name}: stopped in epoch {run.epoch} after step {run.step} of "
                        f"{len(batches)}; all is saved, and the same command goes on from there",
                        stopped if self.fabric.is_global_zero else 0,
                    )
        return {"loss": run.loss / images, "lr_scale": scale}

    def save(self) -> None:
        """Write a checkpoint."""
        if self.fabric.is_global_zero:
            self.checkpoint.save(self.run.state())
        self.saved = time.monotonic()

    def report(self) -> None:
        """Print what the training took."""
        if self.images:
            self.fabric.print(
                f"{self.images / self.working.seconds:.1f} images/s; {self.waiting.seconds / self.working.seconds:.0%} "
                f"of the time went into waiting for data; peak memory of a process: "
                f"{peak_memory(self.fabric.device) / 1e9:.2f} GB"
            )

    def _batches(self) -> list[list[int]]:
        """The epoch's batches; those to be overfitted come again and again."""
        recipe, length, epoch = self.params.train, len(self.dataset), self.run.epoch
        rounds = ceil(OVERFIT_STEPS / recipe.overfit) if recipe.overfit else 1
        orders = range(rounds * (epoch - 1) + 1, rounds * epoch + 1)
        return [b for order in orders for b in epoch_batches(length, self.params.seed, order, recipe.batch)]

    def _step(self, batch: Sequence[int], parts: Iterator) -> tuple[float, int]:
        """One step of the optimiser: the batch's mean loss before it, and the number of a signal that came, or 0."""
        run, fabric = self.run, self.fabric
        run.optimiser.zero_grad()
        dealt, several = self.share.deal(batch), fabric.world_size > 1
        total = torch.zeros(2, dtype=torch.float64, device=fabric.device)  # the loss; how many processes had a signal
        for number, part in enumerate(dealt, start=1):
            with self.waiting:
                images, targets = next(parts)
            images, targets = images.to(fabric.device, non_blocking=True), targets.to(fabric.device, non_blocking=True)
            with fabric.no_backward_sync(run.network, enabled=several and number < len(dealt)):
                losses = alpha_focal(run.network(images), targets, self.alpha, self.params.train.gamma)
                losses = losses.mean(dim=(1, 2, 3))
                loss = losses.sum() / len(batch) if part else 0 * losses.sum()
                fabric.backward(loss * fabric.world_size)  # gradients are averaged over the processes
            total[0] += loss.detach()
        total[1] = self.wish.signal > 0
        loss, signals = (fabric.all_reduce(total, reduce_op="sum") if several else total).tolist()
        if loss - loss != 0 or not run.update():
            raise self._diverged(loss, batch, images, targets)
        # by the sum alone: a signal that has come since would stop this process, but not the others
        return loss, (self.wish.signal or signal.SIGTERM) if signals else 0

    def _diverged(
        self, loss: float, batch: Sequence[int], images: torch.Tensor, targets: torch.Tensor
    ) -> TrainingError:
        run, path = self.run, self.checkpoint.folder / "diverged.pt"
        samples = [f"{split.dataset}/{split.name(number)}" for split, number in map(self.dataset.place, batch)]
        kept = f"The model before this step and the last images are in {path}, for torch.load"
        if self.fabric.is_global_zero:
            place = {"epoch": run.epoch, "step": run.step + 1, "samples": samples, "loss": loss}
            arrays = {"model": run.model.state_dict(), "images": images, "targets": targets}
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save({**place, **arrays, "params": self.params.model_dump_json()}, path)
            except (OSError, RuntimeError) as error:  # RuntimeError: of PyTorch's writer
                kept = f"The model before this step cannot be kept in {path} ({error})"
        self.fabric.barrier()  # the end of one process is that of all
        return TrainingError(
            f"the loss ({loss}) or its gradient is not finite in epoch {run.epoch}, step {run.step + 1}; the batch: "
            f"{', '.join(samples)}. {kept}. A lower learning rate or train.precision: fp32 often helps"
        )

    def _bar(self, images: int, done: int) -> tqdm:
        quiet = {} if self.fabric.is_global_zero else {"disable": True}  # else TQDM_DISABLE decides
        title = f"epoch {self.run.epoch}/{self.params.train.epochs}"
        return tqdm(total=images, initial=done, desc=title, unit="image", **quiet)

    def _left(self, images: int, done: int) -> str:
        """How long the training will go on, validation left out."""
        elapsed = self.working.seconds + time.perf_counter() - self.working.start
        remaining = images * (self.params.train.epochs - self.run.epoch + 1) - done
        return tqdm.format_interval(elapsed / self.images * remaining)


def balanced_alpha(dataset: TrainingSet) -> float:
    """The alpha at which axes and background weigh alike in the training targets: the background's share."""
    targets = (split.target(number) for split in dataset.splits for number in range(len(split)))
    return 1 - sum(float(target.mean()) for target in targets) / len(dataset)
