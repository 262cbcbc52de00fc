"""Weights on the Hugging Face hub: hf://OWNER/REPO/FILE -> a file of this machine.

The package huggingface_hub keeps what was downloaded in its cache, asks the hub whether it has changed, and takes the
cached file where there is no network. Its environment variables hold, such as HF_HOME, HF_TOKEN and HF_ENDPOINT.
"""

from pathlib import Path

from pipeline.errors import CheckpointError, needs

SCHEME = "hf://"
FILE = "model.safetensors"


def located(weights: str | Path) -> Path:
    """The file that is meant, downloaded where it is not in the cache; a path is given back as it is.

    Raises CheckpointError where there is no such file or the hub cannot be reached, and PackageError where the package
    huggingface_hub is missing.
    """
    address = str(weights)
    if not address.startswith(SCHEME):
        return Path(weights)
    owner, repository, file = (*address.removeprefix(SCHEME).split("/", 2), "", "")[:3]
    if not owner or not repository:
        raise CheckpointError(f"{address}: expected hf://OWNER/REPO or hf://OWNER/REPO/FILE")
    with needs("huggingface_hub"):
        from huggingface_hub import constants, errors, hf_hub_download

    name, file = f"{owner}/{repository}", file or FILE
    try:
        return Path(hf_hub_download(name, file))
    except errors.GatedRepoError:
        reason = f"{name} is given out on request only; ask there, then set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        reason = f"{constants.ENDPOINT} has no model {name}, or a private one: then set HF_TOKEN"
    except errors.LocalEntryNotFoundError as error:
        cause = _first_line(error.__cause__ or error)
        reason = f"it is not in the cache, and {constants.ENDPOINT} does not answer: {cause}"
    except errors.EntryNotFoundError:
        reason = f"{name} has no file {file}"
    except Exception as error:  # of the transport, which differs between versions, or a malformed name
        reason = _first_line(error)
    raise CheckpointError(f"{address}: {reason}")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
