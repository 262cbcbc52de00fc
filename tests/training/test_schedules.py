"""Learning rates by epoch against values computed by hand (docs/method.md, Schedules)."""

from math import cos, pi, sqrt

import pytest

from pipeline.training.state import schedule_factor


@pytest.mark.parametrize(
    "schedule, epoch, epochs, decay, warmup, expected",
    [
        ("constant", 1, 10, 0.1, 3, 1),
        ("constant", 10, 10, 0.1, 3, 1),
        ("exp", 1, 4, 0.1, 0, 10**-0.25),
        ("exp", 50, 100, 0.1, 0, 1 / sqrt(10)),
        ("exp", 100, 100, 0.1, 20, 0.1),
        ("exp", 2, 4, 0.01, 0, 0.1),
        ("step", 49, 100, 0.1, 0, 1),
        ("step", 50, 100, 0.1, 0, 0.1),
        ("step", 74, 100, 0.1, 0, 0.1),
        ("step", 75, 100, 0.1, 0, 0.01),
        ("step", 99, 100, 0.1, 0, 0.01),
        ("step", 100, 100, 0.1, 0, 0.001),
        ("step", 2, 5, 0.5, 0, 1),  # 5 / 2 is not reached yet
        ("step", 3, 5, 0.5, 0, 0.5),
        ("step", 4, 5, 0.5, 0, 0.25),
        ("cos", 1, 10, 0.1, 4, 1 / 4),
        ("cos", 4, 10, 0.1, 4, 1),
        ("cos", 7, 10, 0.1, 4, 0.55),
        ("cos", 10, 10, 0.1, 4, 0.1),
        ("cos", 5, 20, 0.2, 0, 0.2 + 0.4 * (1 + cos(pi / 4))),
        ("cos", 1, 1, 0.1, 1, 1),  # nothing but warm-up
        ("cos", 1, 1, 0.1, 0, 0.1),
    ],
)
def test_by_hand(schedule, epoch, epochs, decay, warmup, expected):
    assert schedule_factor(schedule, epoch, epochs, decay, warmup) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "epoch, epochs, part, expected",
    [
        (1, 1, 0.0, 1),
        (1, 1, 0.4, 1),
        (1, 1, 0.7, 0.1 + 0.9 / 2),
        (1, 1, 1.0, 0.1),
        (2, 5, 0.99, 1),
        (4, 5, 0.5, 0.1 + 0.9 / 2),
        (5, 5, 0.5, 0.1 + 0.9 / 6),
    ],
)
def test_cooldown_falls_by_steps_from_two_fifths_on(epoch, epochs, part, expected):
    assert schedule_factor("cooldown", epoch, epochs, 0.1, 7, part) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", ["exp", "constant", "step", "cos", "cooldown"])
def test_never_rises_and_stays_positive(schedule):
    factors = [schedule_factor(schedule, epoch, 30, 0.01, 0) for epoch in range(1, 31)]
    assert all(0 < after <= before <= 1 for before, after in zip(factors, factors[1:]))


def test_warm_up_meets_the_cosine():
    factors = [schedule_factor("cos", epoch, 40, 0.1, 10) for epoch in range(1, 41)]
    assert factors[:10] == pytest.approx([number / 10 for number in range(1, 11)])
    assert max(factors) == factors[9] and factors[9:] == sorted(factors[9:], reverse=True)
