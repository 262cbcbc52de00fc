"""What the packed data sets hold, as tables: images and their marks, what was found in them, and copies."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipeline.data.packed.split import SUFFIX, PackedSplit
from pipeline.data.preparation.catalogue import SPLITS
from pipeline.data.report.duplicates import fingerprint, pairs
from pipeline.params.choices import Task

IMAGE = ["dataset", "split", "number", "name", "height", "width", "axes", "discs", "centres", "marked", "file"]
FINDING = ["dataset", "split", "kind", "what", "text", "image"]
PLACE = ["dataset", "split", "name", "number"]  # of one of two copies; the other's columns end in _2
COUNTS = ["images", "marked", "axes", "discs", "centres", "fault", "repair", "note", "leaks"]


@dataclass(frozen=True)
class Survey:
    """One row an image, a rotation centre (its fold), a finding, a pair of copies.

    `images`: columns IMAGE, `number` within the split, sizes in pixels, `marked` for the task. `folds`: dataset, fold.
    `findings`: columns FINDING. `copies`: PLACE of both images, and `leak`: whether they are in different splits.
    """

    images: pd.DataFrame
    folds: pd.DataFrame
    findings: pd.DataFrame
    copies: pd.DataFrame

    def counts(self) -> pd.DataFrame:
        """Of each split, in columns COUNTS; `leaks` are images with a copy in another split, of whatever data set."""
        table = self.images.groupby(["dataset", "split"], sort=False)[["marked", "axes", "discs", "centres"]].sum()
        table["images"] = self.images.groupby(["dataset", "split"]).size()
        kinds = self.findings.groupby(["dataset", "split", "kind"]).size().unstack("kind")
        table = table.join(kinds, how="outer", sort=False).join(self._leaking(), how="left")
        return in_order(table.reindex(columns=COUNTS).fillna(0).astype(int).reset_index())

    def _leaking(self) -> pd.Series:
        leaks = self.copies[self.copies["leak"]]
        other = leaks[[f"{column}_2" for column in PLACE]].set_axis(PLACE, axis=1)
        ends = pd.concat([leaks[PLACE], other]).drop_duplicates()
        return ends.groupby(["dataset", "split"]).size().rename("leaks")


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """A table sorted by its columns dataset, as the catalogue has them, and split."""
    order = {name: place for place, name in enumerate([*SPLITS, "train", "val", "test"])}
    return table.sort_values(["dataset", "split"], key=lambda names: names.map(order), ignore_index=True)


def survey(packed: Path, task: Task) -> Survey:
    """Look at every image of every packed data set, whose folders lie in `packed`."""
    images, folds, findings, prints = [], [], [], []
    for dataset, names in SPLITS.items():
        found = json.loads((packed / dataset / "findings.json").read_text())
        findings += [{"dataset": dataset, "split": split, **entry} for split in found for entry in found[split]]
        for name in names:
            split = PackedSplit(packed / dataset / f"{name}{SUFFIX}", task)
            split.require_whole()
            for number in tqdm(range(len(split)), desc=f"{dataset} {name}", unit="image"):
                record, marks = split.record(number), split.annotation(number)
                images.append(
                    {"dataset": dataset, "split": name, "number": number, "marked": marks.serves(task), **record}
                    | {"axes": len(marks.axes), "discs": len(marks.discs), "centres": len(marks.centres)}
                )
                folds += [{"dataset": dataset, "fold": centre.fold} for centre in marks.centres]
                prints.append(fingerprint(split.letterbox(number).cut(split.image(number))))
    return Survey(
        pd.DataFrame(images, columns=IMAGE),
        pd.DataFrame(folds, columns=["dataset", "fold"]),
        pd.DataFrame(findings, columns=FINDING),
        pd.DataFrame(
            [_pair(images[first], images[second]) for first, second in pairs(prints)],
            columns=[*PLACE, *(f"{column}_2" for column in PLACE), "leak"],
        ).astype({"leak": bool}),
    )


def _pair(first: dict, second: dict) -> dict:
    ends = {column: first[column] for column in PLACE} | {f"{column}_2": second[column] for column in PLACE}
    return ends | {"leak": first["split"] != second["split"]}
