"""Tables of the report: our figures, and the published ones beside them. F1 in per cent."""

import pandas as pd

from pipeline.reporting.published import published
from pipeline.scoring.sets import CENTRE, CLASSICAL, DOUBT, PACKAGED, RANDOM, TRAINED

UNTRAINED = CLASSICAL, CENTRE, RANDOM
PLACES = {"found": "that were found", "at marks": "looked at where they are marked"}
DETECTION_HEADINGS = {"max F": "max_f1", "F at detection threshold": "f1", "top-1": "top1"}


def main_table(
    summaries: dict[str, dict[str, dict]], baselines: dict[str, dict[str, dict]], comparable: bool
) -> pd.DataFrame:
    """Rows for each test set that has ground truth: of the trained model, of the shipped weights and of what was never
    trained, from {set: {task: summary of pipeline.evaluation.evaluate, with that of the shipped weights}} and
    {set: {task: those of pipeline.evaluation.baselines}}.

    `comparable`: put CLIPSym's published figures beside ours; only right on the published data.
    """
    rows = []
    for test_set, by_task in summaries.items():
        for task, summary in by_task.items():
            if summary["max_f1"] is None:
                continue
            row = {"test set": test_set, "task": task, "images": summary["images"]}
            beside = {"published CLIPSym": published("CLIPSym", test_set, task)} if comparable else {}
            rows.append({**row, "model": TRAINED, **_in_per_cent(summary), **beside})
            rows.append({**row, "model": PACKAGED, **_in_per_cent(summary["shipped"])})
            rows += [
                {**row, "model": name, "max F1": 100 * baselines[test_set][task][name]["max_f1"]} for name in UNTRAINED
            ]
    return pd.DataFrame(rows)


def _in_per_cent(summary: dict) -> dict[str, float]:
    return {
        "max F1": 100 * summary["max_f1"],
        "F1 at validation threshold": 100 * summary["f1_at_validation_threshold"],
    }


def detection_table(
    summaries: dict[str, dict[str, dict]], baselines: dict[str, dict[str, dict]], kind: str
) -> pd.DataFrame:
    """Rows for each test set in which any of this `kind`, axes or centres, is marked, as those of `main_table` but for
    the random map, from the same summaries."""
    rows = []
    for test_set, by_task in summaries.items():
        for task, summary in by_task.items():
            if kind not in summary or not summary[kind]["marked"]:  # there is none of the other task
                continue
            untrained = baselines[test_set][task]
            models = {TRAINED: summary, PACKAGED: summary["shipped"], **{n: untrained[n] for n in (CLASSICAL, CENTRE)}}
            for model, scores in models.items():
                found = scores[kind]
                row = {"test set": test_set, "marked": found["marked"], "model": model}
                folds = {f"{heading} with fold": area for heading, area in _areas(found.get("fold_sap", {})).items()}
                rows.append(row | _areas(found["sap"]) | _shares(found) | folds)
    return pd.DataFrame(rows)


def fold_table(summaries: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """Rows for each test set and marked fold: how often each fold was told of the centres that the trained model found,
    and where they are marked; from the same summaries.
    """
    rows = [
        {"test set": test_set, "looked at": where, "fold": int(fold), "centres": sum(told.values()), **told}
        for test_set, by_task in summaries.items()
        for summary in by_task.values()
        for where, found in summary.get("centres", {}).get("folds", {}).items()
        for fold, told in found["told"].items()
    ]
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    order = sorted(set(table) - {*list(table)[:4], DOUBT}, key=int)
    table = table.reindex(columns=[*list(table)[:4], *order, DOUBT])
    return table.astype({name: "Int64" for name in [*order, DOUBT]}).fillna(0)


def folds_right(summaries: dict[str, dict[str, dict]]) -> str:
    """In words: the share of centres whose fold was told."""
    said = [
        f"{test_set} {100 * found['right']:.1f} % of the {found['centres']} {PLACES[where]}"
        for test_set, by_task in summaries.items()
        for summary in by_task.values()
        for where, found in summary.get("centres", {}).get("folds", {}).items()
        if found["centres"]
    ]
    return f"Told right: {'; '.join(said)}."


def _areas(sap: dict[str, dict[str, float] | None]) -> dict[str, float]:
    """sAP in per cent, in both orders, at each threshold."""
    orders = {"sAP@{}": sap.get("released"), "by score @{}": sap.get("by_score")}
    return {
        heading.format(limit): 100 * area
        for heading, by_limit in orders.items()
        for limit, area in (by_limit or {}).items()
    }


def _shares(found: dict) -> dict[str, float | None]:
    """The competition's scores in per cent; None where there is none, as no detection threshold is known."""
    return {heading: None if found[key] is None else 100 * found[key] for heading, key in DETECTION_HEADINGS.items()}


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
