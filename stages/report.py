"""Stage `report`: report/report.md with tables and pictures, and the ablation's figures under metrics/."""

import json
from pathlib import Path

from pipeline.model.checkpoint import load_record
from pipeline.params import load_params
from pipeline.reporting.report import write_report
from pipeline.runtime.files import atomic_folder
from pipeline.scoring.sets import TEST_SETS
from stages.command import run_stage, write_metrics


def main() -> None:
    """Collect what evaluation and the cells of the grid left."""
    params = load_params()
    summaries = {name: json.loads(Path("evaluation", name, "summary.json").read_text()) for name in TEST_SETS}
    baselines = {name: json.loads(Path("evaluation/baselines", f"{name}.json").read_text()) for name in TEST_SETS}
    axes = params.ablation
    names = [f"{b}-{p}-{u}" for b in axes.backbone for p in axes.prompts for u in axes.upsampler]
    cells = {name: json.loads(Path("models/ablation/grid", name, "scores.json").read_text()) for name in names}
    record = load_record(Path("models/main/model.safetensors"))
    turned = json.loads(Path("metrics/robustness.json").read_text())[params.task]
    with atomic_folder(Path("report")) as folder:
        write_report(params, record, summaries, baselines, turned, list(cells.values()), Path("evaluation"), folder)
    figures = {params.task: {name: {"max_f1": cell["max_f1"]} for name, cell in cells.items()}}
    write_metrics("ablation", figures)


if __name__ == "__main__":
    run_stage(main)
