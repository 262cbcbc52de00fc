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
params.yaml keeps what `-S` wrote, so that the next run would fail, too. Set the key again with `-S`, or take the file
back from Git with `git show HEAD:./params.yaml > params.yaml`, your own uncommitted changes of it as well. (DVC may
have told Git that the file is unchanged; then `git status` says nothing, and `git checkout` does nothing.)"""


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
    # By content: after a failed experiment Git's index may hold the changed file's size and time, and HEAD's content.
    words = ["git", "rev-parse", "HEAD:./params.yaml"], ["git", "hash-object", "params.yaml"]
    committed, present = (subprocess.run(command, capture_output=True).stdout for command in words)
    return bool(committed) and committed != present


if __name__ == "__main__":
    run_stage(check)
