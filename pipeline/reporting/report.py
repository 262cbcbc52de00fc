"""The report: one Markdown page with tables and pictures, from what the other stages left."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.figures.tables import to_latex, to_markdown
from pipeline.params import Params
from pipeline.reporting.presets import preset_table, readable
from pipeline.reporting.published import CLIPSYM, PLAIN, PUBLISHED, SAP, TURNED
from pipeline.reporting.scoreboard import scoreboard
from pipeline.reporting.tables import UNTRAINED, detection_table, fold_table, folds_right, main_table, robustness_table
from pipeline.scoring.sets import KINDS, TRAINED

if TYPE_CHECKING:
    from pipeline.model.checkpoint import ModelRecord

EMBEDDED_NOTE = (
    "**Not comparable with published figures.** The data are miniature copies, made from photographs of installed "
    "packages by mirroring and rotating their content; `photos` are real photographs, but few. The published figures "
    "further down are of the real DENDI, SDRW and LDRS, and of a ViT-B/16 trained on GPUs."
)
PUBLISHED_NOTE = (
    "Comparable with the published column where the backbone is `clip`, the decoder's width 64, its group C8 with 2 "
    "layers, the prompts 25 of 4 words, and the training sets are the paper's: DENDI for DENDI; NYU, LDRS and SDRW for "
    "SDRW, LDRS and mixed."
)
SCORES_NOTE = (
    "`shipped weights` are those of `symmetry detect`, here at this model's input size and without further views. "
    "`max F1` picks the threshold on the test set, as all published tables do; the column beside it takes the "
    "threshold that was best on validation. Three baselines were never trained: `classical` is a detector by pairs of "
    "SIFT features; `centre map` and `random map` look at no image: a map that falls off from the vertical centre "
    "line (rotation: from the centre), and smooth noise."
)
DETECTION_NOTE = (
    "What `symmetry detect` finds in these heat maps, what the classical detector finds, and the vertical centre line "
    "(rotation: the centre), beside the marks. sAP is AxisSym's, with its order of an image's "
    "predictions, and by their score; max F and top-1 are those of the SDRW competition; docs/evaluation.md explains "
    "them. Scores are those of the heat map, also for the shipped weights, of which `symmetry detect` makes "
    "probabilities. The detection threshold was chosen on validation images and is stored with the model. Published "
    "for AxisSym on the real DENDI, sAP@5, 10 and 15: {}."
).format("; ".join(f"{kind} {', '.join(map(str, figures))}" for kind, figures in SAP.items()))
ROBUSTNESS_NOTE = (
    "The images and their truth are turned by up to 45 degrees at random, by a quarter turn, or mirrored. "
    "`inconsistency` is 1 - F1 between T model(x) and model(T x), both thresholded as on validation; `mean "
    "difference` is that of their probabilities; 0 is best. The published figures, of the real DENDI under random "
    "turns and by a formula that was not published: F1 {0[F1]}, consistency {0[consistency]}; with the plain "
    "upsampler {1[F1]} and {1[consistency]}."
).format(TURNED.loc[CLIPSYM], TURNED.loc[PLAIN])
SCOREBOARD_NOTE = (
    "Ours, and what others published. Rows of `embedded` and of `real` data have other images and are not to be "
    "compared. F1 is the best of heat maps, sAP@10 that of axes or centres in AxisSym's order; 0 is the best "
    "inconsistency. The same table is beside this page as CSV and LaTeX."
)
SHOWN_NOTE = (
    "Of each test set the best image, the worst, and some evenly between, by their own F1 at the validation threshold. "
    "Left the image with the truth: axes green, discs blue, centres pink with their fold. Right the heat map over it."
)
PICTURES = ("gallery.png", "pr.png")  # of each test set, made by its evaluation


def write_report(
    params: Params,
    record: "ModelRecord",
    summaries: dict[str, dict[str, dict]],
    baselines: dict[str, dict[str, dict]],
    transformed: dict[str, dict[str, float | None]],
    cells: list[dict],
    evaluation: Path,
    folder: Path,
) -> None:
    """Write `report.md`, the tables as CSV and copies of the pictures into `folder`.

    `evaluation` holds one folder a test set with `pr.png` and `gallery.png`; `summaries` and `baselines` are by test
    set and task, `transformed` by transformation; `cells` are the scores of the grid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    comparable = params.data == "published"
    scores, grid = main_table(summaries, baselines, comparable), preset_table("grid", cells)
    kind = KINDS[params.task]
    found = detection_table(summaries, baselines, kind)
    scores.to_csv(folder / "f1.csv", index=False)
    found.to_csv(folder / f"{kind}.csv", index=False)
    grid.to_csv(folder / "ablation.csv")
    PUBLISHED.to_csv(folder / "published.csv")
    (folder / "f1.md").write_text(to_markdown(scores) + "\n")
    everything = scoreboard(scores, found, transformed["rotation"], params.task, params.data)
    everything.to_csv(folder / "scoreboard.csv", index=False)
    (folder / "scoreboard.md").write_text(to_markdown(everything) + "\n")
    (folder / "scoreboard.tex").write_text(to_latex(everything))
    parts = [
        f"# CLIPSym: {params.task} on {params.data} data",
        _model(params, record),
        "## F1 by test set, in per cent",
        to_markdown(scores),
        PUBLISHED_NOTE if comparable else EMBEDDED_NOTE,
        against_baselines(scores),
        SCORES_NOTE,
        f"## Found {kind} by test set, in per cent",
        to_markdown(found) if len(found) else f"No {kind} are marked.",
        DETECTION_NOTE,
        *_folds(summaries),
        "## Prompts",
        "\n".join(f"- {prompt}" for prompt in record.prompts) or "none",
        "## Ablation on DENDI, in per cent",
        to_markdown(readable(grid)),
        _ablation_note(params),
        "## Robustness and consistency, in per cent",
        to_markdown(robustness_table(transformed)),
        ROBUSTNESS_NOTE,
        "## All methods, in per cent",
        to_markdown(everything),
        SCOREBOARD_NOTE,
        *_pictures(scores["test set"], evaluation, folder),
    ]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")


def _folds(summaries: dict[str, dict[str, dict]]) -> list[str]:
    """What is said of folds, where any were told."""
    table = fold_table(summaries)
    return ["## Folds told, by the marked fold", to_markdown(table), folds_right(summaries)] if len(table) else []


def _model(params: Params, record: "ModelRecord") -> str:
    name = f"Backbone `{params.backbone}` at {params.chosen.input_size} px"
    if record.decoder is None:
        said = f"{name}: EquiSym, {record.towers!r}. "
    else:
        said = (
            f"{name}, prompts `{params.prompts.kind}` ({len(record.prompts)}), {params.decoder.upsampler} upsampler "
            f"({params.decoder.group}), decoder width {params.decoder.width}, from a `{params.train.start}` start. "
        )
    return (
        f"{said}Best epoch {record.epoch} of {params.train.epochs}, validation F1 "
        f"{100 * record.validation_f1:.1f} (mean over data sets)."
    )


def against_baselines(scores: pd.DataFrame) -> str:
    """In words: on which test sets the trained model's best F1 is above those of all that was not trained."""
    untrained = scores[scores["model"].isin(UNTRAINED)].groupby("test set")["max F1"].max()
    ours = scores[scores["model"] == TRAINED].set_index("test set")["max F1"]
    lead = ours - untrained[ours.index]
    above, below = lead[lead > 0], lead[lead <= 0]
    said = []
    if len(above):
        said.append(f"Above all baselines: {', '.join(f'{name} by {points:.1f}' for name, points in above.items())}.")
    if len(below):
        said.append(f"**Not above them: {', '.join(f'{name} by {points:.1f}' for name, points in below.items())}.**")
    return " ".join(said) or "No test set has ground truth."


def _ablation_note(params: Params) -> str:
    return (
        f"Short runs: {params.ablation.epochs} epochs at {params.ablation.input_size} px, one seed, from pretrained "
        "towers and a fresh decoder. In so few steps one seed in three fails to learn, and F1 differs between seeds by "
        "up to 20 points, so that the order of the rows says nothing about prompts and upsamplers. `dvc repro "
        "ablation/dvc.yaml` runs the ablations of the paper with several seeds, and docs/ablation.md shows them. The "
        "columns on turned images are explained under the next heading; here they are of some of the test images."
    )


def _pictures(test_sets: Iterable[str], evaluation: Path, folder: Path) -> list[str]:
    """Copy the pictures of each test set; the Markdown that shows them."""
    parts = ["## What the model sees", SHOWN_NOTE]
    for test_set in test_sets:
        for picture in PICTURES:
            shutil.copyfile(evaluation / test_set / picture, folder / f"{test_set}-{picture}")
        gallery, curve = (f"{test_set}-{picture}" for picture in PICTURES)
        parts.append(
            f"### {test_set}\n\n![overlays of {test_set}]({gallery})\n\n![precision and recall of {test_set}]({curve})"
        )
    return parts
