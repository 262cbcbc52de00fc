"""The data report: a page, in Markdown and HTML, on what the data sets hold and what was wrong with them."""

from pathlib import Path

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.annotations import Annotation
from pipeline.data.packed.split import SUFFIX, PackedSplit
from pipeline.data.report.survey import PLACE, Survey, in_order
from pipeline.figures.pictures import CARD, LINE, WIDTH, annotated, contact_sheet
from pipeline.figures.tables import to_markdown
from pipeline.params.choices import Task

SHOWN = 12  # pictures of a kind, and lines of a list; the CSV files hold all
STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1240px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:2px 8px}tr:nth-child(even){background:#f6f6f6}img{max-width:100%}"
)
LEGEND = "Axes in green, ellipses in light blue, rotation centres in pink with their fold."


def write_data_report(found: Survey, packed: Path, task: Task, seed: int, folder: Path) -> None:
    """Write report.md, report.html, CSV files of everything and pictures into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images", "findings", "copies"):
        getattr(found, name).to_csv(folder / f"{name}.csv", index=False)
    _distributions(found).savefig(folder / "distributions.png", dpi=110)
    look = Gallery(packed, task, folder)
    parts = [
        f"# The data, for task {task}",
        "## Counts",
        to_markdown(found.counts()),
        "`fault`: a sample that was left out. `repair`: its pixels, marks or name were mended. `note`: nothing was "
        "changed. `leaks`: images with a copy in another split, of whatever data set. `none`: images in no split.",
        "## Distributions",
        "![axes an image, image sizes, folds](distributions.png)",
        "### Axes an image",
        to_markdown(_axes_an_image(found.images)),
        "### Image sizes in pixels",
        to_markdown(_sizes(found.images)),
        "### Rotation centres by fold (0: by any angle, 1: not known)",
        to_markdown(_folds(found.folds)) if len(found.folds) else "None.",
        "## What was found",
        *_findings(found.findings),
        "## Copies across splits",
        *_leaks(found.copies, look),
        "## Suspicious samples",
        *_suspicious(found, look),
        "## Samples drawn at random",
        LEGEND,
        *_random(found.images, look, seed),
    ]
    text = "\n\n".join(parts) + "\n"
    (folder / "report.md").write_text(text)
    body = MarkdownIt("commonmark").enable("table").render(text)
    head = f'<meta charset="utf-8"><title>The data, for task {task}</title><style>{STYLE}</style>'
    (folder / "report.html").write_text(f"<!doctype html>\n<html><head>{head}</head>\n<body>\n{body}</body></html>\n")


class Gallery:
    """Draws packed samples with their marks."""

    def __init__(self, packed: Path, task: Task, folder: Path) -> None:
        self.packed, self.task, self.folder = packed, task, folder

    def card(self, dataset: str, split: str, number: int, caption: str) -> np.ndarray:
        """One sample with its marks, scaled, under a caption."""
        source = PackedSplit(self.packed / dataset / f"{split}{SUFFIX}", self.task)
        marks = Annotation.from_dict(source.record(number)["annotation"])
        return annotated(source.native_image(number), marks, caption)

    def sheet(self, name: str, cards: list[np.ndarray]) -> str:
        """Save a contact sheet as NAME.png; the Markdown that shows it."""
        contact_sheet(cards, CARD + LINE, WIDTH).save(self.folder / f"{name}.png")
        return f"![{name}]({name}.png)"


def _findings(findings: pd.DataFrame) -> list[str]:
    if findings.empty:
        return ["Nothing."]
    groups = findings.groupby(["kind", "what", "dataset"], sort=True)
    parts = [to_markdown(groups.size().rename("files").reset_index())]
    for (kind, what), group in findings.groupby(["kind", "what"], sort=True):
        lines = [f"- `{text}`" for text in group["text"].head(SHOWN)]
        more = [f"- and {len(group) - SHOWN} more in findings.csv"] if len(group) > SHOWN else []
        parts += [f"### {kind.capitalize()}: {what}", "\n".join(lines + more)]
    return parts


def _leaks(copies: pd.DataFrame, look: Gallery) -> list[str]:
    leaks, within = copies[copies["leak"]], len(copies) - copies["leak"].sum()
    said = f"{len(leaks)} pairs of images in different splits are copies of each other; {within} pairs within a split."
    if leaks.empty:
        return [said]
    sides = leaks.groupby([c for p in ("dataset", "split") for c in (p, f"{p}_2")], sort=True).size()
    parts = [said, to_markdown(sides.rename("pairs").reset_index())]
    cards = []
    for row in leaks.head(SHOWN).to_dict("records"):
        for end in ("", "_2"):
            dataset, split, name, number = (row[f"{column}{end}"] for column in PLACE)
            cards.append(look.card(dataset, split, number, f"{dataset} {split} {name}"))
    return [*parts, look.sheet("copies", cards)]


def _suspicious(found: Survey, look: Gallery) -> list[str]:
    """Samples with repairs or notes, a few of each sort."""
    files = found.images[["dataset", "split", "number", "file"]].rename(columns={"file": "image"})
    parts = []
    for (kind, what), group in found.findings.merge(files).groupby(["kind", "what"], sort=True):
        rows = group.drop_duplicates("image").head(SHOWN).to_dict("records")
        cards = [
            look.card(r["dataset"], r["split"], r["number"], f"{r['dataset']} {Path(r['image']).name}") for r in rows
        ]
        parts += [f"### {kind.capitalize()}: {what}", look.sheet(f"{kind}-{what.replace(' ', '-')}", cards)]
    return parts or ["None."]


def _random(images: pd.DataFrame, look: Gallery, seed: int) -> list[str]:
    parts = []
    for dataset, group in images.groupby("dataset", sort=False):
        drawn = group.sample(min(SHOWN, len(group)), random_state=seed).sort_index().to_dict("records")
        cards = [look.card(dataset, row["split"], row["number"], f"{row['split']} {row['name']}") for row in drawn]
        parts += [f"### {dataset}", look.sheet(f"random-{dataset}", cards)]
    return parts


def _axes_an_image(images: pd.DataFrame) -> pd.DataFrame:
    most = 6
    shown = images["axes"].clip(upper=most).map(lambda n: f"{n} or more" if n == most else str(n))
    return in_order(pd.crosstab([images["dataset"], images["split"]], shown).reset_index())


def _sizes(images: pd.DataFrame) -> pd.DataFrame:
    sizes = images.groupby("dataset", sort=False)[["width", "height"]].agg(["min", "median", "max"])
    return sizes.set_axis([" ".join(column) for column in sizes], axis=1).astype(int).reset_index()


def _folds(folds: pd.DataFrame) -> pd.DataFrame:
    return pd.crosstab(folds["dataset"], folds["fold"]).rename(columns=str).reset_index()


def _distributions(found: Survey) -> Figure:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes, sizes, folds = figure.subplots(1, 3)
    for name, group in found.images.groupby("dataset", sort=False):
        images = group["axes"].value_counts().sort_index()
        axes.plot(images.index, images, "o-", markersize=3, label=name)
        sizes.scatter(group["width"], group["height"], s=6, alpha=0.5)
    axes.set(xlabel="axes in an image", ylabel="images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(found.images):
        axes.legend(fontsize=8)
    sizes.set(xlabel="width in pixels", ylabel="height in pixels")
    centres = found.folds["fold"].value_counts().sort_index()
    folds.bar([str(fold) for fold in centres.index], centres.to_numpy())
    folds.set(xlabel="fold of a rotation centre", ylabel="centres")
    return figure
