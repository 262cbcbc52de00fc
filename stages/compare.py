"""`make compare`: the metrics of this checkout beside those of a Git revision, as Markdown.

Exit code 1 when a metric is missing on either side or an F1 fell: `dvc metrics diff` shows both and succeeds.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo

from pipeline.errors import UserError
from pipeline.reporting.compare import flatten, verdict
from stages.command import run_stage

# Kept in Git beside the metrics of dvc.yaml, and too wide for `dvc exp show`.
BESIDES = ("metrics/robustness.json", "metrics/ablation.json", "metrics/data.json")
SPREAD = "metrics/spread.json"  # of `dvc repro ablation/dvc.yaml:spread`
NOT_IN_CACHE = "not in DVC's cache; `dvc fetch --all-branches` takes it from a remote, `cache: false` lets Git keep it"


def compare(*words: str) -> None:
    """Print the verdict with its reasons, what changed, and the stages whose metrics may be out of date."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument("target", help="a Git revision, such as origin/main")
    parser.add_argument("--max-drop", type=float, default=1.0, metavar="POINTS", help="an F1 may fall by (default: 1)")
    chosen = parser.parse_args(words)
    require_revision(chosen.target)
    old, new = read_side(chosen.target), read_side(None)
    apart = {file for file in old.metrics if old.provenance.get(file) != new.provenance.get(file)}
    found, within = verdict(
        old.metrics, new.metrics, chosen.target, chosen.max_drop, dict.fromkeys(apart, flatten(new.spread))
    )
    if old.task != new.task:
        found.insert(0, f"`task` is {old.task} at {chosen.target}, {new.task} here: their F1 are not of the same")
    passed = f"**Passed**: no metric is missing, no F1 fell by more than {chosen.max_drop} points"
    passed += ", or by more than the noise." if apart else "."
    files = sorted({*old.metrics, *new.metrics})
    parts = [
        f"## Metrics beside {chosen.target}",
        listed("**Failed**:", found) if found else passed,
        *([listed("**Noise**:", within)] if within else []),
        *differently_made(old, new, chosen.target, apart),
        difference("metrics", chosen.target, "--targets", *files) or "No metric changed.",
        difference("params", chosen.target) or "No parameter changed.",
    ]
    print("\n\n".join(parts + outdated()))
    if found:
        sys.exit(1)


def listed(heading: str, lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join([heading, "", *(f"- {line}" for line in lines)])


def differently_made(old: "Side", new: "Side", target: str, apart: Iterable[str]) -> list[str]:
    """What is to be known of metrics that were made on different machines; none where all are comparable to the bit."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for file in sorted(apart):
        pairs.setdefault((said(old.provenance.get(file)), said(new.provenance.get(file))), []).append(f"`{file}`")
    lines = [f"at {target} made with {was}, here with {now}: {', '.join(files)}" for (was, now), files in pairs.items()]
    known = f"The noise is that of {SPREAD}." if new.spread else f"{SPREAD} would tell the noise: see docs/ci.md."
    heading = f"**Not comparable to the last bit**, so that small changes mean nothing. {known}"
    return [listed(heading, lines)] if lines else []


def said(provenance: dict | None) -> str:
    """In words."""
    return ", ".join(f"{key} {value}" for key, value in provenance.items()) if provenance else "what is not known"


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


@dataclass(frozen=True)
class Side:
    """The metrics of a version, {file: what it holds, or why it cannot be read}; {file: where it was made}, if that is
    known; the standard deviations of F1 over seeds; and the task.
    """

    metrics: dict[str, dict | str]
    provenance: dict[str, dict]
    spread: dict
    task: str | None


def read_side(revision: str | None) -> Side:
    """What there is at a Git revision or here (None).

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
            made = {file: read_metric(repo.dvcfs, file.replace("metrics/", "metrics/provenance/")) for file in names}
            spread = read_metric(repo.dvcfs, SPREAD)
            return Side(
                {file: read_metric(repo.dvcfs, file) for file in names},
                {file: content for file, content in made.items() if isinstance(content, dict)},
                spread if isinstance(spread, dict) else {},
                params.get("task"),
            )
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
