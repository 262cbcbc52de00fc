"""A cell of the ablation, one short training: its parameters, and what it is scored by."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.packed.split import PackedSplit
from pipeline.evaluation.robustness import robustness
from pipeline.model.base import Model
from pipeline.params import Params
from pipeline.scoring.f1 import F1Counts
from pipeline.scoring.heat_maps import score

ROBUSTNESS_IMAGES = 40  # of the test images: transforming takes ten times as long as scoring


def short(params: Params) -> Params:
    """The parameters of a short training: on DENDI alone, at the ablation's input size and number of epochs.

    All cells start from pretrained towers: the shipped weights would favour those of their own shape.
    """
    entry = params.chosen.model_copy(update={"input_size": params.ablation.input_size})
    return params.model_copy(
        update={
            "backbones": {**params.backbones, params.backbone: entry},
            "train": params.train.model_copy(
                update={"datasets": ("dendi",), "epochs": params.ablation.epochs, "start": "pretrained"}
            ),
        }
    )


def cell_scores(
    model: Model, test: Sequence[PackedSplit], batch: int, threshold: float, seed: int
) -> dict[str, float | None]:
    """The figures of a trained cell, all in 0..1; `threshold` is that of the heat maps' consistency.

    `max_f1` is of all test images. The others are of some, evenly spread, `turned` by up to 45 degrees, or by a
    `quarter`: their F1, and the figures of robustness.py on how far T model(x) and model(T x) are apart.
    """
    counts = sum(score(model, test, batch, "test"), F1Counts.zero())
    few = [
        split.excerpt(np.linspace(0, len(split) - 1, min(ROBUSTNESS_IMAGES, len(split))).round().astype(int))
        for split in test
    ]
    found = robustness(model, few, batch, threshold, seed)
    scores: dict[str, float | None] = {"max_f1": float(counts.f1.max())}
    for name, transformation in (("turned", "rotation"), ("quarter", "quarter_turn")):
        figures = found[transformation].summary(threshold)
        scores[f"{name}_f1"] = figures["max_f1"]
        scores |= {f"{name}_{key}": value for key, value in figures.items() if key.startswith(("model", "decoder"))}
    return scores
