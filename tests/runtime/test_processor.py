"""How the libraries compute: the same on every processor, or as this one does."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.model.equivariant import SameFunctions
from pipeline.runtime import processor
from pipeline.runtime.processor import ANYWHERE, compute_as, computes_alike, provenance, same_kernels
from tests.project import PROJECT

ASKED = """
import os, stages, numpy as np, torch
from numpy._core._multiarray_umath import __cpu_features__ as features
print(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), features.get("X86_V4", features["AVX512F"]))
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ANYWHERE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("reproducible: anywhere\n", True),
        ("seed: 0\nreproducible: 'anywhere'   # on all\ndata: embedded\n", True),
        ("reproducible: machine\n", False),
        ("reproducible: machine  # not anywhere\n", False),
        ("train:\n  reproducible: anywhere\n", False),
        ("", False),
        (None, False),
    ],
)
def test_the_key_of_params_decides(tmp_path, monkeypatch, text, pinned):
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "7"})
    compute_as(tmp_path / "params.yaml")
    assert computes_alike() == pinned and os.environ["OMP_NUM_THREADS"] == ("2" if pinned else "7")


def started(folder, *words, **variables):
    """What a process prints that starts in a folder."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TQDM_DISABLE": "1"} | variables
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_stage_sets_it_before_the_libraries_look(tmp_path):
    (tmp_path / "params.yaml").write_text("reproducible: anywhere\n")
    assert started(tmp_path, "-c", ASKED, "stages.train", OMP_NUM_THREADS="1").split() == ["2", "AVX2", "False"]


def test_the_environment_changes_no_byte(tmp_path):
    """Each of these alone gives other weights without the setting."""
    words = "-m", "benchmarks.same_bytes", "tiny"
    other = {
        "OMP_NUM_THREADS": "1",
        "MKL_CBWR": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
    }
    found, again = (started(tmp_path, *words, **variables) for variables in ({}, other))
    lines = [line for line in found.splitlines() if " tiny " in line]
    assert len(lines) == 5 and lines == [line for line in again.splitlines() if " tiny " in line]


SIFT = """
import stages, cv2, hashlib
from skimage.data import coffee
from pipeline.evaluation.classical import classical_axes
print(cv2.ipp.getIppVersion(), cv2.getNumThreads(), hashlib.sha1(repr(classical_axes(coffee())).encode()).hexdigest())
"""


def test_features_are_the_same_without_avx512(tmp_path):
    """IPP's filters for AVX-512, and on most processors those for SSE 4.2, give other ones."""
    (tmp_path / "params.yaml").write_text("reproducible: anywhere\n")
    found = started(tmp_path, "-c", SIFT, "stages.baselines", OPENCV_IPP="sse42")
    again = started(tmp_path, "-c", SIFT, "stages.baselines", OPENCV_IPP="avx512", OPENCV_CPU_DISABLE="AVX512-SKX")
    assert found == again and found.split()[-2] == "1"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_filters_are_made_with_functions_that_are_rounded_alike(dtype):
    x = torch.rand(10_000, dtype=dtype, generator=torch.Generator().manual_seed(0))
    with SameFunctions():
        root, out = torch.sqrt(x), torch.empty_like(x)
        torch.exp(x, out=out)
        assert torch.equal(x.cos(), torch.from_numpy(np.cos(x.numpy()))) and torch.equal(-x, x * -1)
    assert torch.equal(root, torch.from_numpy(np.sqrt(x.numpy())))  # not so outside, on processors of AMD
    assert torch.equal(out, torch.from_numpy(np.exp(x.numpy())))


def test_provenance_names_the_processor_only_where_it_matters(monkeypatch):
    here = provenance()
    assert here["reproducible"] == "machine" and here["torch"] == torch.__version__ and here["threads"] == 1
    assert "family" in here["device"] or sys.platform != "linux"
    for name, value in ANYWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processor, "has_avx2", lambda: True)
    assert provenance() == {**here, "reproducible": "anywhere", "device": "x86-64 with AVX2"}
    monkeypatch.setattr(processor, "has_avx2", lambda: False)
    assert provenance() == {**here, "reproducible": "anywhere"}


def test_a_processor_that_cannot_is_told(monkeypatch, caplog):
    same_kernels()
    for name, value in ANYWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processor, "has_avx2", lambda: True)
    same_kernels()
    assert not caplog.records
    monkeypatch.setattr(processor, "has_avx2", lambda: False)
    with caplog.at_level(logging.WARNING):
        same_kernels()
    assert "made for x86-64 with AVX2" in caplog.text


def test_on_a_gpu_deterministic_kernels_are_taken(monkeypatch):
    taken = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.use_deterministic_algorithms", lambda mode, warn_only: taken.append((mode, warn_only)))
    same_kernels()
    assert not taken
    for name, value in ANYWHERE.items():
        monkeypatch.setenv(name, value)
    same_kernels()
    assert taken == [(True, True)]
