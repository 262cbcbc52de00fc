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


def ablation_table(scores: list[dict], comparable: bool) -> pd.DataFrame:
    """One row a cell of the grid; `comparable` as for `main_table`."""
    rows = [
        {
            "backbone": cell["backbone"],
            "prompts": cell["prompts"],
            "upsampler": cell["upsampler"],
            "task": cell["task"],
            "max F1": 100 * cell["max_f1"],
            "validation F1": 100 * cell["validation_f1"],
        }
        | ({"published, this change to CLIPSym": _published_cell(cell)} if comparable else {})
        for cell in scores
    ]
    return pd.DataFrame(rows)


def published(method: str, test_set: str, task: str) -> float | None:
    """The published F1 of a method in per cent; None where none is known."""
    column = f"{test_set} {task}"
    return PUBLISHED[column].get(method) if column in PUBLISHED else None


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table with one decimal a figure and a dash where there is none."""
    return table.astype(object).where(table.notna(), None).to_markdown(index=False, floatfmt=".1f", missingval="-")


def _published_cell(cell: dict) -> float | None:
    """The paper's figure for the same change to its model, where it changed one thing at a time."""
    change = cell["prompts"], cell["upsampler"]
    names = {
        ("sapg", "equivariant"): "CLIPSym",
        ("none", "equivariant"): "CLIPSym, no text",
        ("sapg", "plain"): "CLIPSym, plain upsampler",
    }
    return published(names[change], "dendi", cell["task"]) if change in names else None
