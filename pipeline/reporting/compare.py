"""Metrics of two versions of the project side by side: which are missing, which F1 fell."""

import math
from typing import Any

# Their keys: the best F1, and that at the threshold of the validation; of heat maps, and of what is found in them.
F1 = ("max_f1", "f1", "axes_max_f1", "axes_f1", "centres_max_f1", "centres_f1")
ROUNDING = 1e-7  # of a difference between two F1, in points
BAND = 2 * math.sqrt(2)  # two standard deviations of the difference between two runs, in those of one run


def verdict(
    old: dict, new: dict, target: str, max_drop: float, noise: dict[str, dict[str, float]]
) -> tuple[list[str], list[str]]:
    """What speaks against the metrics `new`, of this checkout, beside `old`, of the Git revision `target`, and which
    falls are within the noise; Markdown.

    Both are {file: its nested metrics, or a string that says why they cannot be read}. An F1 may fall by `max_drop`
    points, hundredths. `noise`: of files that were made on another machine or with other libraries, the standard
    deviation of some of their flat metrics over seeds, in 0..1: these may fall by BAND times as much.
    """
    found, within = [], []
    for file in sorted({*old, *new}):
        before, after = (metrics.get(file, "no metric of dvc.yaml, and no such file") for metrics in (old, new))
        if isinstance(before, str):
            found.append(f"`{file}` is missing at {target}: {before}")
        if isinstance(after, str):
            found.append(f"`{file}` is missing here: {after}")
        if isinstance(before, str) or isinstance(after, str):
            continue
        before, after = flatten(before), flatten(after)
        for key, (was, now) in missing(before, after).items():
            found.append(f"`{file}` `{key}`: {was} at {target}, {now} here")
        for key, (high, low) in fallen(before, after).items():
            band = noise.get(file, {}).get(key)
            allowed, lost = max_drop if band is None else 100 * BAND * band, 100 * (high - low)
            said = f"`{file}` `{key}` fell from {100 * high:.2f} to {100 * low:.2f}: {lost:.2f} points lost"
            if lost > allowed + ROUNDING:
                found.append(f"{said}, {_points(allowed)} allowed")
            elif band is not None:
                within.append(f"{said}, {_points(allowed)} are noise")
    return found, within


def _points(number: float) -> str:
    """To the hundredth, one decimal at least."""
    return str(float(f"{number:.2f}"))


def flatten(metrics: dict, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def missing(old: dict, new: dict) -> dict[str, tuple[str, str]]:
    """{key: what it is in each} of the flat metrics that are missing in either.

    So is what is null, or no number, in one only, and what is not finite.
    """
    kinds = {key: (_kind(old, key), _kind(new, key)) for key in old | new}
    return {key: (was, now) for key, (was, now) in kinds.items() if was != now or was == "not finite"}


def fallen(old: dict, new: dict) -> dict[str, tuple[float, float]]:
    """{key: both values} of the F1, from 0 to 1, among flat metrics that fell."""
    shared = [key for key in old if key.split(".")[-1] in F1 and _kind(old, key) == _kind(new, key) == "a number"]
    return {key: (old[key], new[key]) for key in shared if old[key] > new[key]}


def _kind(metrics: dict, key: str) -> str:
    value = metrics.get(key)
    if key not in metrics:
        return "missing"
    if value is None:
        return "null"
    if not isinstance(value, int | float):
        return "no number"
    return "a number" if math.isfinite(value) else "not finite"
