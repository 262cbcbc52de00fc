"""The tables of the ablation's presets.

A preset varies some keys of params.yaml and runs each combination, a cell, with several seeds.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd

from pipeline.params import PresetParams
from pipeline.reporting.published import PUBLISHED_CELLS

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


def cell_names(matrix: Mapping[str, str], presets: PresetParams) -> list[str]:
    """The names that DVC gives the cells of a matrix, whose axes are `${presets.KEY}` of params.yaml."""
    keys = [axis.removeprefix("${presets.").removesuffix("}") for axis in matrix.values()]
    axes = [map(str, getattr(presets, key)) for key in keys]
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


def _plus_minus(mean: float, deviation: float) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"
