"""Tables of the report: our figures, and the published ones beside them (METHOD section 9). F1 in per cent."""

import pandas as pd

# Published F1 on the real test sets; None where no figure is known. All but CLIPSym's own on DENDI and MetaCLIP's are
# taken from papers that cite them.
PUBLISHED = pd.DataFrame(
    [
        ("PMCNet", 53.8, None, 40.8, 30.5, 33.8),
        ("EquiSym", 61.7, 22.0, 48.2, 37.7, 41.1),
        ("CLIPSym", 66.5, 25.1, 51.8, 39.5, 42.8),
        ("CLIPSym, MetaCLIP", 66.7, None, None, None, None),
        ("CLIPSym, no text", 63.7, 17.7, None, None, None),
        ("CLIPSym, plain upsampler", 62.9, 24.2, None, None, None),
    ],
    columns=["method", "dendi reflection", "dendi rotation", "sdrw reflection", "ldrs reflection", "mixed reflection"],
).set_index("method")


def main_table(summaries: dict[str, dict[str, dict]], comparable: bool) -> pd.DataFrame:
    """One row a test set that has ground truth, from {set: {task: summary of pipeline.evaluation}}.

    `comparable`: put CLIPSym's published figures beside ours; only right on the published data.
    """
    rows = []
    for test_set, by_task in summaries.items():
        for task, summary in by_task.items():
            if summary["max_f1"] is not None:
                rows.append(
                    {
                        "test set": test_set,
                        "task": task,
                        "images": summary["images"],
                        "max F1": 100 * summary["max_f1"],
                        "F1 at validation threshold": 100 * summary["f1_at_validation_threshold"],
                        "random map": 100 * summary["random_map_f1"],
                        "centre map": 100 * summary["centre_map_f1"],
                    }
                    | ({"published CLIPSym": published("CLIPSym", test_set, task)} if comparable else {})
                )
    return pd.DataFrame(rows)


def robustness_table(summaries: dict[str, dict[str, float | None]]) -> pd.DataFrame:
    """One row a transformation, from the summaries of pipeline.robustness."""
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


def published(method: str, test_set: str, task: str) -> float | None:
    """The published F1 of a method in per cent; None where none is known."""
    column = f"{test_set} {task}"
    return PUBLISHED[column].get(method) if column in PUBLISHED else None


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table with one decimal a figure and a dash where there is none."""
    return table.astype(object).where(table.notna(), None).to_markdown(index=False, floatfmt=".1f", missingval="-")
