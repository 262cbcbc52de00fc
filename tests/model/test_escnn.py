"""escnn without `lie_learn`: the groups of the plane are as with it, SO(3) says what it lacks, a real one is used."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.model.equivariant import equivariant_upsampler
from tests.graph.stages import PROJECT

SO3 = "from escnn.group import so3_group; rotations = so3_group(1); rotations.irrep(1)(rotations.sample())"


def run(program, *lines, path="."):
    """What a process of its own prints, after the module was imported."""
    words = [sys.executable, "-W", "error", "-c", "\n".join([program, "from pipeline.model import escnn", *lines])]
    environment = {"PYTHONPATH": f"{path}:{PROJECT}", "PATH": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, env=environment)


@pytest.fixture
def lie_learn(tmp_path):
    """A folder with a package of that name, whose module has the given code."""

    def make(code):
        folder = tmp_path / "lie_learn" / "representations" / "SO3"
        folder.mkdir(parents=True)
        (folder / "wigner_d.py").write_text(code)
        return tmp_path

    return make


@pytest.mark.parametrize("group", ["C4", "C8", "C16", "D4", "D8"])
def test_the_filters_are_those_with_lie_learn(group):
    """Recorded with lie-learn 0.0.2, pymanopt 2.2.1, autograd 1.9.1 and NumPy 1.26.4. The weights are cos 0, cos 1, ...
    Of each channel's filter three projections, on sin 0, sin 3, ..., on sin 1, sin 4, ... and on sin 2, sin 5, ..."""
    module = equivariant_upsampler(4, group, 2)
    for layer in ("lifting", "upsampler.1", "upsampler.4", "pool"):
        conv = module.get_submodule(layer)
        with torch.no_grad():
            conv.weights.copy_(torch.arange(conv.weights.numel()).cos())
            filters = conv.expanded()[0].double().flatten(1)
        projections = filters @ torch.arange(3 * filters.shape[1], dtype=torch.float64).view(-1, 3).sin()
        with np.load(PROJECT / "tests" / "model" / "filters.npz") as recorded:
            np.testing.assert_allclose(projections, recorded[f"{group}.{layer}"], atol=1e-5)


def test_so3_says_what_is_missing():
    absent = "import sys; sys.modules['lie_learn'] = None"
    asked = run(absent, SO3)
    assert asked.returncode == 1
    assert "ModuleNotFoundError: escnn's representations of SO(3) need lie_learn" in asked.stderr.splitlines()[-1]
    others = run(absent, "del sys.modules['lie_learn']", "print([name for name in sys.modules if 'lie_learn' in name])")
    assert others.returncode == 0 and others.stdout == "[]\n"


def test_one_that_is_installed_is_used(lie_learn):
    folder = lie_learn("def wigner_D_matrix(*_, **__):\n    raise SystemExit('the real one')\n")
    found = run("", "import lie_learn.representations.SO3.wigner_d as real; print(real.__file__)", SO3, path=folder)
    assert found.stdout == f"{folder}/lie_learn/representations/SO3/wigner_d.py\n"
    assert found.stderr == "the real one\n"


def test_one_that_was_built_for_another_numpy_is_as_none(lie_learn):
    broken = "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')"
    asked = run("", "print('imported')", SO3, path=lie_learn(broken))
    assert asked.stdout == "imported\n"
    assert "lie_learn, which could not be imported: numpy.dtype size changed" in asked.stderr.splitlines()[-1]


def test_nobody_else_imports_escnn():
    """Not past the module that makes it work without `lie_learn`."""
    places = "pipeline", "stages", "tests", "benchmarks"
    files = [file for place in places for file in PROJECT.glob(f"{place}/**/*.py")]
    found = {file for file in files if re.search(r"^\s*(from|import) escnn\b", file.read_text(), re.MULTILINE)}
    assert found == {PROJECT / "pipeline" / "model" / "escnn.py"}
