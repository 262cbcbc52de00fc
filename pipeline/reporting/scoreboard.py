"""One table of methods by scores on all test sets, ours and published ones, in per cent."""

from collections.abc import Iterator

import pandas as pd

from pipeline.params.choices import Task
from pipeline.reporting.published import PUBLISHED, SAP, SOURCE, TURNED, published
from pipeline.scoring.sets import KINDS, TEST_SETS, TRAINED

AREA, TURNED_F1, INCONSISTENCY = "sAP@10", "dendi F1, turned", "dendi inconsistency, turned"
AXISSYM = "AxisSym"


def scoreboard(
    scores: pd.DataFrame, found: pd.DataFrame, turned: dict[str, float | None], task: Task, data: str
) -> pd.DataFrame:
    """One row a method, from `main_table`, `detection_table` and the trained model's robustness to random turns.

    Columns: `method`; `data`, of which the test sets are; of each test set the best F1 of heat maps, and the sAP@10 of
    axes or centres in the released order; DENDI's F1 and inconsistency under random turns; `source`. Those without any
    figure are left out. Figures of `embedded` and of `real` data are not to be compared.
    """
    rows: dict[str, dict] = {}
    for method, column, figure in _ours(scores, found, turned):
        rows.setdefault(method, {"method": method, "data": "real" if data == "published" else data})[column] = figure
    for method, source, column, figure in _published(task):
        rows.setdefault(method, {"method": method, "data": "real", "source": source})[column] = figure
    figures = [f"{name} {score}" for score in ("F1", AREA) for name in TEST_SETS]
    columns = ["method", "data", *figures, TURNED_F1, INCONSISTENCY, "source"]
    return (
        pd.DataFrame(rows.values(), columns=columns)
        .fillna({"source": "this run of this project"})
        .dropna(axis=1, how="all")
    )


def _ours(
    scores: pd.DataFrame, found: pd.DataFrame, turned: dict[str, float | None]
) -> Iterator[tuple[str, str, float | None]]:
    """Method, column and figure of what was measured here."""
    for table, score, heading in ((scores, "F1", "max F1"), (found, AREA, AREA)):
        for row in table.to_dict("records"):
            yield row["model"], f"{row['test set']} {score}", row.get(heading)
    for column, key in ((TURNED_F1, "max_f1"), (INCONSISTENCY, "model_disagreement")):
        figure = turned[key]
        yield TRAINED, column, None if figure is None else 100 * figure


def _published(task: Task) -> Iterator[tuple[str, str, str, float | None]]:
    """Method, source, column and figure of what others published."""
    for method in PUBLISHED.index:
        for name in TEST_SETS:
            yield method, SOURCE["F1"], f"{name} F1", published(method, name, task)
        if task == "reflection" and method in TURNED.index:
            yield method, SOURCE["F1"], TURNED_F1, TURNED.at[method, "F1"]
            yield method, SOURCE["F1"], INCONSISTENCY, 100 * TURNED.at[method, "consistency"]
    yield AXISSYM, SOURCE["sAP"], f"dendi {AREA}", SAP[KINDS[task]][1]  # of the limits 5, 10 and 15
