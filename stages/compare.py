"""`make compare`: the metrics of this checkout beside those of a Git revision, as Markdown.

Exit code 1 when a metric is missing on either side or an F1 fell: `dvc metrics diff` shows both and succeeds.
"""

import argparse
import json
import re
import subprocess
import sys

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo

from pipeline.errors import UserError
from pipeline.reporting.compare import failures
from stages.command import run_stage

# Kept in Git beside the metrics of dvc.yaml, and too wide for `dvc exp show`.
BESIDES = ("metrics/robustness.json", "metrics/ablation.json", "metrics/data.json")
NOT_IN_CACHE = "not in DVC's cache; `dvc fetch --all-branches` takes it from a remote, `cache: false` lets Git keep it"


def compare(*words: str) -> None:
    """Print the verdict with its reasons, what changed, and the stages whose metrics may be out of date."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("target", help="a Git revision, such as origin/main")
    parser.add_argument("--max-drop", type=float, default=1.0, metavar="POINTS", help="an F1 may fall by (default: 1)")
    chosen = parser.parse_args(words)
    require_revision(chosen.target)
    (old_task, old), (task, new) = read_metrics(chosen.target), read_metrics(None)
    found = failures(old, new, chosen.target, chosen.max_drop)
    if old_task != task:
        found.insert(0, f"`task` is {old_task} at {chosen.target}, {task} here: their F1 are not of the same")
    passed = f"**Passed**: no metric is missing, no F1 fell by more than {chosen.max_drop} points."
    parts = [
        f"## Metrics beside {chosen.target}",
        "\n".join(["**Failed**:", "", *(f"- {failure}" for failure in found)]) if found else passed,
        difference("metrics", chosen.target, "--targets", *sorted({*old, *new})) or "No metric changed.",
        difference("params", chosen.target) or "No parameter changed.",
    ]
    print("\n\n".join(parts + outdated()))
    if found:
        sys.exit(1)


def require_revision(target: str) -> None:
    """Stop unless Git has this commit."""
    words = ["git", "rev-parse", "--verify", "--quiet", f"{target}^{{commit}}"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.stderr:  # of an unknown revision it says nothing
        raise UserError(f"Git cannot read this folder's history: {done.stderr.strip()}")
    if done.returncode:
        branch = target.removeprefix("origin/")
        raise UserError(
            f"no Git revision {target!r} here. Fetch the history: `fetch-depth: 0` of actions/checkout, "
            f"`git fetch --unshallow`, or `git fetch origin {branch}:refs/remotes/origin/{branch}`"
        )


def read_metrics(revision: str | None) -> tuple[str | None, dict[str, dict | str]]:
    """The task, and {file: what it holds, or why it cannot be read} of the metrics, at a Git revision or here (None).

    Not by DVC's own reading, which leaves out nulls. The project may lie anywhere below the root of the Git repository.
    """
    place = revision or "this checkout"
    try:
        with Repo() as repo, repo.switch(revision or "workspace"):
            shown = repo.metrics.show()[""]
            if "error" in shown:
                raise UserError(f"{place}: {shown['error']}")
            others = [file for file in BESIDES if repo.dvcfs.exists(repo.dvcfs.root_marker + file)]
            names = dict.fromkeys([*shown["data"], *others])
            params = repo.params.show(targets=["params.yaml"], on_error="raise")[""]["data"]["params.yaml"]["data"]
            return params.get("task"), {file: read_metric(repo.dvcfs, file) for file in names}
    except DvcException as error:
        raise UserError(f"{place}: {error}") from error


def read_metric(files: DVCFileSystem, file: str) -> dict | str:
    """What a file of JSON holds, kept by Git or by DVC; a string says why it cannot be read."""
    path = files.root_marker + file  # the root of the DVC project, wherever the command is called
    try:
        metrics = json.loads(files.read_text(path))
    except FileNotFoundError:
        return NOT_IN_CACHE if files.isdvc(path) else "no such file"
    except Exception as error:  # each kind of remote fails in its own way
        return f"{type(error).__name__}: {error}"
    return metrics if isinstance(metrics, dict) else "no JSON object"


def outdated() -> list[str]:
    """A warning about the stages that dvc.lock is not current for, if there are any."""
    done = run_dvc("repro", "--dry", "--allow-missing", "--keep-going")
    # A changed stage whose dependencies are missing, as in a fresh clone, is not run but fails.
    lines = re.findall(r"^(?:Running stage|ERROR: failed to reproduce) .*", done.stdout + done.stderr, re.MULTILINE)
    stages = [f"`{name}`" for line in lines for name in re.findall("'(.+?)'", line)]
    if stages:
        return [
            f"**Warning**: dvc.lock is not current for {', '.join(stages)} and what depends on them. These metrics may "
            "be those of other code, data or parameters; `dvc repro` makes them anew."
        ]
    return [f"**Warning**: cannot tell whether dvc.lock is current: {done.stderr.strip()}"] if done.returncode else []


def difference(kind: str, target: str, *options: str) -> str:
    """DVC's table of the metrics or params that are not as at the target; empty when all are."""
    done = run_dvc(kind, "diff", "--md", target, *options)
    if done.returncode:
        raise UserError(f"dvc {kind} diff: {done.stderr.strip()}")
    lines = done.stdout.strip().splitlines()
    return "\n".join(lines[:2] + sorted(lines[2:])) if lines[2:] else ""  # DVC's order of files is another each time


def run_dvc(*words: str) -> subprocess.CompletedProcess:
    """What `dvc` says in the folder of the project."""
    return subprocess.run([sys.executable, "-m", "dvc", *words], cwd=Repo.find_root(), capture_output=True, text=True)


if __name__ == "__main__":
    run_stage(compare)
