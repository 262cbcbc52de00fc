"""A copy of the project in which tests call the real commands."""

import json
import os
import shlex
import subprocess
import sys
from functools import cache, partial
from multiprocessing import forkserver, get_context
from pathlib import Path
from runpy import run_module
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.small import shrink

PROJECT = Path(__file__).parents[1]


def environment():
    """The variables of commands in a copy, without those that lead out of it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    known = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    for role in ("AUTHOR", "COMMITTER"):  # else Git's settings on this machine, where there may be none
        known |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@example.org"}
    for name in ("PYTHONPATH", "DVC_ROOT"):  # DVC sets the latter, to the copy, if it is not set
        known.pop(name, None)
    return known


def called(folder, module, *words):
    """The end of `python -m MODULE ...` in a process of its own."""
    variables = environment() | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=variables, text=True, capture_output=True)


def run(folder, *words, fails=False):
    """What a command printed; it must succeed, or must fail."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(words, cwd=folder, env=environment(), text=True, **pipes)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def dvc(folder, *words, fails=False, anew=False):
    """As `run` of `dvc`, but nothing is imported for it: DVC and its stages are forked. With `anew` the first call of
    each stage's module is left to DVC, which gives it to a shell."""
    done = forked(folder, "dvc", *words, anew=anew)
    printed = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, printed
    return printed


def forked(folder, *words, anew=False):
    """As `subprocess.run` of `dvc ...` or `python -m MODULE ...`, in a process that is forked from one that has
    imported what `tests.warm` imports, which takes seconds."""
    with TemporaryDirectory() as pipes:
        files = Path(pipes, "out"), Path(pipes, "error")
        child = server().Process(target=become, args=(words, folder, environment(), files, anew))
        child.start()
        child.join()
        return subprocess.CompletedProcess(words, child.exitcode, *(file.read_text() for file in files))


@cache
def server():
    """What forks these processes: one for each process that runs tests, with which it ends."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.warm"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment(), "PYTHONPATH": str(PROJECT)}.items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return context


def become(words, folder, variables, files=(), anew=False):
    """Turn this process into a command's, with its output in files."""
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    if words[0] == "dvc":
        import dvc.stage.run
        from dvc.cli import main

        dvc.stage.run._run = partial(call_stage, set() if anew else None, dvc.stage.run._run)
        sys.exit(main(list(words[1:])))
    _, _, module, *sys.argv[1:] = words
    sys.modules.pop(module, None)  # as it is imported, but not run
    run_module(module, run_name="__main__", alter_sys=True)


def call_stage(called, run, executable, command, **options):
    """In place of DVC's `run`, to which other programs than Python's modules are left; and, where `called` is a set,
    those modules that are not in it yet."""
    from dvc.stage.exceptions import StageCmdFailedError

    words = shlex.split(command)
    if words[:2] != ["python", "-m"] or called is not None and words[2] not in called:
        if called is not None:
            called.add(words[2])
        return run(executable, command, **options)
    child = get_context("fork").Process(target=become, args=(words, options["cwd"], options["env"]))
    child.start()
    child.join()
    if child.exitcode:
        raise StageCmdFailedError(command, child.exitcode)


def commit(folder, message):
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "-m", message)


def f1(folder, test_set):
    return json.loads((folder / "metrics" / f"{test_set}.json").read_text())[test_set]["max_f1"]


def copied(folder, project=PROJECT):
    """Copy the project's files into a folder, under Git and with small parameters; nothing has been run there."""
    files = run(project, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for file in files:
        if (project / file).is_file() and not file.startswith("tests/golden/"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes((project / file).read_bytes())
    shrink(folder / "params.yaml")
    for lock in folder.rglob("dvc.lock"):
        lock.unlink()
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    commit(folder, "the project")
    return folder


def label(folder, number, points=((30, 5), (34, 90))):
    """An image with LabelMe's file."""
    generator = np.random.default_rng(number)
    Image.fromarray(generator.integers(0, 256, (100, 80, 3), np.uint8)).save(folder / f"{number}.jpg")
    (folder / f"{number}.json").write_text(json.dumps({"shapes": [{"shape_type": "line", "points": points}]}))


def choose(project, **sections):
    """Write values into sections of params.yaml."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    for section, values in sections.items():
        params[section] = params[section] | values if isinstance(values, dict) else values
    (project / "params.yaml").write_text(yaml.safe_dump(params))
