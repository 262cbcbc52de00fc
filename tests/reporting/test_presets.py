"""The ablation's tables: mean and standard deviation by hand, published figures where they belong."""

import math
from pathlib import Path

import pandas as pd
import pytest

from pipeline.figures.tables import to_latex, to_markdown
from pipeline.params import load_params
from pipeline.reporting.presets import cell_names, preset_table, readable

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


def cell(f1, seed=0, task="reflection", **changes):
    """The scores of a cell; double underscores stand for dots."""
    return {
        "changes": {key.replace("__", "."): value for key, value in changes.items()} | {"seed": seed},
        "task": task,
        "max_f1": f1,
        "turned_f1": None,
        "turned_model_disagreement": 0.25,
        "turned_model_mean_difference": 0.125,
        "turned_decoder_disagreement": 0.0,
        "quarter_decoder_disagreement": 0.0,
        "validation_f1": f1 / 2,
        "epoch": 3,
    }


@pytest.fixture
def encoders():
    keys = ("train__image_tower", "train__text_tower")
    return preset_table(
        "encoders",
        [
            cell(0.5, 0, **dict(zip(keys, ("trained", "frozen")))),
            cell(0.6, 1, **dict(zip(keys, ("trained", "frozen")))),
            cell(0.7, 2, **dict(zip(keys, ("trained", "frozen")))),
            cell(0.3, 0, **dict(zip(keys, ("frozen", "frozen")))),
        ],
    )


def test_mean_and_standard_deviation_over_seeds(encoders):
    assert encoders.index.names == ["train.image_tower", "train.text_tower", "task"]
    trained, frozen = (
        encoders.loc[("trained", "frozen", "reflection")],
        encoders.loc[("frozen", "frozen", "reflection")],
    )
    assert (trained["seeds"], frozen["seeds"]) == (3, 1)
    assert trained["max_f1"] == pytest.approx(60) and trained["max_f1_std"] == pytest.approx(10)  # of a sample
    assert trained["validation_f1"] == pytest.approx(30) and trained["validation_f1_std"] == pytest.approx(5)
    assert frozen["max_f1"] == pytest.approx(30) and math.isnan(frozen["max_f1_std"])
    assert trained["turned_model_mean_difference"] == 12.5 and "epoch" not in encoders
    assert (trained["published_f1"], frozen["published_f1"]) == (65.3, 59.4)


def test_rows_keep_their_order_and_a_missing_figure_is_a_dash(encoders):
    text = readable(encoders)
    assert text["train.image_tower"].tolist() == ["trained", "frozen"]
    assert text["max F1"].tolist() == ["60.0 ± 10.0", "30.0"] and text["F1, turned"].tolist() == ["-", "-"]
    assert text["published F1"].tolist() == ["65.3", "59.4"]
    assert "| trained             | frozen" in to_markdown(text) and "60.0 ± 10.0" in to_markdown(text)


def test_latex(encoders):
    lines = to_latex(readable(encoders)).splitlines()
    assert lines[0] == rf"\begin{{tabular}}{{{'l' * 11}}}" and lines[1] == r"\toprule"
    assert lines[2].startswith(r"train.image\_tower & train.text\_tower & task & seeds & max F1")
    assert r"60.0 $\pm$ 10.0 & 30.0 $\pm$ 5.0 & -" in lines[4] and "±" not in "".join(lines)


def test_each_option_is_a_row_of_its_own():
    cells = [cell(0.5, train__ema=0.95), cell(0.25, decoder__layers=4), cell(0.75, 1, decoder__layers=4)]
    table = preset_table("options", cells)
    assert table.index.tolist() == [("train.ema=0.95", "reflection"), ("decoder.layers=4", "reflection")]
    assert table["max_f1"].tolist() == [50, 50] and table["published_f1"].isna().all()


def test_published_figures_are_of_the_task_and_the_values():
    keys, cells = ("prompts__kind", "prompts__count", "prompts__words"), (("sapg", 25, 16), ("sapg", 5, 4))
    table = preset_table("prompt_size", [cell(0.5, **dict(zip(keys, values))) for values in cells])
    assert table["published_f1"].tolist()[0] == 65.9 and pd.isna(table["published_f1"].tolist()[1])
    table = preset_table("upsampler", [cell(0.5, task="rotation", decoder__upsampler="plain")])
    assert table["published_f1"].tolist() == [24.2]


def test_cell_names():
    presets = PARAMS.presets
    names = cell_names({"group": "${presets.groups}", "seed": "${presets.seeds}"}, presets)
    assert names[0] == f"{presets.groups[0]}-{presets.seeds[0]}"
    assert len(names) == len(presets.groups) * len(presets.seeds) == len(set(names))
