"""Options and fixtures of all tests."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples each time, however slow; `--hypothesis-profile fuzz` draws many new ones.
settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=10_000, deadline=None)
settings.load_profile("default")
torch.set_num_threads(1)  # on models this small threads mostly wait for each other


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=Path(__file__).with_name("golden"),
        metavar="DIR",
        help="folder with recorded outputs of the released code (default: tests/golden)",
    )
    parser.addoption("--kills", type=int, default=1, help="random moments at which test_kills.py kills a stage")


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How many random moments each stage is killed at."""
    return request.config.getoption("--kills")


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder of recorded outputs."""
    return request.config.invocation_params.dir / request.config.getoption("--golden")


@pytest.fixture(autouse=True, scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where trainings leave checkpoints and logs: never in the project."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("repository")
        patch.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        patch.delenv("DVC_ROOT", raising=False)
        patch.setenv("DVC_NO_ANALYTICS", "1")  # else each `dvc` starts a second process and leaves a temporary file
        patch.setenv("OMP_NUM_THREADS", "1")  # of processes that tests start, as of this one
        yield folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model for reflection, not trained."""
    from tests.model.test_checkpoint import saved, tiny

    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    saved(path, tiny("none"))
    return path
