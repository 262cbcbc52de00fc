"""The package as `pip install` gives it: what it holds, that it works without the project, and what its extras hold."""

import ast
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from importlib.metadata import PathDistribution, distribution, distributions
from zipfile import ZipFile

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from tests.graph.test_deps import reached
from tests.project import PROJECT, environment, run

BUILD = "from setuptools import build_meta; build_meta.build_{}({!r})"
NO_DEPS = {Requirement(line).name for line in (PROJECT / "requirements-no-deps.txt").read_text().splitlines()}
OWN_WORDS = {"pandas", "transformers"}  # what needs them says so, or is for trainings only
# What each extra is for: all that these files import is in it.
ENTRIES = {
    "torch": ["pipeline/inference/detector.py"],
    "data": ["stages/fetch.py", "stages/preprocess.py", "stages/synthesize.py", "stages/data_report.py"],
    "train": [f"stages/{path.name}" for path in PROJECT.glob("stages/*.py") if path.stem not in ("grid", "slurm")],
    "export": ["pipeline/application/export.py"],
    "page": ["pipeline/application/page.py", "pipeline/application/server.py"],  # alone: they look by the core
    "cluster": ["stages/grid.py"],
    "all": ["pipeline/cli.py", *(f"stages/{path.name}" for path in PROJECT.glob("stages/*.py"))],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the sdist, as pip builds it."""
    folder = tmp_path_factory.mktemp("build")
    listed = run(PROJECT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    files = [file for file in listed if (PROJECT / file).is_file() and not file.startswith("tests/")]
    for file in files:
        (folder / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / file).is_symlink():
            (folder / "source" / file).symlink_to((PROJECT / file).readlink())
        else:
            (folder / "source" / file).write_bytes((PROJECT / file).read_bytes())
    run(folder / "source", sys.executable, "-c", BUILD.format("sdist", str(folder)))
    (sdist,) = folder.glob("*.tar.gz")
    run(folder, "tar", "-xf", sdist)  # tarfile's filters came with patch releases: Debian 12's Python 3.11.2 has none
    run(folder / sdist.name.removesuffix(".tar.gz"), sys.executable, "-c", BUILD.format("wheel", str(folder)))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel, tmp_path_factory):
    """What the wheel says of itself."""
    folder = tmp_path_factory.mktemp("metadata")
    with ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if ".dist-info/" in name])
    return PathDistribution(next(folder.glob("*.dist-info")))


@pytest.fixture(scope="module")
def bare(wheel, metadata, tmp_path_factory):
    """A folder in which only the wheel and what it requires without extras are installed."""
    folder = tmp_path_factory.mktemp("bare")
    run(folder, sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", folder, wheel)
    for name in closure(metadata, ""):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
    return folder


def closure(metadata, extra):
    """The canonical names of all distributions that pip would install with an extra, as far as they are here."""
    found, waiting = set(), [(metadata, extra)]
    while waiting:
        known, extra = waiting.pop()
        for requirement in map(Requirement, known.requires or []):
            name = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            for wanted in requirement.extras or {""}:
                if (name, wanted) not in found:
                    found.add((name, wanted))
                    ours = name == canonicalize_name(metadata.name)
                    waiting.append((metadata if ours else distribution(name), wanted))
                    waiting += [(waiting[-1][0], "")] if wanted else []
    return {name for name, _ in found} - {canonicalize_name(metadata.name)}


def called(bare, cwd, *words):
    """The command of the bare installation, without the packages of the environment that runs the tests."""
    command = [sys.executable, "-S", bare / "bin" / "symmetry", *words]
    variables = {**environment(), "PYTHONPATH": str(bare), "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)


def test_the_wheel_holds_the_package_and_no_more(wheel):
    listed = run(PROJECT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "pipeline").splitlines()
    with ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {file: (PROJECT / file).read_bytes() for file in listed if (PROJECT / file).is_file()}
    assert {"pipeline/py.typed", "pipeline/data/download/sources.yaml"} <= set(held)
    assert held["pipeline/params/params.yaml"] == (PROJECT / "params.yaml").read_bytes()


def test_detects_in_an_empty_folder_without_torch(bare, tmp_path):
    picture = np.full((96, 128, 3), 90, np.uint8)
    picture[16:80, 32:96] = 200
    Image.fromarray(picture).save(tmp_path / "picture.png")
    done = called(bare, tmp_path, "detect", "picture.png", "--out", "found")
    assert done.returncode == 0, done.stderr
    line = json.loads((tmp_path / "found/detections.jsonl").read_text())
    assert line["reflection"]["width"] == 128 and line["rotation"]["task"] == "rotation"
    assert (tmp_path / "found/reflection/overlays/picture.jpg").is_file()


def test_says_its_version(bare, metadata, tmp_path):
    done = called(bare, tmp_path, "--version")
    assert done.stdout == f"symmetry {metadata.version}\n"


@pytest.mark.parametrize(
    "words, install",
    [
        (["serve", "--no-browser"], "page"),
        (["export", "--format", "onnx", "--out", "m.onnx"], "export"),
        (["detect", "a.png", "--out", "o", "--task", "reflection", "--weights", "model.safetensors"], "torch"),
        (["detect", "a.png", "--out", "o", "--device", "cuda"], "torch"),
    ],
)
def test_a_package_that_is_missing_is_one_sentence(bare, tmp_path, weights, words, install):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "model.safetensors").symlink_to(weights)
    done = called(bare, tmp_path, *words)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert re.fullmatch(
        rf"PackageError: the package \w+ is not installed: pip install 'clipsym-pipeline\[{install}\]'\n", done.stderr
    )


def test_a_model_that_is_built_of_escnn_asks_for_it(weights):
    words = ["info", "--weights", str(weights)]
    code = f"import sys; sys.modules['escnn'] = None; from pipeline.cli import main; main({words})"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == (
        "PackageError: the package escnn is not installed: pip install 'clipsym-pipeline[torch]' && pip install "
        "--no-deps escnn\n"
    )


def test_a_stage_that_lacks_a_package_says_so(bare, tmp_path):
    (tmp_path / "stages").symlink_to(PROJECT / "stages")
    variables = {**environment(), "PYTHONPATH": str(bare)}
    command = [sys.executable, "-S", "-m", "stages.grid"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "the package networkx is not installed: pip install --editable '.[train,cluster]'" in done.stderr


@cache
def distributions_of_modules():
    """Of each module or package at the top: those that install it. The standard library's, before Python 3.11, does not
    know packages that do not list theirs in top_level.txt."""
    places = defaultdict(set)
    for installed in distributions():
        name, tops = installed.name, {file.parts[0].partition(".")[0] for file in installed.files or ()}
        for top in tops:
            places[top].add(name)
    return dict(places)


@pytest.mark.parametrize("extra", ENTRIES)
def test_an_extra_names_what_its_code_imports(metadata, extra):
    files = {PROJECT / file for file in ENTRIES[extra]}
    places, files = distributions_of_modules(), files if extra == "page" else reached(*files, without=set())
    trees = [ast.parse(file.read_text()) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    names = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"pipeline", "stages"}
    known = {canonicalize_name(name) for name in NO_DEPS} | closure(metadata, extra) | OWN_WORDS
    missing = {name: places[name] for name in names if not known & set(map(canonicalize_name, places[name]))}
    assert names and not missing


def test_no_extra_asks_for_what_needs_a_compiler(metadata):
    everything = closure(metadata, "all")
    assert {"torch", "gradio", "submitit", "onnx", "dvc"} <= everything
    assert not everything & {"escnn", "py3nj", "lie-learn"}
    assert "torch" not in closure(metadata, "") | closure(metadata, "page")


def test_messages_name_extras_that_exist(metadata):
    sources = [path.read_text() for room in ("pipeline", "stages") for path in (PROJECT / room).rglob("*.py")]
    named = {extra for text in sources for extra in re.findall(r"clipsym-pipeline\[(\w+)\]", text)}
    assert {"torch", "page", "export"} <= named <= set(metadata.metadata.get_all("Provides-Extra"))


PIP = """#!/bin/sh
echo "$@" >> calls
case "$*" in *index-url*) [ -z "$UNREACHABLE" ];; esac
"""
PYTHON = """#!/bin/sh
[ "$1" = -c ] && exit
mkdir -p .venv/bin && cp pip .venv/bin/pip && chmod +x .venv/bin/pip
"""


@pytest.fixture
def installing(tmp_path):
    """Makes `.venv/ready` of the Makefile with a pip that installs nothing, and returns its calls."""
    for path in (PROJECT / "Makefile", *PROJECT.glob("requirements*.txt")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name, text in (("pip", PIP), ("python", PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def make(*words, **variables):
        command = ["make", ".venv/ready", "PYTHON=./python", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **variables}, stderr=subprocess.STDOUT, stdout=-1, text=True
        )
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return done, calls

    return make


def test_make_installs_torch_for_cpus(installing, tmp_path):
    done, calls = installing("TORCH=cpu", "CPU_INDEX=https://index.example/cpu")
    assert done.returncode == 0, done.stdout
    pins = (PROJECT / "requirements.txt").read_text().splitlines()
    torch, vision = (pin for pin in pins if pin.startswith(("torch==", "torchvision==")))
    assert calls[0] == f"install --no-deps --index-url https://index.example/cpu {torch}+cpu {vision}+cpu"
    assert calls[1] == "install --requirement .venv/requirements.txt --requirement requirements-dev.txt"
    kept = (tmp_path / ".venv/requirements.txt").read_text().splitlines()
    gone = {Requirement(pin).name for pin in pins if pin not in kept}
    assert {"nvidia-cudnn-cu13", "cuda-toolkit", "triton"} <= gone and "nvidia-ml-py" not in gone
    assert all(name.startswith(("cuda", "nvidia", "triton")) for name in gone)


def test_make_says_when_there_is_no_torch_for_cpus(installing, tmp_path):
    done, calls = installing("TORCH=cpu", UNREACHABLE="yes")
    assert done.returncode != 0 and "torch for CPUs cannot be had from https://download.pytorch.org/" in done.stdout
    assert len(calls) == 1 and not (tmp_path / ".venv/ready").exists()


def test_make_installs_the_pins(installing):
    done, calls = installing()
    assert done.returncode == 0, done.stdout
    assert calls == [
        "install --requirement requirements.txt --requirement requirements-dev.txt",
        "install --no-deps --requirement requirements-no-deps.txt --requirement requirements-dev-no-deps.txt",
        "install --no-deps --editable .",
    ]
    done, calls = installing("TORCH=gpu")
    assert done.returncode != 0 and "TORCH=gpu: expected cuda or cpu" in done.stdout
