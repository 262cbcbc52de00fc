"""Where weights lie: in a file or folder that is named, or in the hub's cache.

Without torch and open_clip, whose imports take seconds: what is missing is to be said at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, model_info, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from pipeline.errors import BackboneError, brief
from pipeline.params import BackboneParams
from pipeline.params.project import located

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
WEIGHT_FILES = (*HUB_FILES, "model.safetensors", "model.pt")

# Where open_clip has its tags of the catalogue from; of others it is asked itself.
REPOSITORIES = {
    ("ViT-B-16-quickgelu", "openai"): "timm/vit_base_patch16_clip_224.openai",
    ("ViT-B-16-quickgelu", "metaclip_400m"): "timm/vit_base_patch16_clip_224.metaclip_400m",
    ("ViT-B-16-quickgelu", "metaclip_fullcc"): "timm/vit_base_patch16_clip_224.metaclip_2pt5b",
    ("ViT-B-16-quickgelu", "dfn2b"): "apple/DFN2B-CLIP-ViT-B-16",
    ("ViT-B-16", "laion2b_s34b_b88k"): "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    ("ViT-B-16-SigLIP", "webli"): "timm/ViT-B-16-SigLIP",
    ("ViT-L-14-quickgelu", "openai"): "timm/vit_large_patch14_clip_224.openai",
}


def require_files(config: BackboneParams) -> None:
    """Raise BackboneError for weights that are missing, as far as it can be said without the libraries of models."""
    if config.weights is not None:
        local_weights(config.weights)
    elif repository := REPOSITORIES.get((config.model, config.pretrained)):
        at_hand(config, repository)


def local_weights(path: Path) -> Path:
    """The weights file at `path`, or inside it if it is a folder."""
    path = located(path)
    candidates = [path / name for name in WEIGHT_FILES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise BackboneError(f"{path}: no weights there; expected a file, or a folder with one of {', '.join(WEIGHT_FILES)}")


def at_hand(config: BackboneParams, repository: str) -> Path | None:
    """The weights of a repository of the hub in its cache; None: the hub has them. Raises BackboneError."""
    with explained(config, repository):
        for name in HUB_FILES:
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str):
                return Path(cached)
        if len(held := snapshots(repository)) == 1:
            return held[0]
        model_info(repository, timeout=10)  # fails at once without a network, where a download tries for a minute
        return None


def snapshots(repository: str) -> list[Path]:
    """The different weights of a repository in the hub's cache, of whatever commit: who copies a cache, or fetches a
    commit by its name, has no `refs/main` that tells the newest one.
    """
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "snapshots"
    for name in HUB_FILES:
        files = {path.resolve(): path for path in sorted(folder.glob(f"*/{name}")) if path.is_file()}
        if files:
            return list(files.values())
    return []


@contextmanager
def explained(config: BackboneParams, repository: str) -> Iterator[None]:
    """Turn what the hub's client raises, errors of several libraries, into a BackboneError with what can be done."""
    try:
        yield
    except Exception as error:
        held = ", ".join(map(str, snapshots(repository)))
        raise BackboneError(
            f"no weights for {config.model} / {config.pretrained}. Two ways to have them:\n"
            f"  with a network they come from the hub (huggingface.co/{repository});\n"
            f"  without one, name a file or folder of open_clip weights under backbones.NAME.weights in params.yaml\n"
            f"  (dvc exp run -S backbone=NAME -S backbones.NAME.weights=/path/to/file).\n"
            + (f"The hub's cache holds several, of which one may be named there: {held}\n" if held else "")
            + f"The hub said: {brief(error)}"
        ) from None
