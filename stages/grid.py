"""`python -m stages.grid`: stages of DVC's graph that are out of date, spread over machines by submitit.

Each stage's own command runs as a job of Slurm, or as a process here (`--cluster local`). What is done is recorded as
`dvc commit` does it, so that `dvc repro` does not run it again; a call that was broken off is repeated.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import submitit
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from submitit.helpers import CommandFunction
from tqdm import tqdm

from pipeline.errors import UserError
from stages.command import run_stage

LOGS = Path("logs/grid")
POLL = 1.0  # seconds


def grid(*words: str) -> None:
    """Run what is out of date of the targets; exit code 1 when a job failed."""
    parser = argparse.ArgumentParser(prog="python -m stages.grid", description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="such as ablation, or ablation/dvc.yaml:group")
    parser.add_argument("--cluster", choices=("slurm", "local"), default="slurm")
    parser.add_argument("--jobs", type=int, default=4, help="at the same time (default: 4)")
    parser.add_argument("--minutes", type=int, default=240, help="a job may take (default: 240)")
    parser.add_argument("--gpus", type=int, default=0, help="a job gets, of Slurm (default: none)")
    parser.add_argument("--cpus", type=int, default=4, help="a job gets, of Slurm (default: 4)")
    parser.add_argument("--partition", help="of Slurm")
    chosen = parser.parse_args(words)
    try:
        repo = Repo()
        stages = outdated(repo, chosen.targets)
    except DvcException as error:
        raise UserError(str(error)) from error
    failed = run(repo, stages, executor(chosen), chosen.jobs)
    print(f"{len(stages) - len(failed)} of {len(stages)} stages were run and recorded")
    if failed:
        sys.exit("\n".join(["failed:", *(f"{name}: {log}" for name, log in failed.items())]))


def outdated(repo: Repo, targets: list[str]) -> list[Stage]:
    """The stages of the targets that `dvc repro` would run, without those that depend on others of them.

    Raises UserError when one needs something else that is out of date.
    """
    found = {stage.addressing: stage for target in targets for stage in repo.stage.collect(target)}
    changed = {name: stage for name, stage in found.items() if repo.status(targets=[name])}
    needs = {name: {need.addressing for need in repo.index.graph.successors(changed[name])} for name in changed}
    ready = [name for name in changed if not needs[name] & changed.keys()]
    others = set().union(*(needs[name] for name in ready)) - changed.keys()
    late = sorted(name for name in others if repo.status(targets=[name]))
    if late:
        raise UserError(f"first `dvc repro {' '.join(late)}`, which these stages need")
    return [changed[name] for name in ready]


def executor(chosen: argparse.Namespace) -> submitit.AutoExecutor:
    """Where jobs go."""
    made = submitit.AutoExecutor(folder=LOGS, cluster=chosen.cluster)
    made.update_parameters(timeout_min=chosen.minutes, cpus_per_task=chosen.cpus)
    if chosen.cluster == "slurm":
        made.update_parameters(gpus_per_node=chosen.gpus)
        if chosen.partition:
            made.update_parameters(slurm_partition=chosen.partition)
    return made


def run(repo: Repo, stages: list[Stage], machines: submitit.Executor, jobs: int) -> dict[str, Path]:
    """Run the stages, so many at a time, and record those that succeed; name and log of those that fail."""
    waiting, running, failed = list(stages), {}, {}
    try:
        with tqdm(total=len(stages), unit="stage") as bar:
            while waiting or running:
                while waiting and len(running) < jobs:
                    stage = waiting.pop(0)
                    running[stage] = submit(repo, stage, machines, jobs)
                for stage, job in [pair for pair in running.items() if pair[1].done()]:
                    del running[stage]
                    if job.exception() is None:
                        repo.commit(stage.addressing, force=True)
                    else:
                        failed[stage.addressing] = job.paths.stderr
                    bar.update()
                    bar.set_postfix_str(f"{len(running)} running, {len(failed)} failed")
                time.sleep(POLL)
    finally:
        for job in running.values():
            job.cancel()
    return failed


def submit(repo: Repo, stage: Stage, machines: submitit.Executor, jobs: int) -> submitit.Job:
    """Hand over a stage's command, after its outs were deleted as `dvc repro` deletes them."""
    for out in stage.outs:
        path = Path(out.fs_path)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    threads = {} if machines.cluster == "slurm" else {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // jobs))}
    environment = {**os.environ, **threads, "DVC_ROOT": repo.root_dir}
    return machines.submit(CommandFunction(["sh", "-c", stage.cmd], cwd=stage.wdir, env=environment))


if __name__ == "__main__":
    run_stage(grid)
