"""`python -m stages.grid TARGET...`: the cells of a matrix side by side, by submitit: on Slurm or on this machine.

A target is what `dvc repro` takes: `ablation`, `ablation/dvc.yaml:group`, a single cell. Cells that are out of date run
as `dvc repro` would run them, and each that ends well is recorded in dvc.lock, so that `dvc repro` has nothing to do.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import psutil
import submitit
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from tqdm import tqdm

from pipeline.errors import Interrupted, UserError
from pipeline.runtime.process import stop_request
from stages.command import run_stage
from stages.slurm import Queue, setting

logger = logging.getLogger(__name__)
LOGS = Path("logs/grid")


@dataclass(frozen=True)
class Command:
    """What a job does: a stage's commands, in its folder. Pickled by submitit."""

    script: str
    folder: str
    root: str
    name: str
    gpus: str | None  # None: as Slurm says
    threads: int | None  # of the processor, likewise: jobs that fight for cores are many times slower

    def __call__(self) -> None:
        """Raises CalledProcessError; SystemExit, which leaves no result, where a signal ended the stage.

        Slurm signals all processes when it takes the machine away, and queues the job again: it is not for this process
        to say that the cell has failed. A job that is not queued again ends without a result, which counts as failed.
        """
        environment = {**os.environ, "DVC_ROOT": self.root, "DVC_STAGE": self.name}
        if self.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus
        if self.threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(self.threads))
        # The stage ignores the signal by which Slurm tells submitit that the time is up, and ends well by SIGTERM.
        words = ["/bin/sh", "-ec", f"trap '' USR2\n{self.script}"]
        with subprocess.Popen(words, cwd=self.folder, env=environment) as process:
            try:
                status = process.wait()
            except BaseException:  # cancelled, or queued again
                for child in psutil.Process().children(recursive=True):
                    child.terminate()
                raise
        if status < 0 or status > 128:  # the shell's own end by a signal, or that of its last command
            sys.exit(f"a signal ended the stage: exit status {status}")
        if status:
            raise subprocess.CalledProcessError(status, self.script)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Slurm took the machine away: the same again, which goes on from the training's own checkpoint."""
        return submitit.helpers.DelayedSubmission(self)


def grid(*words: str) -> None:
    """Run what is out of date, at most `--jobs` at a time; exit code 1, with paths of logs, when a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m stages.grid", description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--cluster", choices=["slurm", "local"], default="slurm")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="at most so many at a time (default: 4)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a parameter of submitit: slurm_partition=P, gpus_per_node=1, cpus_per_task=8, slurm_time=12:00:00",
    )  # fmt: skip
    chosen = parser.parse_args(words)
    try:
        submitter = executor(chosen.cluster, chosen.set)  # first: what is refused must not cost the former outs
        cells = prepare(Repo(), chosen.targets)
        failed = run(cells, submitter, chosen.jobs)
    except DvcException as error:
        raise UserError(str(error)) from error
    if failed:
        lines = "".join(f"\n  {name}: {log}" for name, log in failed.items())
        raise UserError(f"{len(failed)} of {len(cells)} cells failed; the others are recorded. Their logs:{lines}")


def prepare(repo: Repo, targets: list[str]) -> list[Stage]:
    """The stages that must run, their former outs deleted; what DVC's cache holds is taken from there, as DVC does.

    Those that depend on others of the targets are left to `dvc repro`.
    """
    with repo.lock:
        chosen = dict.fromkeys(stage for target in targets for stage in repo.stage.collect(target))
        changed = [stage for stage in chosen if stage.changed()]
        needs = {stage: nx.descendants(repo.index.graph, stage) for stage in changed}
        stale = [stage for stage in changed if not needs[stage].intersection(changed)]  # tables, say, are not run here
        upstream = {stage for cell in stale for stage in needs[cell]}
        if late := sorted(stage.addressing for stage in upstream if stage.changed()):
            raise UserError(f"the cells depend on stages that are out of date; first run: dvc repro {' '.join(late)}")
        for stage in stale:
            stage.remove_outs(ignore_remove=False, force=False)
        cached = [stage for stage in stale if restored(stage)]
    for stage in cached:
        record(stage)
    logger.info("%d cells: %d to run, %d from DVC's cache", len(chosen), len(stale) - len(cached), len(cached))
    return [stage for stage in stale if stage not in cached]


def restored(stage: Stage) -> bool:
    """Whether it has run with the same parameters, code and data before; its outs are there then."""
    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    return True


@retry(retry=retry_if_exception_type(LockError), wait=wait_fixed(5), stop=stop_after_delay(3600), reraise=True)
def record(stage: Stage) -> None:
    """Write the stage, as it lies there, to dvc.lock and the cache. Another DVC command may hold the lock a while."""
    stage.repo.commit(stage.addressing, force=True)


def executor(cluster: str, settings: list[str]) -> submitit.AutoExecutor:
    """What submits the jobs. Raises UserError for a setting that submitit does not know, or where Slurm is not."""
    submitit.SlurmJob.watcher = Queue()
    parameters = dict(map(setting, settings))
    try:
        chosen = submitit.AutoExecutor(LOGS, cluster=cluster)
        chosen.update_parameters(timeout_min=7 * 24 * 60, stderr_to_stdout=True)  # its default is a few minutes
        chosen.update_parameters(**parameters)
    except (RuntimeError, NameError, TypeError, AssertionError) as error:
        raise UserError(f"submitit: {error}; --cluster local needs no Slurm, --set takes KEY=VALUE") from error
    return chosen


def run(cells: list[Stage], executor: submitit.AutoExecutor, at_a_time: int) -> dict[str, str]:
    """Run all, record each that ends well at once; those that failed, with their logs.

    No job outlives the program: raises Interrupted after a signal, UserError when Slurm refuses a job.
    """
    waiting, free, running, failed = list(cells), list(range(at_a_time)), {}, {}
    with tqdm(total=len(cells), unit="cell") as bar, stop_request() as request:
        try:
            while (waiting or running) and not request.signal:
                while waiting and free:
                    stage, place = waiting.pop(0), free.pop(0)
                    running[stage] = submitted(stage, executor, place, at_a_time), place
                for stage in [stage for stage, (job, _) in running.items() if job.done()]:
                    job, place = running.pop(stage)
                    free.append(place)
                    if job.exception() is None:
                        record(stage)
                    else:
                        log = job.paths.stdout
                        failed[stage.addressing] = str(log) if log.exists() else f"no log; its job is {job.state}"
                    bar.update()
                bar.set_postfix_str(f"{len(running)} running, {len(failed)} failed", refresh=False)
                time.sleep(0.2)
        finally:
            for job, _ in running.values():
                job.cancel(check=False)
    if request.signal:
        raise Interrupted(
            f"stopped by {signal.Signals(request.signal).name}: {len(running)} jobs were cancelled, the cells that "
            "were done are recorded. The same command runs the others",
            request.signal,
        )
    return failed


def submitted(stage: Stage, executor: submitit.AutoExecutor, place: int, at_a_time: int) -> submitit.Job:
    """The stage as a job. On this machine the jobs have GPUs of their own, by their places, and share the cores."""
    script = stage.cmd if isinstance(stage.cmd, str) else "\n".join(stage.cmd)
    number = executor.parameters.get("gpus_per_node", 0)
    gpus = threads = None
    if executor.cluster == "local":
        gpus = ",".join(map(str, range(place * number, (place + 1) * number)))
        threads = max(1, os.cpu_count() // at_a_time)
    try:
        return executor.submit(Command(script, stage.wdir, stage.repo.root_dir, stage.addressing, gpus, threads))
    except RuntimeError as error:  # of sbatch
        raise UserError(f"{stage.addressing} was not submitted: {error}") from error


if __name__ == "__main__":
    run_stage(grid)
