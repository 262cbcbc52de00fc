"""A copy of the project in which tests call the real commands."""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import traceback
import warnings
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from runpy import run_module, run_path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from dvc import dvcfile, logger
from dvc.cli import main
from dvc.stage import run as stages
from dvc.stage.exceptions import StageCmdFailedError
from PIL import Image
from ruamel.yaml import YAML

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


def run(folder, *words, fails=False):
    """What a command printed; it must succeed, or must fail."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(words, cwd=folder, env=environment(), text=True, **pipes)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def dvc(folder, *words, fails=False, anew=()):
    """As `run` of `dvc`, but nothing is imported for it: DVC and its stages are forked. With `anew` the first call of
    each of these modules is left to DVC, which gives it to a shell, and the others run the folder's own code."""
    done = forked(folder, "dvc", *words, anew=anew)
    printed = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, printed
    return printed


def forked(folder, *words, anew=(), scripts=False):
    """As `subprocess.run` of `dvc ...`, `python -m MODULE ...` or `python SCRIPT ...`, in a fork of this process with
    what `tests.warm` imports, which takes seconds. With `scripts` so are scripts that it starts."""
    import tests.warm  # noqa: F401

    with TemporaryDirectory() as pipes:
        files = Path(pipes, "out"), Path(pipes, "error")
        child = get_context("fork").Process(target=become, args=(words, folder, environment(), files, anew, scripts))
        child.start()
        child.join()
        return subprocess.CompletedProcess(words, child.exitcode, *(file.read_text() for file in files))


def become(words, folder, variables, files=(), anew=(), scripts=False):
    """Turn this process into a command's, with its output in files. What pytest does to streams, logs and warnings is
    undone, and what a starting program does to signals."""
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.showwarning = lambda *warning: print(warnings.formatwarning(*warning[:4]), file=sys.stderr)
    for name in ("dvc", "dvc_objects", "dvc_data"):
        logging.getLogger(name).handlers.clear()
    logger.setup()  # to these streams
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    if words[0] == "dvc":
        if anew:
            take_own(folder)
        stages._run = partial(call_stage, {*anew}, stages._run)
        dvcfile.modify_yaml = lock_file
        sys.exit(main(list(words[1:])))
    if scripts:
        start = subprocess.Popen._execute_child
        subprocess.Popen._execute_child = lambda process, *rest: start_by_fork(start, process, *rest)
    _, *sys.argv = [word for word in words if word not in ("-u", "-m")]
    if "-m" in words:
        sys.modules.pop(sys.argv[0], None)  # as it is imported, but not run
        run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        run_path(sys.argv[0], run_name="__main__")


def take_own(folder):
    """Import the folder's modules instead of this project's."""
    sys.path.insert(0, str(folder))
    for name in [name for name in sys.modules if name.startswith(("pipeline", "stages", "tests.warm"))]:
        del sys.modules[name]
    import tests.warm  # noqa: F401

    assert Path(sys.modules["pipeline"].__file__).is_relative_to(folder)


def start_by_fork(start, process, words, executable, prepare, close, kept, folder, variables, *rest):
    """In place of `Popen._execute_child`, to which all but Python's scripts are left: the script runs in a fork."""
    if words[0] != sys.executable:
        return start(process, words, executable, prepare, close, kept, folder, variables, *rest)
    sys.stdout.flush()
    process._child_created, process.pid = True, os.fork()
    if process.pid:
        return None
    code = 1
    try:
        os.closerange(3, 1024)
        if rest[14]:  # start_new_session
            os.setsid()
        become(words, folder or ".", {**(variables or os.environ)})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else print(end.code, file=sys.stderr) or 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def lock_file(path, fs=None):
    """In place of DVC's `modify_yaml`, which keeps comments and takes half of DVC's own time: dvc.lock has none."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.Representer.add_representer(OrderedDict, yaml.Representer.represent_dict)
    content = (yaml.load(Path(path)) if os.path.exists(path) else None) or {}
    yield content
    yaml.dump(content, Path(path))


def call_stage(anew, run, executable, command, **options):
    """In place of DVC's `run`, to which other programs than Python's modules are left; and, once each, those modules
    that are in `anew`."""
    words = shlex.split(command)
    if words[:2] != ["python", "-m"] or words[2] in anew:
        anew.discard(words[2])
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
