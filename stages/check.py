"""Stage `check`: every key of params.yaml is allowed, and weights and prompts are at hand."""

import os
import subprocess
from pathlib import Path

from pipeline.errors import BackboneError, ParamsError
from pipeline.model.backbones.hub import require_files
from pipeline.params import Params, load_params
from pipeline.params.project import project
from pipeline.runtime.files import write_text
from stages.command import run_stage

RESTORE = """
params.yaml keeps what `-S` wrote, so that the next run would fail, too. `git diff params.yaml` shows it. Set the key
again with `-S`, or `git checkout -- params.yaml`, which takes back your own uncommitted changes of the file as well."""


def check() -> None:
    """Fail before any work is done; leave a mark that never changes, so that nothing reruns for its sake."""
    try:
        require(load_params())
    except (ParamsError, BackboneError) as error:
        raise type(error)(f"{error}{RESTORE if changed_by_dvc() else ''}") from None
    write_text(Path("data/checked"), "params.yaml and the weights of its backbones were checked\n")


def require(params: Params) -> None:
    """Raise ParamsError or BackboneError for what is missing; first what is found without torch, in a second."""
    backbones = [params.backbones[name] for name in sorted({params.backbone, *params.ablation.backbone})]
    for backbone in backbones:
        require_files(backbone)
    from pipeline.model.backbones.catalogue import require_weights
    from pipeline.model.prompts import chosen

    for backbone in backbones:
        require_weights(backbone)
    for kind in {params.prompts.kind, *params.ablation.prompts}:
        chosen(params.prompts.model_copy(update={"kind": kind}), params.seed)


def changed_by_dvc() -> bool:
    """Whether `dvc exp run`, which alone sets this variable, runs in the project itself and params.yaml is changed."""
    if "DVC_EXP_NAME" not in os.environ or project() != Path.cwd():
        return False
    words = ["git", "diff", "--quiet", "HEAD", "--", "params.yaml"]
    return subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 1


if __name__ == "__main__":
    run_stage(check)
