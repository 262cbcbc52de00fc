"""A copy of the project in which tests call the real commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.small import shrink

PROJECT = Path(__file__).parents[1]


def run(folder, *words, fails=False):
    """What a command printed; it must succeed, or must fail."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    for name in ("PYTHONPATH", "DVC_ROOT"):  # DVC sets the latter, to the copy, if it is not set
        environment.pop(name, None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(words, cwd=folder, env=environment, text=True, **pipes)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def commit(folder, message):
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", message)


def f1(folder, test_set, task="reflection"):
    return json.loads((folder / "metrics" / f"{test_set}.json").read_text())[task]["max_f1"]


def copied(folder):
    """Copy the project's files into a folder, under Git and with small parameters; nothing has been run there."""
    files = run(PROJECT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for file in files:
        if (PROJECT / file).is_file() and not file.startswith("tests/golden/"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes((PROJECT / file).read_bytes())
    shrink(folder / "params.yaml")
    for lock in folder.rglob("dvc.lock"):
        lock.unlink()
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    commit(folder, "the project")
    return folder
