"""Learning rate by epoch (docs/method.md, Schedules)."""

from math import cos, pi

from pipeline.params.choices import Schedule


def factor(schedule: Schedule, epoch: int, epochs: int, decay: float, warmup: int) -> float:
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
