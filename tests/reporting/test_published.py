"""Published figures: one table in the code, shown in docs/method.md; and what makes tables needs no model."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.reporting.published import ABLATIONS, PUBLISHED, PUBLISHED_CELLS, TURNED, published

PROJECT = Path(__file__).parents[2]


def shown():
    """{first cell: the other cells} of all table rows under "Published figures" in docs/method.md."""
    section = (PROJECT / "docs/method.md").read_text().split("\n## Published figures\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {name: cells for name, *cells in rows}


@pytest.mark.parametrize("table", [PUBLISHED, ABLATIONS.to_frame(), TURNED], ids=["methods", "ablations", "turned"])
def test_the_documentation_shows_the_figures_of_the_code(table):
    rows = shown()
    for name, figures in table.iterrows():
        key = f"{name}, turned" if table is TURNED else name
        assert [None if cell == "-" else float(cell) for cell in rows[key]] == [
            None if pd.isna(figure) else figure for figure in figures
        ], key


def test_a_published_figure_is_of_its_method_set_and_task():
    assert published("CLIPSym", "dendi", "reflection") == 66.5 and published("CLIPSym", "dendi", "rotation") == 25.1
    assert published("EquiSym", "ldrs", "reflection") == 37.7 and published("PMCNet", "sdrw", "reflection") == 40.8
    assert published("PMCNet", "dendi", "rotation") is None and published("CLIPSym", "photos", "reflection") is None
    assert published("nobody", "dendi", "reflection") is None


@pytest.mark.parametrize(
    "preset, task, figures",
    [
        ("grid", "reflection", [66.5, 63.7, 62.9, 66.7]),
        ("grid", "rotation", [25.1, 17.7, 24.2]),
        ("pretraining", "reflection", [66.5, 66.7, 32.1]),
        ("prompts", "reflection", [66.5, 64.4, 64.8, 65.8, 63.7]),
        ("prompts", "rotation", [25.1, 17.7]),
        ("prompt_size", "reflection", [65.3, 66.5, 65.9, 65.4]),
        ("encoders", "reflection", [59.4, 58.9, 65.3, 66.5]),
        ("upsampler", "reflection", [66.5, 62.9]),
        ("upsampler", "rotation", [25.1, 24.2]),
        ("group", "reflection", [66.5]),
    ],
)
def test_cells_have_the_figures_of_their_values(preset, task, figures):
    assert list(PUBLISHED_CELLS[preset][task].values()) == figures


def test_values_stand_for_their_methods():
    reflection = {preset: tasks["reflection"] for preset, tasks in PUBLISHED_CELLS.items()}
    assert reflection["encoders"][("frozen", "trained")] == 58.9  # image tower, text tower
    assert reflection["prompt_size"][("sapg", 50, 4)] == 65.4 and reflection["prompt_size"][("sapg", 25, 1)] == 65.3
    assert reflection["grid"][("clip", "none", "equivariant")] == 63.7
    assert reflection["prompts"][("objects_25",)] == 65.8 and reflection["pretraining"][("metaclip",)] == 66.7


def test_tables_need_neither_torch_nor_the_model():
    program = "import sys, pipeline.reporting.presets, pipeline.reporting.compare, stages.table; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    heavy = {"torch", "torchvision", "escnn", "open_clip", "timm", "matplotlib", "pipeline.model"}
    assert "pandas" in done.stdout.split() and not heavy & set(done.stdout.split())
