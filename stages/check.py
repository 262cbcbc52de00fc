"""Stage `check`: every key of params.yaml is allowed, and weights and prompts are at hand."""

from pathlib import Path

from pipeline.model.backbones.catalogue import require_weights
from pipeline.model.prompts import chosen
from pipeline.params import load_params
from pipeline.runtime.files import write_text
from stages.command import run_stage


def check() -> None:
    """Fail before any work is done; leave a mark that never changes, so that nothing reruns for its sake."""
    params = load_params()
    for name in {params.backbone, *params.ablation.backbone}:
        require_weights(params.backbones[name])
    for kind in {params.prompts.kind, *params.ablation.prompts}:
        chosen(params.prompts.model_copy(update={"kind": kind}), params.seed)
    write_text(Path("data/checked"), "params.yaml and the weights of its backbones were checked\n")


if __name__ == "__main__":
    run_stage(check)
