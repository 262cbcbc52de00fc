"""The alpha-focal loss (docs/method.md, Loss)."""

import torch
import torch.nn.functional as F


def alpha_focal(logits: torch.Tensor, target: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """Loss per pixel, of the shape of `logits`; `target` is soft, in 0..1, of the same shape.

    alpha_t * (1 - p_t)^gamma * BCE with p_t = p y + (1 - p)(1 - y) and alpha_t = alpha y + (1 - alpha)(1 - y).
    alpha < 0 leaves the alpha weight out.
    """
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    loss = (1 - right) ** gamma * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss if alpha < 0 else loss * (alpha * target + (1 - alpha) * (1 - target))
