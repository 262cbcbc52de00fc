"""What a change makes stale, as `dvc status` says it: `python -m tests.staleness FOLDER` prints a Markdown table.

FOLDER becomes a clone of the last commit with few images and a tiny model, in which the whole main graph is reproduced;
a second call goes on with it as it is. In the place of presets and weights, which take hours, stand files that are
recorded as what their stages made: DVC tells by the deps and the parameters alone.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from dvc.repo import Repo

from pipeline.data.preparation.catalogue import READERS
from pipeline.params.changes import changed
from tests.project import PROJECT, commit, run
from tests.small import shrink

FILES = {"prompts.vocabulary": "words.txt", "train.initial": "initial.pt", "backbones.tiny.weights": "tiny.pt"}
TRAINED, GRID = "ablation/dvc.yaml:", "ablation@"  # the cells: those of the presets, those of the report's grid
Change = Callable[[Path], object]


def comment(*files: str) -> Change:
    """A line at the end of each file that changes nothing."""
    return lambda folder: [(folder / file).write_text(f"{(folder / file).read_text()}# a comment\n") for file in files]


def param(*changes: str) -> Change:
    """Other values in params.yaml."""

    def change(folder: Path) -> None:
        content = yaml.safe_load((folder / "params.yaml").read_text())
        for words in changes:
            content = changed(content, words)
        (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    return change


def reader(dataset: str) -> Change:
    return comment(f"{READERS[dataset].replace('.', '/')}.py")


def own_image(folder: Path) -> None:
    (folder / "data/own/picture.jpg").write_bytes(b"a picture")


CHANGES: dict[str, Change] = {
    "a comment in the command line": comment("pipeline/cli.py"),
    "the page": comment("pipeline/application/page.py", "pipeline/application/server.py"),
    "the detector of the page": comment("pipeline/inference/detector.py"),
    "the downloader": comment("pipeline/data/download/transfer.py"),
    **{f"reader of {dataset}": reader(dataset) for dataset in READERS},
    "monitoring": comment(*(str(p.relative_to(PROJECT)) for p in sorted(PROJECT.glob("pipeline/monitoring/m*.py")))),
    "interruption, writing": comment("pipeline/runtime/files.py", "stages/command.py"),
    "`pipeline/params`": comment("pipeline/params/schema.py"),
    "figures": comment("pipeline/figures/pictures.py"),
    "the report": comment("pipeline/reporting/report.py"),
    "the data report": comment("pipeline/data/report/page.py"),
    "`TEST_SETS`": comment("pipeline/scoring/sets.py"),
    "`short()`": comment("pipeline/evaluation/cells.py"),
    "training": comment("pipeline/training/loop.py"),
    "model": comment("pipeline/model/clipsym.py"),
    "packing": comment("pipeline/data/packed/split.py"),
    "embedded data": comment("pipeline/data/synthesis/embedded.py"),
    "requirements.txt": comment("requirements.txt"),
    "requirements-no-deps.txt": comment("requirements-no-deps.txt"),
    "requirements-dev.txt": comment("requirements-dev.txt"),
    "`machine.workers`, `machine.compile`": param("machine.workers=2", "machine.compile=true"),
    "`seed`": param("seed=1"),
    "`data_seed`": param("data_seed=1"),
    "`published.dendi`": param("published.dendi=/a/dendi.zip"),
    "`published.pmc`": param("published.pmc=/a/pmc.zip"),
    "`published.password`": param("published.password=another"),
    "`own.labels`": param("own.labels=[axis]"),
    "an own image": own_image,
    "`train.datasets` with own": param("train.datasets=[dendi,own]"),
    "`train.augmentation`": param("train.augmentation=turned"),
    "`train.initial`, name": param("train.initial="),
    "`evaluate.sdrw_validation`": param("evaluate.sdrw_validation=released"),
    "`evaluate.gallery`": param("evaluate.gallery=3"),
    "`backbones.tiny.input_size`": param("backbones.tiny.input_size=96"),
    "`ablation.epochs`": param("ablation.epochs=2"),
    **{
        f"content of `{key}`": lambda folder, file=file: (folder / file).write_text("b\n")
        for key, file in FILES.items()
    },
    "packed test images of own": lambda folder: (folder / "data/packed/model/own/more").write_text("b\n"),
}


def prepared(folder: Path) -> None:
    """The reproduced clone, with files that parameters name, and everything recorded."""
    run(folder.parent, "git", "clone", "--quiet", str(PROJECT), str(folder))
    shrink(folder / "params.yaml")
    run(folder, "dvc", "repro")
    for file in [*FILES.values(), "data/photographs/a.jpg"]:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("a\n")
    param(*(f"{key}={file}" for key, file in FILES.items()))(folder)
    run(folder, "dvc", "repro", "--single-item", "named", "weights/dvc.yaml:photographs")
    with Repo(folder) as repo:
        outs = [
            Path(out.fs_path) for file in ("ablation", "weights") for stage in stages(repo, file) for out in stage.outs
        ]
    for path in (path for path in outs if not path.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made\n")
    run(folder, "dvc", "commit", "--force")
    commit(folder, "reproduced")


def stages(repo: Repo, folder: str) -> list:
    return repo.stage.load_all(str(Path(repo.root_dir) / folder / "dvc.yaml"))


def stale(folder: Path) -> list[str]:
    """The names of the stages that are out of date."""
    return list(json.loads(run(folder, "dvc", "status", "--json")))


def brief(names: list[str]) -> str:
    """Names without what a matrix repeats."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stage, _, item = name.partition("@")
        groups.setdefault(stage, []).append(item)
    return ", ".join(f"{stage}@{','.join(items)}" if items[0] else stage for stage, items in groups.items()) or "none"


def row(change: str, names: list[str]) -> str:
    """A row of the table: stages of the main graph by name, cells and the rest of the presets by number."""
    cells = [name for name in names if name.startswith((TRAINED, GRID)) and "table@" not in name]
    tables = sum("table@" in name for name in names)
    weights = [name.partition(":")[2] for name in names if name.startswith("weights/")]
    main = [name for name in names if ":" not in name and name not in cells]
    return f"| {change} | {len(main)}: {brief(main)} | {len(cells)} | {tables} | {brief(weights)} |"


def main(folder: Path) -> None:
    """Prepare the folder where there is none, then make each change, look, and take it back."""
    if not folder.exists():
        prepared(folder)
    assert stale(folder) == [], "the clone is not as it was reproduced"
    print("| change | stages of dvc.yaml | cells | tables | weights/dvc.yaml |\n|---|---|---|---|---|")
    for name, change in CHANGES.items():
        change(folder)
        print(row(name, stale(folder)), flush=True)
        run(folder, "git", "checkout", "--quiet", ".")
        for path in (folder / "data/own/picture.jpg", folder / "data/packed/model/own/more"):
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
