"""Samples become packed splits: the same on any number of cores, odd files told of, bad ones left out."""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre, Sample
from pipeline.data.packed.split import PackedSplit
from pipeline.data.packed.targets import mask, scaled, unscaled_target
from pipeline.data.preparation import prepare as preparing
from pipeline.data.preparation.catalogue import SPLITS
from pipeline.data.preparation.prepare import pack
from pipeline.geometry import Letterbox
from pipeline.params import load_params
from pipeline.params.choices import Targets
from stages import preprocess

SIZE = 64
SHAPES = {"wide": (50, 90), "tall": (131, 77), "small": (20, 20), "bare": (64, 64), "narrow": (1, 40)}
MARKS = Annotation(
    axes=(ReflectionAxis(3.7, 1.2, 30.5, 18.9), ReflectionAxis(0, 9, 19, 9)),
    discs=(ReflectionDisc(((10.5, 2), (11, 8), (8, 5), (13, 5.25))),),
    centres=(RotationCentre(12.5, 7.1, 5), RotationCentre(2, 3, 0)),
)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


@pytest.fixture
def samples(tmp_path):
    """Images of noise, all marked but `bare`."""
    return [
        Sample(name, save(tmp_path / f"{name}.png", noise(*shape)), Annotation() if name == "bare" else MARKS)
        for name, shape in SHAPES.items()
    ]


def packed(folder, samples, task="reflection", repair=True, clip=True):
    """The packed split, and what was found: pairs of kind and what, with the text."""
    found = pack(samples, task, SIZE, folder / "train.safetensors", "test", repair, clip)
    return PackedSplit(folder / "train.safetensors", task), found


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("task", ["reflection", "rotation"])
def test_what_is_packed(tmp_path, samples, task, clip):
    split, _ = packed(tmp_path / "packed", samples, task, repair=False, clip=clip)
    assert [split.name(number) for number in range(len(split))] == list(SHAPES)
    for number, sample in enumerate(samples):
        shape = SHAPES[sample.name]
        letterbox, marked = Letterbox(*shape, SIZE), mask(sample.annotation, task, *shape)
        np.testing.assert_array_equal(split.image(number), letterbox.image(noise(*shape)))
        raw = unscaled_target(marked, task, letterbox, clip)
        np.testing.assert_array_equal(split.unscaled_target(number), raw)
        np.testing.assert_array_equal(split.target(number), scaled(raw))
        np.testing.assert_array_equal(split.mask(number), marked)
        assert split.letterbox(number) == letterbox and split.annotation(number) == sample.annotation
        assert split.record(number)["file"] == str(sample.image)


@pytest.mark.parametrize("targets", get_args(Targets))
def test_whose_targets_are_clipped(tmp_path, monkeypatch, targets):
    """The released loader of SDRW, LDRS and NYU does not clip."""
    seen, params = {}, load_params(Path(__file__).parents[3] / "params.yaml", [f"preprocess.targets={targets}"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preprocess, "load_params", lambda: params)
    monkeypatch.setattr(preprocess, "read", lambda *_: [])

    def noted(samples, task, size, path, description, repair, clip):
        seen[path.parent.name.split(".")[0], path.stem] = clip
        return []

    monkeypatch.setattr(preprocess, "pack", noted)
    for dataset in SPLITS:
        place = nullcontext(tmp_path / dataset)
        monkeypatch.setattr(preprocess, "atomic_folder", lambda folder, place=place: place)
        (tmp_path / dataset).mkdir()
        preprocess.preprocess(dataset, "model")
    unclipped = {dataset for (dataset, _), clip in seen.items() if not clip}
    assert {dataset for dataset, _ in seen} == set(SPLITS)
    assert unclipped == ({"sdrw", "ldrs", "nyu"} if targets == "released" else set())


def test_any_number_of_cores_gives_the_same_file(tmp_path, samples, monkeypatch):
    many = [Sample(f"{s.name}-{n}", s.image, s.annotation) for n in range(8) for s in samples]
    many.insert(13, Sample("missing", tmp_path / "missing.png", MARKS))
    files, findings = [], []
    for cores in (1, 2, 5):
        monkeypatch.setattr(preparing.os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        path = tmp_path / str(cores) / "train.safetensors"
        findings.append(pack(many, "reflection", SIZE, path, "test"))
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2] and findings[0] == findings[1] == findings[2]
    assert len(PackedSplit(path, "reflection")) == 40


def test_bad_images_are_left_out_and_all_of_them_told(tmp_path, samples):
    cut = save(tmp_path / "cut.jpg", noise(60, 60))
    cut.write_bytes(cut.read_bytes()[:500])
    bad = [Sample("cut", cut, MARKS), Sample("gone", tmp_path / "gone.jpg", MARKS)]
    split, found = packed(tmp_path / "packed", [bad[0], *samples, bad[1]])
    faults = [finding for finding in found if finding.kind == "fault"]
    assert [str(sample.image) in fault.text for sample, fault in zip(bad, faults, strict=True)] == [True, True]
    assert [split.name(number) for number in range(len(split))] == list(SHAPES)


def only(found, kind):
    """The one finding of this kind, without that of the missing mark."""
    (finding,) = [finding for finding in found if finding.kind == kind and finding.what != "nothing marked"]
    return finding


def turned(folder, orientation, *ends):
    """A sample of an image of 30 x 60 pixels that wants to be seen turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(folder / "turned.jpg", noise(60, 30), exif=exif, quality=95)
    return Sample("turned", path, Annotation(axes=tuple(ReflectionAxis(*end) for end in ends)))


@pytest.mark.parametrize("ends", [[(50, 2, 55, 28)], [(5, 2, 9, 28)], []])
def test_an_image_is_turned_when_the_marks_allow_it(tmp_path, ends):
    sample = turned(tmp_path, 6, *ends)
    split, found = packed(tmp_path / "packed", [sample])
    assert (split.record(0)["height"], split.record(0)["width"]) == (30, 60)
    assert only(found, "repair").what == "turned as EXIF says" and only(found, "repair").image == str(sample.image)
    upright = np.rot90(np.array(Image.open(sample.image)), -1)
    np.testing.assert_array_equal(split.image(0), Letterbox(30, 60, SIZE).image(upright))


def test_an_image_stays_when_the_marks_fit_it_as_stored(tmp_path):
    split, found = packed(tmp_path / "packed", [turned(tmp_path, 6, (5, 50, 9, 58))])
    assert split.record(0)["height"] == 60 and not [f for f in found if f.kind == "repair"]
    assert only(found, "note").what == "EXIF orientation"


def test_marks_are_scaled_to_an_image_that_was_resized(tmp_path):
    sample = replace(turned(tmp_path, 6, (100, 4, 110, 56)), drawn=(120, 60))
    split, found = packed(tmp_path / "packed", [sample])
    assert (split.record(0)["height"], split.record(0)["width"]) == (30, 60)
    assert split.annotation(0) == Annotation(axes=(ReflectionAxis(50, 2, 55, 28),))
    assert [f.what for f in found if f.kind == "repair"] == ["marks scaled to the image", "turned as EXIF says"]


def test_marks_of_an_image_of_another_shape_are_a_fault(tmp_path):
    sample = replace(turned(tmp_path, 6, (5, 2, 9, 28)), drawn=(50, 50))
    split, found = packed(tmp_path / "packed", [sample])
    assert len(split) == 0 and "its marks were drawn on an image of 50 x 50 pixels" in only(found, "fault").text
    split, found = packed(tmp_path / "plain", [sample], repair=False)
    assert [f.text.split(": ")[-1] for f in found if f.what == "size other than annotated"] == ["50 x 50"]


def test_without_repair_all_stays_as_the_released_code_reads_it(tmp_path):
    exchanged = Sample(
        "exchanged", save(tmp_path / "e.png", noise(20, 60)), Annotation(axes=(ReflectionAxis(2, 50, 9, 55),))
    )
    still = Sample("still", save(tmp_path / "s.png", noise(20, 60)), Annotation(axes=(ReflectionAxis(5, 5, 5, 5),)))
    odd = [turned(tmp_path, 6, (50, 2, 55, 28)), exchanged, still]
    split, found = packed(tmp_path / "plain", odd, repair=False)
    assert not [finding for finding in found if finding.kind == "repair"]
    assert [split.annotation(n) for n in range(3)] == [s.annotation for s in odd] and split.record(0)["height"] == 60
    split, found = packed(tmp_path / "repaired", odd)
    assert [f.what for f in found if f.kind == "repair"] == [
        "turned as EXIF says", "x and y exchanged", "axis without length left out"
    ]  # fmt: skip
    assert split.annotation(1) == Annotation(axes=(ReflectionAxis(50, 2, 55, 9),))


@pytest.mark.parametrize(
    ("name", "pixels", "options", "what"),
    [
        ("grey.png", noise(9, 9)[..., 0], {}, "not RGB"),
        ("called.jpg", noise(9, 9), {"format": "PNG"}, "format other than the extension"),
        ("fine.jpeg", noise(9, 9), {}, None),
    ],
)
def test_odd_files_are_noted(tmp_path, name, pixels, options, what):
    sample = Sample("odd", save(tmp_path / name, pixels, **options), Annotation(axes=(ReflectionAxis(1, 1, 7, 7),)))
    _, found = packed(tmp_path / "packed", [sample])
    assert [(f.kind, f.what, f.image) for f in found] == ([("note", what, str(sample.image))] if what else [])


def test_marks_are_noted(tmp_path, samples):
    _, found = packed(tmp_path / "packed", samples)
    unmarked = [f.image for f in found if f.what == "nothing marked"]
    assert unmarked == [str(s.image) for s in samples[3:]]  # nothing of what is marked lies in `narrow`
    beyond = [f for f in found if f.what == "mark partly outside the image"]
    assert [f.image for f in beyond] == [str(samples[2].image)]
    _, found = packed(tmp_path / "packed", samples[:1], "rotation")
    assert found == []


def test_nothing_to_pack(tmp_path):
    split, found = packed(tmp_path / "packed", [])
    assert len(split) == 0 and found == [] and os.listdir(tmp_path / "packed") == ["train.safetensors"]
