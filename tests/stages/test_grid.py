"""A grid of two cells on two local workers, in a small DVC project of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.project import forked

PROJECT = Path(__file__).parents[2]
TOP = """
stages:
  data:
    cmd: cp source data
    deps: [source]
    outs: [data]
  other:
    matrix: {number: [1]}
    cmd: cp data other-${item.number}
    deps: [data]
    outs: ["other-${item.number}"]
"""
# Each cell waits for the other one to have begun: alone, it fails.
NESTED = """
vars: [../params.yaml]
stages:
  cell:
    wdir: ..
    matrix: {name: [a, b]}
    cmd:
    - mkdir cells/${item.name}
    - python cell.py ${item.name} ${fails}
    deps: [data, cell.py]
    params: [fails]
    outs: ["cells/${item.name}"]
"""
CELL = """
import os, sys, time
from pathlib import Path
name, fails = sys.argv[1:]
folder = Path("cells") / name
(folder / "begun").write_text(" ".join(os.environ[key] for key in ("DVC_STAGE", "DVC_ROOT", "CUDA_VISIBLE_DEVICES")))
until = time.monotonic() + 60
while not all((folder.parent / other / "begun").exists() for other in "ab"):
    if time.monotonic() > until:
        sys.exit("the other cell did not begin")
    time.sleep(0.05)
with open("runs", "a") as file:
    print(name, file=file)
if name == fails:
    sys.exit("this cell fails")
"""


@pytest.fixture
def project(tmp_path):
    for folder in ("nested", "cells"):
        (tmp_path / folder).mkdir()
    files = {
        "dvc.yaml": TOP, "nested/dvc.yaml": NESTED, "cell.py": CELL, "source": "1", "params.yaml": "fails: b\n",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert run(tmp_path, "dvc", "init", "--no-scm", "--quiet")[0] == 0
    return tmp_path


def started(folder, module, *words):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT)}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", module, *words], cwd=folder, env=environment, **both)


def run(folder, module, *words):
    if module == "dvc":
        done = forked(folder, module, *words)
        return done.returncode, done.stdout + done.stderr
    process = started(folder, module, *words)
    printed, _ = process.communicate()
    return process.returncode, printed


def grid(folder, *words):
    return run(folder, "stages.grid", "--cluster", "local", "--jobs", "2", *words)


def test_two_workers_fail_commit_and_have_nothing_left_to_do(project):
    status, printed = grid(project, "nested/dvc.yaml:cell")
    assert status == 1 and "first run: dvc repro data" in printed and "Traceback" not in printed
    assert run(project, "dvc", "repro", "data")[0] == 0

    status, printed = grid(project, "--set", "gpus_per_node=2", "nested/dvc.yaml:cell")
    assert status == 1 and "1 of 2 cells failed" in printed and "Traceback" not in printed
    assert sorted((project / "runs").read_text().split()) == ["a", "b"]  # each waited for the other
    (log,) = [line.split(": ")[1] for line in printed.splitlines() if line.startswith("  nested/dvc.yaml:cell@b")]
    assert "this cell fails" in (project / log).read_text()
    name, root, gpus = (project / "cells/a/begun").read_text().split()
    assert name == "nested/dvc.yaml:cell@a" and Path(root) == project
    assert {gpus, (project / "cells/b/begun").read_text().split()[-1]} == {"0,1", "2,3"}
    dry = run(project, "dvc", "repro", "--dry", "nested/dvc.yaml:cell")[1]
    assert "Running stage 'nested/dvc.yaml:cell@b'" in dry and "cell@a' didn't change" in dry

    (project / "params.yaml").write_text("fails: none\n")
    status, printed = grid(project, "nested/dvc.yaml:cell", "other")
    assert status == 0 and "3 cells: 3 to run, 0 from DVC's cache" in printed
    assert (project / "other-1").read_text() == "1"
    status, printed = grid(project, "nested/dvc.yaml:cell", "other")
    assert status == 0 and "3 cells: 0 to run" in printed
    assert "up to date" in run(project, "dvc", "repro", "nested/dvc.yaml:cell", "other")[1]

    (project / "cells/a/begun").write_text("changed by hand")
    status, printed = grid(project, "nested/dvc.yaml:cell")
    assert status == 0 and "0 to run, 1 from DVC's cache" in printed
    assert (project / "cells/a/begun").read_text().startswith("nested")
    assert len((project / "runs").read_text().split()) == 4


def test_what_cannot_be_submitted_is_refused_by_name(project):
    assert run(project, "dvc", "repro", "data")[0] == 0
    (project / "other-1").write_text("former")
    for setting, reason in [
        ("slurm_partitoin=gpu", "Unknown argument 'partitoin'"),
        ("nodes=two", "two"),
        ("slurm_time=noon", "slurm_time=noon: expected minutes"),
    ]:
        status, printed = grid(project, "--set", setting, "other")
        assert status == 1 and reason in printed and "Traceback" not in printed
        assert (project / "other-1").read_text() == "former"
    status, printed = grid(project, "absent")
    assert status == 1 and "absent" in printed and "Traceback" not in printed


def test_what_slurm_refuses_is_told(project, monkeypatch):
    """Scripts stand in for Slurm's programs."""
    assert run(project, "dvc", "repro", "data")[0] == 0
    for name, script in {"srun": "true", "sbatch": "echo 'error: invalid partition: absent' >&2; exit 1"}.items():
        (project / name).write_text(f"#!/bin/sh\n{script}\n")
        (project / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{project}{os.pathsep}{os.environ['PATH']}")
    status, printed = run(project, "stages.grid", "--cluster", "slurm", "--set", "slurm_partition=absent", "other")
    assert status == 1 and "other@1 was not submitted: error: invalid partition: absent" in printed
    assert "Traceback" not in printed


def test_a_stopped_grid_leaves_no_job_behind(project):
    assert run(project, "dvc", "repro", "data")[0] == 0
    process = started(project, "stages.grid", "--cluster", "local", "--jobs", "1", "nested/dvc.yaml:cell")
    try:
        while not (project / "cells/a/begun").exists():  # it waits for the other one
            assert process.poll() is None
            time.sleep(0.05)
        jobs = psutil.Process(process.pid).children(recursive=True)
        assert any("cell.py" in job.cmdline() for job in jobs)
        process.terminate()
        printed = process.communicate()[0]
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM: 1 jobs were cancelled" in printed
    assert not psutil.wait_procs(jobs, timeout=60)[1]
