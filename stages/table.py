"""Stage `table` of ablation/dvc.yaml: a preset's cells as Markdown, CSV and LaTeX, and their F1 under metrics/."""

import json
from pathlib import Path

import yaml

from pipeline.errors import DataError
from pipeline.figures.tables import to_latex, to_markdown
from pipeline.params import load_params
from pipeline.reporting.presets import cell_names, preset_table, readable
from pipeline.runtime.files import atomic_folder, write_text
from stages.command import run_stage

NOTE = """
Short runs on DENDI, in per cent: mean ± standard deviation over the seeds. `F1, turned`: images and truth are turned
by up to 45 degrees, at random. `inconsistency`: 1 - F1 between T model(x) and model(T x) for the same turns T, of some
test images; lower is better; beside it that of the decoder alone, for these turns and for a quarter turn. The published
F1 is that of a ViT-B/16 trained for 500 epochs on the real DENDI: to be compared within its column only.
"""


def main(preset: str) -> None:
    """Write ablation/tables/PRESET and metrics/ablation_PRESET.json; F1 there in 0..1."""
    params = load_params()
    matrix = yaml.safe_load(Path("ablation/dvc.yaml").read_text())["stages"][preset]["matrix"]
    paths = [Path("models/ablation", preset, name, "scores.json") for name in cell_names(matrix, params.presets)]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]} and {len(missing) - 1} more are missing: `dvc repro ablation/dvc.yaml:{preset}`")
    table = preset_table(preset, [json.loads(path.read_text()) for path in paths])
    with atomic_folder(Path("ablation/tables") / preset) as folder:
        table.to_csv(folder / "table.csv")
        (folder / "table.md").write_text(f"# {preset}\n\n{to_markdown(readable(table))}\n{NOTE}")
        (folder / "table.tex").write_text(to_latex(readable(table)))
    figures = {
        "-".join(map(str, values)): {"max_f1": row["max_f1"] / 100, "seeds": int(row["seeds"])}
        for (*values, _), row in table.iterrows()
    }
    write_text(Path("metrics", f"ablation_{preset}.json"), json.dumps({params.task: figures}, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
