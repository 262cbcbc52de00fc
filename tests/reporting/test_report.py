"""The report: each figure in its column and under its heading."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from pipeline.params import load_params
from pipeline.reporting.report import against_baselines, write_report
from pipeline.reporting.tables import detection_table, fold_table, folds_right, main_table, robustness_table

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
SUMMARY = {
    "images": 7,
    "max_f1": 0.51,
    "f1_at_validation_threshold": 0.42,
    "shipped": {"max_f1": 0.33, "f1_at_validation_threshold": 0.22},
    "axes": {
        "marked": 9,
        "found": 12,
        "max_f1": 0.64,
        "f1": 0.55,
        "top1": 0.46,
        "sap": {
            "released": {"5": 0.11, "10": 0.12, "15": 0.13},
            "by_score": {"5": 0.21, "10": 0.22, "15": 0.23},
        },
    },
}
SUMMARY["shipped"]["axes"] = SUMMARY["axes"] | {"max_f1": 0.34, "top1": 0.16}
UNTRAINED = {
    "classical": {"max_f1": 0.18, "axes": SUMMARY["axes"] | {"max_f1": 0.38, "f1": None, "top1": 0.29}},
    "centre map": {"max_f1": 0.14, "axes": SUMMARY["axes"] | {"max_f1": 0.27, "f1": None, "top1": 0.15}},
    "random map": {"max_f1": 0.03},
}
BESIDE = {name: {"reflection": UNTRAINED} for name in ("dendi", "photos", "own")}
NO_AXES = {"marked": 0, "found": 3, "max_f1": None, "f1": None, "top1": None, "sap": {}}
TURNED = {
    "max_f1": 0.61,
    "f1_at_threshold": 0.52,
    "model_disagreement": 0.23,
    "model_mean_difference": 0.04,
    "decoder_disagreement": 0.15,
    "decoder_mean_difference": None,
}
CELL = {
    "changes": {"backbone": "clip", "prompts.kind": "sapg", "decoder.upsampler": "plain"},
    "task": "reflection",
    "max_f1": 0.45,
    "validation_f1": 0.36,
    "turned_f1": 0.27,
    "turned_model_disagreement": 0.18,
    "turned_decoder_disagreement": 0.09,
    "quarter_decoder_disagreement": 0.01,
    "epoch": 3,
}


def test_the_main_table():
    table = main_table(
        {"dendi": {"reflection": SUMMARY}, "own": {"reflection": {"max_f1": None}}}, BESIDE, comparable=True
    )
    none = pytest.approx(float("nan"), nan_ok=True)
    expected = [
        ("this run", 51, 42, 66.5),
        ("shipped weights", 33, 22, none),
        ("classical", 18, none, none),
        ("centre map", pytest.approx(14), none, none),
        ("random map", 3, none, none),
    ]
    assert table.to_dict("records") == [
        {
            "test set": "dendi", "task": "reflection", "images": 7, "model": model,
            "max F1": best, "F1 at validation threshold": chosen, "published CLIPSym": known,
        }
        for model, best, chosen, known in expected
    ]  # fmt: skip


def test_the_table_of_what_was_found():
    none = {"images": 0, "max_f1": None, "axes": NO_AXES}
    table = detection_table({"dendi": {"reflection": SUMMARY}, "own": {"reflection": none}}, BESIDE, "axes")
    expected = [
        ("this run", 64, 55, 46), ("shipped weights", 34, 55, 16), ("classical", 38, -1, 29), ("centre map", 27, -1, 15)
    ]  # fmt: skip
    rows = table.fillna(-1).to_dict("records")
    assert [{k: value if isinstance(value, str) else round(value, 9) for k, value in row.items()} for row in rows] == [
        {
            "test set": "dendi", "marked": 9, "model": model, "sAP@5": 11, "sAP@10": 12, "sAP@15": 13,
            "by score @5": 21, "by score @10": 22, "by score @15": 23,
            "max F": best, "F at detection threshold": chosen, "top-1": first,
        }
        for model, best, chosen, first in expected
    ]  # fmt: skip
    assert detection_table({"dendi": {"reflection": SUMMARY}}, BESIDE, "centres").empty


def test_the_report_says_which_sets_beat_the_baselines():
    beside = BESIDE | {"photos": {"reflection": UNTRAINED | {"centre map": {"max_f1": 0.6}}}}
    summaries = {"photos": {"reflection": SUMMARY}, "dendi": {"reflection": SUMMARY}}
    table = main_table(summaries, beside, comparable=False)
    assert against_baselines(table) == "Above all baselines: dendi by 33.0. **Not above them: photos by -9.0.**"
    for name in summaries:
        assert against_baselines(main_table({name: {"reflection": SUMMARY}}, beside, False)).count("bove") == 1


def test_the_robustness_table():
    (row,) = robustness_table({"rotation": TURNED}).to_dict("records")
    assert pd.isna(row.pop("its mean difference"))
    assert row == {
        "DENDI's test images": "rotation",
        "max F1": 61,
        "F1 at validation threshold": 52,
        "inconsistency": 23,
        "mean difference": 4,
        "inconsistency of the decoder": 15,
    }


@pytest.fixture(params=["embedded", "published"])
def report(request, tmp_path):
    """The kind of data, and the folder of a written report."""
    for name in ("gallery.png", "pr.png"):
        (tmp_path / "evaluation/dendi").mkdir(parents=True, exist_ok=True)
        (tmp_path / "evaluation/dendi" / name).write_text(name)
    write_report(
        PARAMS.model_copy(update={"data": request.param}),
        SimpleNamespace(decoder="any", prompts=["cat dog", "jar pan"], epoch=4, validation_f1=0.333),
        {"dendi": {"reflection": SUMMARY}, "own": {"reflection": {"images": 0, "max_f1": None}}},
        BESIDE,
        {"rotation": TURNED},
        [CELL],
        tmp_path / "evaluation",
        tmp_path / "report",
    )
    return request.param, tmp_path / "report"


def rows(text):
    """The cells of all table rows."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_page(report):
    data, folder = report
    text = (folder / "report.md").read_text()
    assert text.startswith(f"# CLIPSym: reflection on {data} data\n")
    comparable = data == "published"
    expected = [
        ["this run", "51.0", "42.0", *["66.5"] * comparable],
        ["shipped weights", "33.0", "22.0", *["-"] * comparable],
        ["classical", "18.0", "-", *["-"] * comparable],
        ["centre map", "14.0", "-", *["-"] * comparable],
        ["random map", "3.0", "-", *["-"] * comparable],
    ]
    shares = {
        "this run": ["64.0", "55.0", "46.0"],
        "shipped weights": ["34.0", "55.0", "16.0"],
        "classical": ["38.0", "-", "29.0"],
        "centre map": ["27.0", "-", "15.0"],
    }
    areas = ["11.0", "12.0", "13.0", "21.0", "22.0", "23.0"]
    assert [row for row in rows(text) if row[0] == "dendi"] == [
        *(["dendi", "reflection", "7", *row] for row in expected),
        *(["dendi", "9", model, *areas, *row] for model, row in shares.items()),
    ]
    assert "sAP@5, 10 and 15: axes 18.7, 22.7, 24.7; centres 36.8, 39.1, 40.0; folds 26.6, 28.3, 28.9." in text
    assert "Above all baselines: dendi by 33.0." in text
    assert ("**Not comparable with published figures.**" in text) != comparable
    cell = ["clip", "sapg", "plain", "reflection", "1", "45.0", "36.0", "27.0", "18.0", "9.0", "1.0", "62.9"]
    assert cell in rows(text)
    assert ["rotation", "61.0", "52.0", "23.0", "4.0", "15.0", "-"] in rows(text)
    board = {row[0]: row[1:] for row in rows(text[text.index("## All methods") :])}
    source = "this run of this project"
    assert board["this run"] == [
        "real" if comparable else "embedded",
        "51.0",
        "-",
        "-",
        "-",
        "12.0",
        "61.0",
        "23.0",
        source,
    ]
    assert board["classical"][1:] == ["18.0", "-", "-", "-", "12.0", "-", "-", source]
    clipsym = "CLIPSym, arXiv 2508.14197"
    assert board["EquiSym"] == ["real", "61.7", "48.2", "37.7", "41.1", "-", "57.1", "24.4", clipsym]
    assert board["AxisSym"] == ["real", *"----", "22.7", "-", "-", "README of github.com/wongyun-yu/AxisSym"]
    assert "F1 59.7, consistency 0.082; with the plain upsampler 58.3 and 0.093." in text
    assert "from a `shipped` start" in text
    assert f"Best epoch 4 of {PARAMS.train.epochs}, validation F1 33.3 (mean over data sets)." in text
    assert "- cat dog\n- jar pan\n" in text


def test_pictures_and_csv(report):
    _, folder = report
    assert (folder / "dendi-gallery.png").read_text() == "gallery.png"
    assert (folder / "dendi-pr.png").read_text() == "pr.png"
    text = (folder / "report.md").read_text()
    assert "![overlays of dendi](dendi-gallery.png)" in text and "own-" not in text
    assert pd.read_csv(folder / "f1.csv")["max F1"].tolist() == pytest.approx([51, 33, 18, 14, 3])
    assert pd.read_csv(folder / "axes.csv")["marked"].tolist() == [9] * 4
    assert pd.read_csv(folder / "ablation.csv")["published_f1"].tolist() == [62.9]
    board = pd.read_csv(folder / "scoreboard.csv").set_index("method")
    assert board.at["this run", "dendi F1"] == 51 and board.at["PMCNet", "dendi inconsistency, turned"] == 41.7
    lines = (folder / "scoreboard.tex").read_text().splitlines()
    assert lines[0].startswith(r"\begin{tabular}{l") and any(
        line.startswith("EquiSym & real & 61.7 & 48.2") for line in lines
    )
    assert pd.read_csv(folder / "published.csv").set_index("method").at["CLIPSym", "dendi rotation"] == 25.1


def test_folds():
    found = {"centres": 3, "right": 2 / 3, "told": {"0": {"0": 1}, "10": {"in doubt": 1, "8": 1}}}
    summaries = {
        "dendi": {"rotation": {"centres": {"folds": {"found": found, "at marks": {"centres": 0, "told": {}}}}}}
    }
    table = fold_table(summaries | {"photos": {"rotation": {"centres": {}}}})
    assert list(table) == ["test set", "looked at", "fold", "centres", "0", "8", "in doubt"]
    assert table.to_numpy().tolist() == [["dendi", "found", 0, 1, 1, 0, 0], ["dendi", "found", 10, 2, 0, 1, 1]]
    assert folds_right(summaries) == "Told right: dendi 66.7 % of the 3 that were found."
    assert fold_table({"dendi": {"reflection": SUMMARY}}).empty
