"""The stages of the data: what they were asked for reaches the packed files, and the figures of these are theirs."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, Sample
from pipeline.data.download import own as own_folder
from pipeline.data.download import packages, published
from pipeline.data.formats.labelme import own
from pipeline.data.packed.split import PackedSplit
from pipeline.data.packed.targets import BLUR
from pipeline.data.preparation.catalogue import SPLITS
from pipeline.data.synthesis import embedded
from stages import choose, data_report, fetch, preprocess, synthesize
from tests.stages.scene import draw, heat, packed, read, table, write_params

CROSSING = Annotation(axes=(ReflectionAxis(5, 50, 90, 50), ReflectionAxis(50, 5, 50, 90)))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# fetch


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the modules that make, bring or copy data."""
    calls = []
    bringing = [(module, "bring") for module in (published, own_folder)]
    for module, name in [(embedded, "write"), (packages, "copy_from_packages"), *bringing]:

        def noted(*args, module=module.__name__, name=name, **named):
            calls.append((f"{module.rpartition('.')[2]}.{name}", *args, *named.values()))

        monkeypatch.setattr(module, name, noted)
    return calls


def test_what_is_fetched(folder, asked):
    write_params(folder, "data_seed=9", "embedded.images=12", "own.folder=mine", "train.datasets=[dendi, own]")
    for dataset in SPLITS:
        fetch.fetch(dataset)
    made = [
        ("embedded.write", name, Path(f"data/raw/.{name}.part"), 12, 9) for name in ("dendi", "sdrw", "ldrs", "nyu")
    ]
    assert asked == [
        *made,
        ("packages.copy_from_packages", Path("data/raw/.photos.part")),
        ("own.bring", folder / "mine", Path("data/raw/.own.part"), 9, True),
    ]


def test_what_is_fetched_of_the_published_data(folder, asked):
    url = "https://example.org/pmc.zip"
    write_params(
        folder, "data=published", "published.dendi=archive.zip", f"published.pmc={url}", "published.password=secret"
    )
    for dataset in ("dendi", "sdrw", "own"):
        fetch.fetch(dataset)
    assert asked == [
        ("published.bring", "dendi", f"{folder}/archive.zip", "", folder / "data", Path("data/raw/.dendi.part")),
        ("published.bring", "sdrw", url, "secret", folder / "data", Path("data/raw/.sdrw.part")),
        ("own.bring", folder / "data/own", Path("data/raw/.own.part"), 0, False),
    ]


# preprocess


def turned(folder):
    """A photograph of 60 x 100 pixels, to be seen lying, in whose lying form its mark fits."""
    exif, path = Image.Exif(), folder / "turned.png"
    exif[0x0112] = 6
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 60, 3), np.uint8)).save(path, exif=exif)
    return Sample("turned", path, Annotation(axes=(ReflectionAxis(70, 10, 95, 50),)))


@pytest.mark.parametrize("dataset", SPLITS)
def test_what_is_packed(folder, monkeypatch, dataset):
    params = write_params(
        folder, "task=rotation", "data_seed=4", "evaluate.sdrw_validation=released", "own.labels=[fold]",
        "backbones.tiny.input_size=80", "ablation.input_size=48",
    )  # fmt: skip
    seen = []

    def noted(name, root, task, split, validation, seed, findings, labels):
        seen.append((name, root, task, split, validation, seed, labels))
        crossing = Sample("crossing", draw(folder / "crossing.png", heat()), CROSSING)
        return [crossing, turned(folder)] if split == SPLITS[dataset][0] else []

    monkeypatch.setattr(preprocess, "read", noted)
    for purpose, size in (("model", 80), ("ablation", 48)):
        seen.clear()
        preprocess.preprocess(dataset, purpose)
        place = (dataset, Path("data/raw") / dataset, "rotation")
        asked = {"sdrw": ("released", 4, ()), "own": (None, None, params.own.labels)}.get(dataset, (None, None, ()))
        assert seen == [(*place, split, *asked) for split in SPLITS[dataset]]
        for name in SPLITS[dataset]:
            split = PackedSplit(Path(f"data/packed/{purpose}/{dataset}/{name}.safetensors"), "rotation")
            assert split.size == size and len(split) == 2 * (name == SPLITS[dataset][0])
    found = read(f"data/packed/ablation/{dataset}/findings.json")[SPLITS[dataset][0]]
    assert [entry["what"] for entry in found if entry["kind"] == "repair"] == ["turned as EXIF says"]


@pytest.mark.parametrize("repair", [True, False])
@pytest.mark.parametrize("dataset, targets, clipped", [
    ("dendi", "released", True), ("ldrs", "released", False), ("ldrs", "clipped", True),
])  # fmt: skip
def test_targets_and_repair(folder, monkeypatch, dataset, targets, clipped, repair):
    write_params(folder, f"preprocess.targets={targets}", f"preprocess.repair={str(repair).lower()}")
    samples = [Sample("crossing", draw(folder / "crossing.png", heat()), CROSSING), turned(folder)]
    monkeypatch.setattr(preprocess, "read", lambda *_: samples)
    preprocess.preprocess(dataset, "model")
    split = PackedSplit(Path(f"data/packed/model/{dataset}/train.safetensors"), "reflection")
    limit = float(np.float32(BLUR["reflection"][1]))
    assert split.record(0)["top"] == limit if clipped else split.record(0)["top"] > 1.2 * limit
    sizes = [(split.record(number)["width"], split.record(number)["height"]) for number in range(2)]
    assert sizes == [(96, 96), (100, 60) if repair else (60, 100)]


# choose, data_report


def test_digests_of_what_is_trained_on(folder):
    write_params(folder, "train.datasets=[dendi, nyu]")
    for dataset, splits in SPLITS.items():
        for count, split in enumerate(splits, start=1):
            packed(folder, dataset, split, count)
    choose.main()
    expected = {
        name: {
            split: hashlib.sha256(Path(f"data/packed/model/{name}/{split}.safetensors").read_bytes()).hexdigest()
            for split in splits
        }
        for name, splits in {"dendi": ("train", "val"), "nyu": ("train",)}.items()
    }
    assert read("data/training.json") == expected


def test_figures_of_the_data(folder):
    """Each split has another number of axes; every second image holds a rotation centre."""
    write_params(folder, "task=rotation")
    expected, number = {}, 0
    for dataset, splits in SPLITS.items():
        for split in splits:
            number += 1
            count, columns = 1 + number % 3, tuple(range(number))
            packed(folder, dataset, split, count, columns)
            expected[dataset, split] = {
                "images": count, "marked": count // 2, "axes": number * count, "discs": 0, "centres": count // 2,
                "fault": int(split == splits[0]), "repair": 2 * (split == splits[0]), "note": 3 * (split == splits[0]),
                "leaks": count,
            }  # fmt: skip
        kinds = ("fault", *["repair"] * 2, *["note"] * 3)
        found = {splits[0]: [{"kind": kind, "what": "odd", "text": "x", "image": ""} for kind in kinds]}
        (folder / f"data/packed/model/{dataset}/findings.json").write_text(json.dumps(found))
    data_report.main()
    found = read("metrics/data.json")
    assert {(name, split): row for name, splits in found.items() for split, row in splits.items()} == expected
    rows = table(Path("data/report/report.md").read_text(), "## Counts")
    assert [{key: int(row[key]) for key in figures} for row, figures in zip(rows, expected.values())] == [
        *expected.values()
    ]
    assert [(row["dataset"], row["split"]) for row in rows] == list(expected)


# synthesize


def test_composites(folder, monkeypatch):
    write_params(folder, "backbone=lite", "seed=1", "synthetic.images=9", "synthetic.photographs=shots")
    for number in range(20):
        draw(folder / f"shots/{number}.png", heat([(5 + number, 0.9)]))
    monkeypatch.setattr(synthesize, "VALIDATION_IMAGES", 2)
    seen, generate = [], synthesize.generate

    def noted(photographs, part, task, count, size, seed, workers, bare, backdrops):
        seen.append((len(photographs), part.name, task, count, size, seed, bare, backdrops))
        generate(photographs, part, task, count, size, seed, 0, bare, backdrops)

    monkeypatch.setattr(synthesize, "generate", noted)
    axes = [[5 + number, 8, 5 + number, 56, 0.1 * (number % 10)] for number in range(20)]
    found = {f"{number}.png": {"axes": [axis], "centres": [[9, 9]]} for number, axis in enumerate(axes)}
    (folder / "marks.json").write_text(json.dumps(found))
    changes = ["data_seed=6", "synthetic.images=3", "backbones.lite.input_size=64"]
    synthesize.main(
        "small", "rotation", *changes, "synthetic.marks=marks.json", "synthetic.least=0.25", "synthetic.whole=0.4"
    )
    (*train, known), (*val, unknown) = seen
    assert train == [19, "train", "rotation", 3, 64, 6, 0.4] and val == [1, "val", "rotation", 2, 64, 6, 0.5]
    assert unknown is None and {(len(some.axes), len(some.centres)) for some in known.marks} == {(0, 1), (1, 1)}
    for name, count in (("train", 3), ("val", 2)):
        split = PackedSplit(Path(f"data/synthetic/small/packed/own/{name}.safetensors"), "rotation")
        samples = own.samples(Path("data/synthetic/small/images"), [], name, "rotation", ())
        assert (len(split), split.size) == (count, 64)
        assert [split.annotation(number) for number in range(count)] == [sample.annotation for sample in samples]
