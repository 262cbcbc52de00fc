"""The report and the tables: each figure stands under its heading. All figures differ from each other."""

import csv
import json
import shutil
from itertools import count, product
from pathlib import Path
from statistics import mean, stdev

import pytest

from pipeline.errors import DataError
from pipeline.scoring.sets import TEST_SETS
from stages import report, spread
from stages import table as table_stage
from tests.stages.scene import PROJECT, draw, heat, read, save_checkpoint, table, write_params

GRID = ["ablation.backbone=[tiny, clip]", "ablation.prompts=[sapg, none]", "ablation.upsampler=[equivariant, plain]"]
SCORES = (
    "max_f1", "validation_f1", "turned_f1", "turned_model_disagreement", "turned_model_mean_difference",
    "turned_decoder_disagreement", "turned_decoder_mean_difference", "quarter_f1", "quarter_model_disagreement",
    "quarter_model_mean_difference", "quarter_decoder_disagreement", "quarter_decoder_mean_difference",
)  # fmt: skip
SUMMARY = (
    "max_f1", "precision", "recall", "threshold", "f1_at_validation_threshold", "validation_threshold",
)  # fmt: skip
ROBUSTNESS = (
    "max_f1", "f1_at_threshold", "model_mean_difference", "model_disagreement", "decoder_mean_difference",
    "decoder_disagreement",
)  # fmt: skip
CELLS = {  # key of a cell's score -> its column
    "max_f1": "max F1", "validation_f1": "validation F1", "turned_f1": "F1, turned",
    "turned_model_disagreement": "inconsistency, turned", "turned_decoder_disagreement": "the decoder's",
    "quarter_decoder_disagreement": "the decoder's, quarter turn",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def figures(keys, numbers):
    """A value for each key, in thousandths: the next of the numbers."""
    return {key: next(numbers) / 1000 for key in keys}


def per_cent(value):
    return f"{100 * value:.1f}"


def made(folder, *changes):
    """All that the report is made of: its parameters, summaries, figures of robustness and cells."""
    params = write_params(folder, *GRID, *changes)
    save_checkpoint(folder / "models/main/model.safetensors", params, epoch=7, validation_f1=0.4321)
    summaries, untrained, task, numbers = {}, {}, params.task, count(1)
    for number, name in enumerate(TEST_SETS, start=11):
        shipped = figures(("max_f1", "f1_at_validation_threshold"), numbers)
        summaries[name] = {"images": number} | figures(SUMMARY, numbers) | {"shipped": shipped}
        write(folder / f"evaluation/{name}/summary.json", {task: summaries[name]})
        untrained[name] = {model: figures(("max_f1",), numbers) for model in ("classical", "centre map", "random map")}
        write(folder / f"evaluation/baselines/{name}.json", {task: untrained[name]})
        for picture in ("gallery", "pr"):
            draw(folder / f"evaluation/{name}/{picture}.png", heat([(number, 0.9 if picture == "pr" else 0.5)]))
    turned = {name: figures(ROBUSTNESS, numbers) for name in ("identity", "rotation", "quarter_turn", "flip")}
    write(folder / "metrics/robustness.json", {task: turned})
    cells = {}
    for backbone, kind, upsampler in product(("tiny", "clip"), ("sapg", "none"), ("equivariant", "plain")):
        changed = {"backbone": backbone, "prompts.kind": kind, "decoder.upsampler": upsampler}
        scores = cells[backbone, kind, upsampler] = figures(SCORES, numbers)
        cell = {"changes": changed, "task": task, **scores, "epoch": 3}
        write(folder / f"models/ablation/grid/{backbone}-{kind}-{upsampler}/scores.json", cell)
    return summaries, untrained, turned, cells


@pytest.mark.parametrize("data, published", [
    ("published", {"reflection": ["66.5", "51.8", "39.5", "42.8", "-", "-"], "rotation": ["25.1"] + ["-"] * 5}),
    ("embedded", None),
])  # fmt: skip
@pytest.mark.parametrize("task", ["reflection", "rotation"])
def test_figures_of_the_report(folder, task, data, published):
    summaries, untrained, turned, cells = made(folder, f"task={task}", f"data={data}")
    report.main()
    text = Path("report/report.md").read_text()

    rows = table(text, "## F1 by test set, in per cent")
    expected = []
    known = published[task] if published else [None] * len(summaries)
    for (name, summary), figure in zip(summaries.items(), known):
        models = {"this run": summary, "shipped weights": summary["shipped"], **untrained[name]}
        for model, found in models.items():
            expected.append(
                {
                    "test set": name, "task": task, "images": str(summary["images"]), "model": model,
                    "max F1": per_cent(found["max_f1"]),
                    "F1 at validation threshold": per_cent(found["f1_at_validation_threshold"])
                    if "f1_at_validation_threshold" in found
                    else "-",
                }
                | ({"published CLIPSym": figure if found is summary else "-"} if published else {})
            )  # fmt: skip
    assert rows == expected == table("\n" + Path("report/f1.md").read_text() + "\n", "")

    rows = table(text, "## Robustness and consistency, in per cent")
    headings = {
        "max_f1": "max F1", "f1_at_threshold": "F1 at validation threshold", "model_disagreement": "inconsistency",
        "model_mean_difference": "mean difference", "decoder_disagreement": "inconsistency of the decoder",
        "decoder_mean_difference": "its mean difference",
    }  # fmt: skip
    assert rows == [
        {"DENDI's test images": name} | {heading: per_cent(row[key]) for key, heading in headings.items()}
        for name, row in turned.items()
    ]

    known = {
        "reflection": {"sapg-equivariant": "66.5", "none-equivariant": "63.7", "sapg-plain": "62.9"},
        "rotation": {"sapg-equivariant": "25.1", "none-equivariant": "17.7", "sapg-plain": "24.2"},
    }[task]
    rows = table(text, "## Ablation on DENDI, in per cent")
    assert rows == [
        {"backbone": backbone, "prompts.kind": kind, "decoder.upsampler": upsampler, "task": task, "seeds": "1"}
        | {heading: per_cent(scores[key]) for key, heading in CELLS.items()}
        | {"published F1": known.get(f"{kind}-{upsampler}", "-") if backbone == "clip" else "-"}
        for (backbone, kind, upsampler), scores in cells.items()
    ]
    assert "Best epoch 7 of 1, validation F1 43.2" in text and "- fire hydrant\n" in text
    assert read("metrics/ablation.json") == {
        task: {"-".join(names): {"max_f1": scores["max_f1"]} for names, scores in cells.items()}
    }
    for name, picture in product(TEST_SETS, ("gallery", "pr")):
        copied = Path(f"report/{name}-{picture}.png")
        assert copied.read_bytes() == Path(f"evaluation/{name}/{picture}.png").read_bytes() and copied.name in text


@pytest.mark.parametrize("seeds", [1, 3])
def test_figures_of_a_preset(folder, seeds):
    """The mean over the seeds, and the standard deviation of a sample."""
    write_params(folder, f"presets.seeds={list(range(seeds))}", "presets.upsamplers=[equivariant, plain]", "seed=9")
    (folder / "ablation").mkdir()
    shutil.copyfile(PROJECT / "ablation/dvc.yaml", "ablation/dvc.yaml")
    numbers = count(1)
    cells = {(kind, seed): figures(SCORES, numbers) for kind in ("equivariant", "plain") for seed in range(seeds)}
    for factor, ((kind, seed), scores) in enumerate(cells.items(), start=1):
        scores |= {key: value * factor / 10 for key, value in scores.items()}
        cell = {"changes": {"decoder.upsampler": kind, "seed": seed}, "task": "reflection", **scores, "epoch": 2}
        write(folder / f"models/ablation/upsampler/{kind}-{seed}/scores.json", cell)
    table_stage.main("upsampler")

    expected, numbers = [], list(csv.DictReader(open("ablation/tables/upsampler/table.csv")))
    for (kind, known), row in zip((("equivariant", "66.5"), ("plain", "62.9")), numbers, strict=True):
        texts = {"decoder.upsampler": kind, "task": "reflection", "seeds": str(seeds)}
        assert row["decoder.upsampler"] == kind and row["published_f1"] == known
        for key in SCORES:
            some = [100 * cells[kind, seed][key] for seed in range(seeds)]
            assert float(row[key]) == pytest.approx(mean(some))
            deviation = [] if seeds == 1 else [pytest.approx(stdev(some))]
            assert [float(text) for text in [row[f"{key}_std"]] if text] == deviation
            if key in CELLS:
                texts[CELLS[key]] = f"{mean(some):.1f}" + (f" ± {stdev(some):.1f}" if seeds > 1 else "")
        expected.append(texts | {"published F1": known})
    assert table(Path("ablation/tables/upsampler/table.md").read_text(), "# upsampler") == expected
    lines = Path("ablation/tables/upsampler/table.tex").read_text().replace(r"$\pm$", "±").splitlines()
    latex = [[cell.strip() for cell in line.removesuffix(r" \\").split("&")] for line in lines if "&" in line]
    assert latex == [[*expected[0]], *([*row.values()] for row in expected)]
    assert read("metrics/ablation_upsampler.json") == {
        "reflection": {
            kind: {"max_f1": pytest.approx(mean(cells[kind, seed]["max_f1"] for seed in range(seeds))), "seeds": seeds}
            for kind in ("equivariant", "plain")
        }
    }


def test_the_spread_of_the_seeds(folder):
    """Of 0.5, 0.6 and 0.7 it is 0.1, of a sample; none where there is no ground truth."""
    write_params(folder, "presets.seeds=[0,4,7]")
    for seed, value in ((0, 0.5), (4, 0.7), (7, 0.6)):
        scores = {"dendi": {"max_f1": value, "f1": value / 2}, "own": {"max_f1": None, "f1": None}}
        write(folder / f"models/ablation/seeds/{seed}/scores.json", scores)
    spread.main()
    expected = {"dendi": {"max_f1": pytest.approx(0.1), "f1": pytest.approx(0.05)}, "own": {"max_f1": None, "f1": None}}
    assert read("metrics/spread.json") == expected
    write_params(folder, "presets.seeds=[4]")
    with pytest.raises(DataError, match="presets.seeds: expected 2 or more"):
        spread.main()
