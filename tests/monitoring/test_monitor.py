"""The progress of a training, as it is shown and summed up."""

import re
from types import SimpleNamespace

import pytest
import torch
from tqdm import tqdm

from pipeline.monitoring import monitor
from pipeline.monitoring.monitor import Progress

CPU = torch.device("cpu")


class Bar(tqdm):
    """One that is shown whatever the variable TQDM_DISABLE was when tqdm was imported."""

    def __init__(self, *args, disable=False, **options):
        super().__init__(*args, disable=disable, **options)


@pytest.mark.parametrize("shown", [True, False])
def test_an_epoch_that_is_taken_up_again(capfd, monkeypatch, shown):
    """Two of its six images are done, one epoch is to follow: ten images, of which four are done in eight seconds."""
    now = 100.0
    monkeypatch.setattr(monitor, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(monitor, "tqdm", Bar)
    progress, closed = Progress(3, shown), []

    def loader():
        nonlocal now
        try:
            for part in ("a", "b"):
                now += 1.0
                yield part
            yield "one too many"
        finally:
            closed.append(True)

    with progress.epoch(2, 6, 2, loader()) as parts:
        for expected, loss in (("a", 2.0), ("b", 3.0)):
            assert next(parts) == expected
            now += 3.0
            progress.step(2, loss, 0.001)
    assert closed  # what loads the images has ended
    printed = capfd.readouterr().err
    expected = "epoch 2/3", "6/6", "loss=0.50000 lr=1.0e-03 all done in 00:12"  # six images more
    assert all(part in printed for part in expected) if shown else not printed
    found = progress.summary(CPU)
    assert found.startswith("0.5 images/s; 25% of the time went into waiting for data; peak memory of a process: ")
    assert float(re.search(r"process: (.+) GB$", found)[1]) > 0.05


def test_nothing_done_nothing_said():
    assert Progress(3, True).summary(CPU) == ""
