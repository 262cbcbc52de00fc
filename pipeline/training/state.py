"""All that a training changes, and so what a checkpoint holds: the model, its optimiser, how far it has come."""

from copy import deepcopy
from math import cos, pi
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.model.backbones.catalogue import pretrained
from pipeline.model.base import Model
from pipeline.model.clipsym import build_model
from pipeline.model.equisym.model import EquiSym, equisym_shape, learning_model
from pipeline.model.equisym.released import start_from as begin_equisym
from pipeline.model.header import SHIPPED
from pipeline.model.initial import start_from
from pipeline.model.prompts import chosen
from pipeline.params import EquiSymParams, Params
from pipeline.params.choices import Schedule
from pipeline.params.project import located

COOLDOWN = 0.6  # share of all steps in which the schedule of this name falls, the last ones


def new_model(params: Params) -> tuple[Model, list[str]]:
    """A model and the prompts drawn: with pretrained towers and a fresh decoder, with the weights that come with the
    package, or with those of `train.initial`.
    """
    torch.manual_seed(params.seed)
    if shape := equisym_shape(params.chosen, params.decoder.upsampler, params.task):
        return new_equisym(params, shape), []
    prompts = chosen(params.prompts, params.seed)
    backbone = pretrained(params.chosen)
    embeddings = backbone.embed(prompts)  # drawn before the image tower, where they are random
    model = build_model(backbone.image_tower(), embeddings, params.decoder, params.train.precision)
    if params.train.initial:
        start_from(model, located(params.train.initial), params.decoder)
    elif params.train.start == "shipped" and params.chosen.family == "lite":
        start_from(model, SHIPPED / f"lite_{params.task}.safetensors", params.decoder)
    model.image_tower.freeze(params.chosen.frozen)
    if params.train.image_tower == "frozen":
        model.image_tower.requires_grad_(False)
    if params.train.text_tower == "trained" and prompts:  # the ablation's grid may leave them out
        model.text_tower = backbone.text_tower(prompts)
    return model, prompts


def new_equisym(params: Params, shape: EquiSymParams) -> EquiSym:
    """An EquiSym with random weights, or those of `train.initial`."""
    model = learning_model(shape, params.train.precision)
    if params.train.initial:
        begin_equisym(model, located(params.train.initial), shape, params.task)
    if params.train.image_tower == "frozen":
        model.network.backbone.requires_grad_(False)
    return model


def build_optimiser(model: Model, params: Params) -> torch.optim.Adam:
    """Adam over all parameters that learn, in groups whose `top` is the learning rate before the schedule.

    The topmost block of the image tower learns at `tower_lr`, each block below at `layer_decay` times the rate above
    it, the text tower at `tower_lr`, the decoder, which is the last group, at `decoder_lr`.
    """
    rate, (layers, text, decoder) = params.chosen.tower_lr, model.parts()
    groups = [(layer, rate * params.train.layer_decay**above) for above, layer in enumerate(reversed(layers))]
    groups += [(text, rate), (decoder, params.chosen.decoder_lr)]
    learning = [([p for p in group if p.requires_grad], top) for group, top in groups]
    options = [{"params": group, "top": top, "lr": top} for group, top in learning if group]
    return torch.optim.Adam(options, fused=True)  # whose square roots every processor rounds alike


def schedule_factor(schedule: Schedule, epoch: int, epochs: int, decay: float, warmup: int, part: float = 0.0) -> float:
    """What the base learning rate is multiplied by in `epoch` (1-based) of `epochs`, `part` of which, in 0..1, is done.

    `decay` is the factor reached at the end (`exp`, `cooldown`), at each of the three steps (`step`) or at the bottom
    (`cos`); `warmup` epochs of linear rise count for `cos` only. `cooldown` alone changes within an epoch: constant,
    then linear (docs/differences.md).
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cooldown":
        left = 1 - (epoch - 1 + part) / epochs
        return min(1.0, decay + (1 - decay) * left / COOLDOWN)
    if schedule == "exp":
        return decay ** (epoch / epochs)
    if schedule == "step":
        return decay ** sum(milestone <= epoch for milestone in (epochs / 2, epochs * 3 / 4, epochs))
    if epoch <= warmup:
        return epoch / warmup
    return decay + (1 - decay) / 2 * (1 + cos(pi * (epoch - warmup) / (epochs - warmup)))


class TrainingState:
    """Weights, the optimiser's state and how far the training has come.

    `epoch` counts from 1; `step` steps of it are done, with `loss` the sum over their images. `history`: the figures
    of each epoch done. `best`: the epoch of the best validation F1, `best_f1`, 0 before the first validation.
    """

    def __init__(self, fabric: Fabric, params: Params, model: Model) -> None:
        if params.machine.compile and fabric.device.type == "cuda":  # slower on the CPU than the paths made for it
            model.compile()
        self.model = model.to(fabric.device)
        ema = get_ema_multi_avg_fn(params.train.ema)
        self.averaged = AveragedModel(model, multi_avg_fn=ema) if params.train.ema else None
        self._adam = build_optimiser(model, params)
        self.fabric, (self.network, self.optimiser) = fabric, fabric.setup(model, self._adam)
        self._precision = fabric.strategy.precision  # holds the scale of the loss for fp16
        self.epoch, self.step, self.loss = 1, 0, 0.0
        self.history: list[dict[str, float]] = []
        self.best, self.best_f1 = 0, -1.0

    def scale_lr(self, factor: float) -> None:
        """Set the learning rates to `factor` times their tops."""
        for group in self._adam.param_groups:
            group["lr"] = group["top"] * factor

    @property
    def lr(self) -> float:
        """The decoder's learning rate."""
        return self._adam.param_groups[-1]["lr"]

    def update(self) -> bool:
        """Let the optimiser step; False, and nothing is changed, where the gradient is not finite.

        In fp16 that is the scaler's matter: it leaves such steps out and lowers the scale.
        """
        if getattr(self._precision, "scaler", None) is None:
            gradients = [p.grad for group in self._adam.param_groups for p in group["params"] if p.grad is not None]
            if not torch.nn.utils.get_total_norm(gradients).isfinite():
                return False
        self.optimiser.step()
        # The fused step leaves tensors' versions as they were, by which SteerableConv tells that it must expand anew.
        torch.autograd.graph.increment_version([p for group in self._adam.param_groups for p in group["params"]])
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return True

    def evaluated_model(self) -> Model:
        """The model to be validated and kept, in evaluation mode: the averaged one, if there is one."""
        model: Any = self.model if self.averaged is None else self.averaged.module
        return model.eval()

    def end_epoch(self, figures: dict[str, float]) -> None:
        """Turn to the next epoch."""
        self.history.append(figures)
        self.epoch, self.step, self.loss = self.epoch + 1, 0, 0.0

    def state_dict(self) -> dict:
        """Tensors and plain values from which `load_state_dict` makes the same."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged and self.averaged.state_dict(),
            "optimiser": self._adam.state_dict(),
            "precision": self._precision.state_dict(),
            **{name: getattr(self, name) for name in ("epoch", "step", "loss", "history", "best", "best_f1")},
        }

    def load_state_dict(self, state: dict) -> None:
        """Become what `state` was taken of."""
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self._adam.load_state_dict(state["optimiser"])
        self._precision.load_state_dict(state["precision"])
        for name in ("epoch", "step", "loss", "history", "best", "best_f1"):
            setattr(self, name, deepcopy(state[name]))
