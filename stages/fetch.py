"""Stage `fetch`: one data set in its published on-disk format, under data/raw/NAME."""

from pathlib import Path

from pipeline.datasets import embedded, photos, published
from pipeline.params import load_params
from stages.command import run_stage


def fetch(dataset: str) -> None:
    """Make the miniature copy (data: embedded), or copy the real one (data: published)."""
    params, root = load_params(), Path("data/raw") / dataset
    if dataset == "photos":
        photos.copy_from_packages(root)
    elif params.data == "embedded":
        embedded.write(dataset, root, params.embedded.images, params.seed)
    else:
        source = params.published.dendi if dataset == "dendi" else params.published.pmc
        published.bring(dataset, source, params.published.password, root)


if __name__ == "__main__":
    run_stage(fetch)
