"""The ablation: what a cell, one short run, is scored by, and the tables of its presets.

A preset varies some keys of params.yaml and runs each combination with several seeds.
"""

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product

import numpy as np
import pandas as pd

from pipeline.clipsym import CLIPSym
from pipeline.packing import PackedSplit
from pipeline.params import Params
from pipeline.prediction import score
from pipeline.robustness import robustness

ROBUSTNESS_IMAGES = 40  # of the test images: transforming takes ten times as long as scoring

# Published F1 in per cent on the real DENDI, of a ViT-B/16 (METHOD section 9), by preset, task and the values
# of all keys that its cells set but the seed, in their order.
PUBLISHED_CELLS = {
    "grid": {
        "reflection": {
            ("clip", "sapg", "equivariant"): 66.5,
            ("clip", "none", "equivariant"): 63.7,
            ("clip", "sapg", "plain"): 62.9,
            ("metaclip", "sapg", "equivariant"): 66.7,
        },
        "rotation": {
            ("clip", "sapg", "equivariant"): 25.1,
            ("clip", "none", "equivariant"): 17.7,
            ("clip", "sapg", "plain"): 24.2,
        },
    },
    "pretraining": {
        "reflection": {("clip",): 66.5, ("metaclip",): 66.7, ("vit_scratch",): 32.1},
        "rotation": {("clip",): 25.1},
    },
    "prompts": {
        "reflection": {
            ("sapg",): 66.5,
            ("reflection_axis",): 64.4,
            ("symmetry_axes",): 64.8,
            ("objects_25",): 65.8,
            ("none",): 63.7,
        },
        "rotation": {("sapg",): 25.1, ("none",): 17.7},
    },
    "prompt_size": {
        "reflection": {
            ("sapg", 25, 1): 65.3,
            ("sapg", 25, 4): 66.5,
            ("sapg", 25, 16): 65.9,
            ("sapg", 50, 4): 65.4,
        }
    },
    "encoders": {
        "reflection": {
            ("frozen", "frozen"): 59.4,
            ("frozen", "trained"): 58.9,
            ("trained", "frozen"): 65.3,
            ("trained", "trained"): 66.5,
        }
    },
    "upsampler": {
        "reflection": {("equivariant",): 66.5, ("plain",): 62.9},
        "rotation": {("equivariant",): 25.1, ("plain",): 24.2},
    },
    "group": {"reflection": {("equivariant", "C8"): 66.5}, "rotation": {("equivariant", "C8"): 25.1}},
}

# The scores of a cell end so. Those in the readable tables, with their headings:
FIGURES = ("_f1", "_disagreement", "_mean_difference")
COLUMNS = {
    "max_f1": "max F1",
    "validation_f1": "validation F1",
    "turned_f1": "F1, turned",
    "turned_model_disagreement": "inconsistency, turned",
    "turned_decoder_disagreement": "the decoder's",
    "quarter_decoder_disagreement": "the decoder's, quarter turn",
}


def short(params: Params) -> Params:
    """The parameters of a short run: on DENDI alone, at the ablation's input size and number of epochs."""
    entry = params.chosen.model_copy(update={"input_size": params.ablation.input_size})
    return params.model_copy(
        update={
            "backbones": {**params.backbones, params.backbone: entry},
            "train": params.train.model_copy(update={"datasets": ("dendi",), "epochs": params.ablation.epochs}),
        }
    )


def cell_scores(
    model: CLIPSym, test: Sequence[PackedSplit], batch: int, threshold: float, seed: int
) -> dict[str, float | None]:
    """The figures of a trained cell, all in 0..1; `threshold` is that of the heat maps' consistency.

    `max_f1` is of all test images. The others are of some, evenly spread, `turned` by up to 45 degrees, or by a
    `quarter`: their F1, and the figures of pipeline.robustness on how far T model(x) and model(T x) are apart.
    """
    counts = score(model, test, batch, "test")
    few = [
        split.excerpt(np.linspace(0, len(split) - 1, min(ROBUSTNESS_IMAGES, len(split))).round().astype(int))
        for split in test
    ]
    found = robustness(model, few, batch, threshold, seed)
    scores = {"max_f1": float(counts.f1.max())}
    for name, transformation in (("turned", "rotation"), ("quarter", "quarter_turn")):
        figures = found[transformation].summary(threshold)
        scores[f"{name}_f1"] = figures["max_f1"]
        scores |= {f"{name}_{key}": value for key, value in figures.items() if key.startswith(("model", "decoder"))}
    return scores


def cell_names(matrix: Mapping[str, object], params: Params) -> list[str]:
    """The names that DVC gives the cells of a matrix, whose axes are lists or `${key}` of params.yaml."""
    axes = []
    for values in matrix.values():
        if isinstance(values, str):
            key = re.fullmatch(r"\$\{(.+)\}", values)[1]
            values = reduce(getattr, key.split("."), params)
        axes.append(map(str, values))
    return ["-".join(values) for values in product(*axes)]


def preset_table(preset: str, cells: Sequence[dict]) -> pd.DataFrame:
    """One row a combination, in per cent: mean and standard deviation over seeds, beside them the published F1.

    `cells`: for each a dict of `changes`, which map keys to values, `task`, and the scores. The index holds the keys
    and the task; the columns are `seeds`, each figure, `FIGURE_std` (of a sample; none of a single seed) and
    `published_f1`.
    """
    places, figures = [], []
    for cell in cells:
        changes = {key: value for key, value in cell["changes"].items() if key != "seed"}
        if preset == "options":  # each of its cells changes another key
            changes = {"change": "-".join(f"{key}={value}" for key, value in changes.items())}
        places.append(changes | {"task": cell["task"]})
        figures.append({key: value for key, value in cell.items() if key.endswith(FIGURES)})
    index = pd.MultiIndex.from_frame(pd.DataFrame(places))
    groups = (100 * pd.DataFrame(figures, index=index, dtype=float)).groupby(level=index.names, sort=False)
    table = pd.concat([groups.size().rename("seeds"), groups.mean(), groups.std(ddof=1).add_suffix("_std")], axis=1)
    known = PUBLISHED_CELLS.get(preset, {})
    return table.assign(published_f1=[known.get(task, {}).get(tuple(values)) for *values, task in table.index])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `preset_table` as text: `57.9 ± 1.2`, with a dash where there is no figure."""
    text = table[["seeds"]].reset_index()
    for key, heading in COLUMNS.items():
        text[heading] = [_plus_minus(*pair) for pair in zip(table[key], table[f"{key}_std"])]
    text["published F1"] = ["-" if pd.isna(value) else f"{value:.1f}" for value in table["published_f1"]]
    return text


def to_latex(table: pd.DataFrame) -> str:
    """A `tabular` of the readable table, for the package booktabs."""
    escaped = table.rename(columns=_escape).map(_escape)
    return escaped.to_latex(index=False, escape=False, column_format="l" * len(table.columns))


def _plus_minus(mean: float, deviation: float) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def _escape(value: object) -> str:
    return str(value).replace("_", r"\_").replace("±", r"$\pm$")
