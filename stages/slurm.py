"""Slurm as submitit does not know it: one without accounting, and settings as a user writes them."""

import json
import math
import os
import re

import yaml
from submitit.core.core import InfoWatcher

from pipeline.errors import UserError

ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
}  # fmt: skip
TIMES = {"timeout_min", "slurm_timeout_min", "slurm_time"}  # submitit reckons with them, so that it needs minutes
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


class Queue(InfoWatcher):
    """The states of our jobs by `squeue`, every minute at least, all in one call.

    submitit asks `sacct`, which tells nothing where Slurm has no accounting: a job whose process was killed, and leaves
    no result, would be waited for for ever. `squeue` shows a job for minutes after its end, then no longer.
    """

    def _make_command(self) -> list[str]:
        own_filters = [f"--unset={name}" for name in os.environ if name.startswith("SQUEUE_")]  # would hide jobs
        return ["env", *own_filters, "squeue", f"--user={os.getuid()}", "--states=all", "--noheader", "--format=%i %T"]

    def read_info(self, string: str | bytes) -> dict[str, dict[str, str]]:
        """{job: {"State": ...}} of what `squeue` printed and of the jobs that it knows no longer."""
        text = string if isinstance(string, str) else string.decode()
        states = dict(line.split() for line in text.splitlines())
        return {job: {"State": states.get(job, "GONE")} for job in self._registered}

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """How the job ended; RUNNING as long as it may still end well, held, suspended or waiting though it be."""
        state = self.get_info(job_id, mode).get("State", "RUNNING")
        return state if state in ENDED or state == "GONE" else "RUNNING"


def setting(text: str) -> tuple[str, object]:
    """KEY=VALUE as submitit's parameter. Numbers, true and false as in JSON, lists and mappings as in YAML; all else is
    text, `0123` too. Times are minutes, or as Slurm writes them. Raises UserError.
    """
    key, _, value = text.partition("=")
    if not key or not value:
        raise UserError(f"--set {text}: expected KEY=VALUE, such as gpus_per_node=1")
    if key in TIMES:
        return key, minutes(value, key)
    try:
        return key, json.loads(value)
    except ValueError:
        pass
    try:
        return key, yaml.load(value, yaml.BaseLoader)  # every scalar stays text; in YAML 12:00:00 is 43200
    except yaml.YAMLError:
        return key, value


def minutes(text: str, key: str) -> int:
    """`minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]` in minutes, rounded up.

    As https://slurm.schedmd.com/sbatch.html says of `--time`. Raises UserError, of no time too, which is no limit.
    """
    found = TIME.fullmatch(text)
    if not found or not int(re.sub(r"\D", "", text)):
        raise UserError(f"--set {key}={text}: expected minutes, hours:minutes:seconds or days-hours, such as 12:00:00")
    days, *clock = found.groups(default="")
    parts = [int(part) for part in clock if part]
    if not days and len(parts) < 3:
        parts = [0, *parts]
    hours, whole, seconds = [*parts, 0, 0][:3]
    return (24 * int(days or 0) + hours) * 60 + whole + math.ceil(seconds / 60)
