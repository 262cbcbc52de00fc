"""What a training minimises, which parameters learn, and how fast (docs/method.md, Loss and Schedules)."""

from math import cos, pi

import torch
import torch.nn.functional as F

from pipeline.model.clipsym import CLIPSym
from pipeline.params import Params
from pipeline.params.choices import Schedule
from pipeline.training.loader import TrainingSet


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


def build_optimiser(model: CLIPSym, params: Params) -> torch.optim.Adam:
    """Adam over all parameters that learn, in groups whose `top` is the learning rate before the schedule.

    The topmost block of the image tower learns at `tower_lr`, each block below at `layer_decay` times the rate above
    it, the text tower at `tower_lr`, the decoder, which is the last group, at `decoder_lr`.
    """
    rate, layers = params.chosen.tower_lr, model.image_tower.layers()
    groups = [(layer, rate * params.train.layer_decay**above) for above, layer in enumerate(reversed(layers))]
    if model.text_tower is not None:
        groups.append((list(model.text_tower.parameters()), rate))
    groups.append((list(model.decoder.parameters()), params.chosen.decoder_lr))
    learning = [([p for p in group if p.requires_grad], top) for group, top in groups]
    return torch.optim.Adam([{"params": group, "top": top, "lr": top} for group, top in learning if group])


def schedule_factor(schedule: Schedule, epoch: int, epochs: int, decay: float, warmup: int) -> float:
    """What the base learning rate is multiplied by in `epoch` (1-based) of `epochs`.

    `decay` is the factor reached at the end (`exp`), at each of the three steps (`step`) or at the bottom (`cos`);
    `warmup` epochs of linear rise count for `cos` only.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "exp":
        return decay ** (epoch / epochs)
    if schedule == "step":
        return decay ** sum(milestone <= epoch for milestone in (epochs / 2, epochs * 3 / 4, epochs))
    if epoch <= warmup:
        return epoch / warmup
    return decay + (1 - decay) / 2 * (1 + cos(pi * (epoch - warmup) / (epochs - warmup)))
