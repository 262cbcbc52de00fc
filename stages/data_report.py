"""Stage `data_report`: what the packed data hold and what was wrong with them; data/report, and metrics/data.json."""

import json
from pathlib import Path

from pipeline.data.report.page import write_data_report
from pipeline.data.report.survey import survey
from pipeline.params import load_params
from pipeline.runtime.files import atomic_folder, write_text
from stages.command import run_stage


def main() -> None:
    """Survey all packed data sets for the chosen task."""
    params, packed = load_params(), Path("data/packed/model")
    found = survey(packed, params.task)
    with atomic_folder(Path("data/report")) as folder:
        write_data_report(found, packed, params.task, params.data_seed, folder)
    figures: dict[str, dict[str, dict[str, int]]] = {}
    for row in found.counts().to_dict("records"):
        figures.setdefault(row.pop("dataset"), {})[row.pop("split")] = row
    write_text(Path("metrics/data.json"), json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
