"""Stages out of date, spread over two workers of this machine, in a DVC project of stages that do next to nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
GRAPH = """
stages:
  source:
    cmd: echo {words} > source
    outs: [source]
  cell:
    matrix:
      number: [0, 1, 2]
    cmd: sh cell.sh ${{item.number}}
    deps: [source, cell.sh]
    outs: ["cells/${{item.number}}"]
  table:
    cmd: cat cells/*/found > table
    deps: [cells]
    outs: [table]
"""
# Cells 0 and 1 wait for each other: they end only where both run at a time.
CELL = """
set -e
mkdir -p cells/$1
touch here-$1
if [ $1 -lt 2 ]; then
    for second in $(seq 100); do [ -e here-0 ] && [ -e here-1 ] && break; sleep 0.2; done
    [ -e here-0 ] && [ -e here-1 ]
elif [ ! -e mended ]; then
    echo cell two is broken >&2
    exit 3
fi
echo $1 in $DVC_ROOT > cells/$1/found
"""


def call(folder, *words, fails=False):
    """What a Python module printed, errors too; it must succeed, or must fail."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(PROJECT),
        "HOME": str(folder),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, text=True, **pipes)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


@pytest.fixture
def project(tmp_path):
    (tmp_path / "dvc.yaml").write_text(GRAPH.format(words="one"))
    (tmp_path / "cell.sh").write_text(CELL)
    call(tmp_path, "dvc", "init", "--no-scm", "--quiet")
    return tmp_path


def test_two_workers(project):
    words = ("stages.grid", "--cluster", "local", "--jobs", "2", "cell", "table")
    assert "first `dvc repro source`, which these stages need" in call(project, *words, fails=True)
    assert not (project / "cells").exists()

    call(project, "dvc", "repro", "source")
    printed = call(project, *words, fails=True)
    assert "2 of 3 stages were run and recorded" in printed
    (log,) = [line for line in printed.splitlines() if line.startswith("cell@2: ")]
    assert "cell two is broken" in Path(project, log.removeprefix("cell@2: ")).read_text()
    assert (project / "cells/1/found").read_text() == f"1 in {project}\n"

    (project / "mended").touch()
    assert "1 of 1 stages were run and recorded" in call(project, *words)
    assert "0 of 0 stages" in call(project, "stages.grid", "--cluster", "local", "cell")
    printed = call(project, "dvc", "repro")
    assert "Running stage 'table'" in printed and "Running stage 'cell" not in printed
    assert len((project / "table").read_text().splitlines()) == 3


def test_what_is_out_of_date_is_removed_and_run_anew(project):
    for file in ("mended", "here-0", "here-1"):
        (project / file).touch()
    call(project, "dvc", "repro", "cell")
    (project / "cells/0/stale").touch()
    (project / "cell.sh").write_text(CELL + "echo again\n")
    assert "3 of 3 stages" in call(project, "stages.grid", "--cluster", "local", "--jobs", "3", "cell")
    assert not (project / "cells/0/stale").exists()


def test_an_unknown_target_is_one_message(project):
    printed = call(project, "stages.grid", "--cluster", "local", "sell", fails=True)
    assert "UserError" in printed and "sell" in printed and "Traceback" not in printed
