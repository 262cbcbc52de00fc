"""Tables of the report: our figures, and the published ones beside them. F1 in per cent."""

import pandas as pd

from pipeline.reporting.published import published

TRAINED, SHIPPED = "this run", "shipped weights"
DETECTION_HEADINGS = {"max F": "max_f1", "F at detection threshold": "f1", "top-1": "top1"}


def main_table(summaries: dict[str, dict[str, dict]], comparable: bool) -> pd.DataFrame:
    """Two rows a test set that has ground truth, of the trained model and of the shipped weights, from
    {set: {task: summary of pipeline.evaluation.evaluate, with that of the shipped weights}}.

    `comparable`: put CLIPSym's published figures beside ours; only right on the published data.
    """
    rows = []
    for test_set, by_task in summaries.items():
        for task, summary in by_task.items():
            if summary["max_f1"] is None:
                continue
            row = {"test set": test_set, "task": task, "images": summary["images"]}
            beside = {"random map": 100 * summary["random_map_f1"], "centre map": 100 * summary["centre_map_f1"]}
            if comparable:
                beside["published CLIPSym"] = published("CLIPSym", test_set, task)
            rows.append({**row, "model": TRAINED, **_in_per_cent(summary), **beside})
            rows.append({**row, "model": SHIPPED, **_in_per_cent(summary["shipped"])})
    return pd.DataFrame(rows)


def _in_per_cent(summary: dict) -> dict[str, float]:
    return {
        "max F1": 100 * summary["max_f1"],
        "F1 at validation threshold": 100 * summary["f1_at_validation_threshold"],
    }


def detection_table(summaries: dict[str, dict[str, dict]], kind: str) -> pd.DataFrame:
    """One row a test set in which any of this `kind`, axes or centres, is marked, from the same summaries."""
    rows = []
    for test_set, by_task in summaries.items():
        for summary in by_task.values():
            found = summary.get(kind)  # there is none of the other task
            if found is None or not found["marked"]:
                continue
            orders = {"sAP@{}": found["sap"]["released"], "by score @{}": found["sap"]["by_score"]}
            areas = {
                heading.format(limit): 100 * area
                for heading, by_limit in orders.items()
                for limit, area in (by_limit or {}).items()
            }
            figures = {heading: 100 * found[key] for heading, key in DETECTION_HEADINGS.items()}
            rows.append({"test set": test_set, "marked": found["marked"], **areas, **figures})
    return pd.DataFrame(rows)


def robustness_table(summaries: dict[str, dict[str, float | None]]) -> pd.DataFrame:
    """One row a transformation, from the summaries of pipeline.evaluation.robustness."""
    headings = {
        "max_f1": "max F1",
        "f1_at_threshold": "F1 at validation threshold",
        "model_disagreement": "inconsistency",
        "model_mean_difference": "mean difference",
        "decoder_disagreement": "inconsistency of the decoder",
        "decoder_mean_difference": "its mean difference",
    }
    table = 100 * pd.DataFrame(summaries, dtype=float).T[list(headings)]
    return table.rename(columns=headings).rename_axis("DENDI's test images").reset_index()
