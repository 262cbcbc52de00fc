"""The stage that trains the network of the folds."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations import Annotation, RotationCentre
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.detection import folds as network
from pipeline.errors import DataError
from stages import folds
from tests.detection.test_folds import dial


@pytest.fixture
def composites(tmp_path, monkeypatch):
    """A dial of each fold, for training and for validation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folds, "WEIGHTS", tmp_path / "folds.npz")
    monkeypatch.setattr(network, "WEIGHTS", tmp_path / "folds.npz")
    for split in ("train", "val"):
        folder = tmp_path / folds.COMPOSITES / split
        folder.mkdir(parents=True)
        for fold in network.FOLDS:
            Image.fromarray(dial(fold)).save(folder / f"{fold}.jpg", quality=95)
            marks = Annotation(centres=(RotationCentre(127.5, 127.5, fold),))
            (folder / f"{fold}.json").write_text(json.dumps(labelme.content(marks, f"{fold}.jpg", 256, 256)))
    network._layers.cache_clear()
    yield tmp_path
    network._layers.cache_clear()


def test_it_learns_what_it_is_shown(composites, caplog):
    with caplog.at_level("INFO"):
        folds.main()
    first = (composites / "folds.npz").read_bytes()
    powers = np.stack([network.ring_powers(dial(fold), 127.5, 127.5) for fold in network.FOLDS])
    told = network.probabilities(powers).argmax(1)
    assert (told == np.arange(len(network.FOLDS))).mean() > 0.8
    assert "as_they_are" in caplog.text and "off" in caplog.text and "discs" in caplog.text
    folds.main()
    assert (composites / "folds.npz").read_bytes() == first


def test_a_fold_that_is_missing_is_told(composites):
    (composites / folds.COMPOSITES / "train" / "5.json").unlink()
    with pytest.raises(DataError, match=r"found none of \[5\]"):
        folds.main()
