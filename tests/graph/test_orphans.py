"""A stage ends soon after the DVC that started it; the next DVC waits for it. Other processes are left alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from pipeline.runtime.process import stop_with_dvc
from tests.project import become, copied, dvc, environment

PROJECT = Path(__file__).parents[2]
STAGE = "import stages, os, time; print(os.getpid(), flush=True); time.sleep(600)"
# What DVC does with a command, in a shell or, as some shells hand over their process, without one.
DVC = """
import os, subprocess, sys
stage = [sys.executable, "-c", sys.argv[2]]
if sys.argv[1] == "shell":
    stage = ["/bin/sh", "-c", '"$0" -c "$1"; true', sys.executable, sys.argv[2]]
if sys.argv[1] == "started by another":
    stage = [sys.executable, "-c", "import os; os.system('\\"$PYTHON\\" -c \\"$STAGE\\"; true')"]
named = {"DVC_STAGE": "train"} if sys.argv[1] != "by hand" else {}
subprocess.run(stage, env={**os.environ, "PYTHON": sys.executable, "STAGE": sys.argv[2], **named})
"""


@pytest.fixture
def started(request):
    """A process in DVC's place and, started by it, a stage that takes its time."""
    words = [sys.executable, "-c", DVC, request.param, STAGE]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    dvc = subprocess.Popen(words, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    stage = psutil.Process(int(dvc.stdout.readline()))
    yield dvc, stage
    for process in (dvc, stage):
        if process.poll() is None if process is dvc else process.is_running():
            process.kill()
    dvc.wait()
    dvc.stdout.close()


@pytest.mark.parametrize("started", ["directly", "shell", "started by another"], indirect=True)
def test_a_stage_ends_with_its_dvc(started):
    dvc, stage = started
    dvc.kill()  # by SIGKILL; and it stays a zombie, as of a parent that does not look
    assert not psutil.wait_procs([stage], timeout=60)[1]


@pytest.mark.parametrize("started", ["by hand"], indirect=True)
def test_what_dvc_did_not_start_lives_on(started):
    dvc, stage = started
    dvc.kill()
    dvc.wait()
    assert len(stage.threads()) == 1 and stage.is_running()  # nobody watches


def test_a_watch_is_kept_where_dvc_is_there_only(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    before = threading.active_count()
    stop_with_dvc()
    assert threading.active_count() == before


def test_the_end_of_dvcs_own_parent_is_no_concern():
    """As below nohup, when the terminal is closed."""
    terminal = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    asked = (
        "import os, sys; from pipeline.runtime.process import _starter; os.environ['DVC_STAGE'] = 'train'\n"
        "print(os.getppid(), os.getpid(), flush=True)\n"
        "before = _starter('train'); sys.stdin.readline(); print(before, _starter('train'), flush=True)"
    )
    words = [sys.executable, "-c", terminal, DVC, "shell", asked]
    process = subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stage = int(process.stdout.readline().split()[1])
    dvc = psutil.Process(stage).parents()[1].pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.stdout.readline().split() == [str(dvc)] * 2
    process.stdout.close()


def test_a_killed_repro_and_the_next_at_once(tmp_path):
    """The stage that is left behind, started by a shell, and the next one make the same folder."""
    (tmp_path / "project").mkdir()
    folder, files = copied(tmp_path / "project"), (tmp_path / "out", tmp_path / "error")
    words = ["dvc", "repro", "fetch@dendi"]
    first = get_context("fork").Process(target=become, args=(words, folder, environment(), files, ["stages.fetch"]))
    first.start()
    while first.is_alive() and not (folder / "data/raw/.dendi.part").exists():
        time.sleep(0.01)
    first.kill()
    first.join()
    dvc(folder, *words[1:])
    assert (folder / "data/raw/dendi").is_dir()
    assert sorted(path.name for path in (folder / "data/raw").iterdir()) == ["dendi"]
