"""Packed splits give back what went in, one piece at a time, to whoever opens the file."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch.utils.data import DataLoader

from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, RotationCentre
from pipeline.data.packed.split import PackedSplit, TargetSplit, packed_splits
from pipeline.data.packed.targets import mask, scaled, unscaled_target
from pipeline.data.preparation.packing import HEADER, Packed, write_packed
from pipeline.errors import DataError
from pipeline.geometry import Letterbox
from pipeline.runtime.process import start_method

SIZE = 24
MARKS = Annotation(
    axes=(ReflectionAxis(3.7, 1.2, 30.5, 18.9),),
    discs=(ReflectionDisc(((10.5, 2), (11, 8), (8, 5), (13, 5.25))),),
    centres=(RotationCentre(12.5, 7.1, 5),),
)
NAMES = ("first", "second", "third", "fourth")


def target(kind, generator):
    """Empty, full, flat with a rim, or noise: float32 [S, S] in 0..1."""
    if kind == "noise":
        return generator.random((SIZE, SIZE), np.float32)
    found = np.full((SIZE, SIZE), 0.75 if kind == "full" else 0, np.float32)
    if kind == "disc":
        found[5:20, 3:9] = 0.9999
        found[4, 3:9] = found[20, 3:9] = generator.random(6, np.float32) / 2
    return found


@pytest.fixture
def content():
    """Image, target and record of four samples: random pixels, a target of each kind."""
    generator = np.random.default_rng(0)
    return [
        (
            generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8),
            target(kind, generator),
            {"name": name, "file": f"{name}.jpg", "height": 40 + n, "width": 50, "annotation": MARKS.to_dict()},
        )
        for n, (name, kind) in enumerate(zip(NAMES, ("empty", "full", "disc", "noise"), strict=True))
    ]


@pytest.fixture
def samples(content):
    return [Packed.of(*parts) for parts in content]


@pytest.fixture
def split(tmp_path, samples):
    write_packed(tmp_path / "dendi" / "train.safetensors", samples, SIZE)
    return PackedSplit(tmp_path / "dendi" / "train.safetensors", "reflection")


def test_round_trip(split, content):
    assert (len(split), split.size, split.dataset, split.task) == (4, SIZE, "dendi", "reflection")
    for number in reversed(range(4)):
        (image, expected, known), record = content[number], split.record(number)
        assert split.image(number).dtype == np.uint8 and split.unscaled_target(number).dtype == np.float32
        np.testing.assert_array_equal(split.image(number), image)
        np.testing.assert_array_equal(split.unscaled_target(number), expected)
        np.testing.assert_array_equal(split.target(number), scaled(expected))
        assert {key: record[key] for key in known} == json.loads(json.dumps(known))
        assert (split.name(number), split.annotation(number)) == (NAMES[number], MARKS)
        assert split.letterbox(number) == Letterbox(40 + number, 50, SIZE)
        np.testing.assert_array_equal(split.mask(number), mask(MARKS, "reflection", 40 + number, 50))
    np.testing.assert_array_equal(PackedSplit(split.path, "rotation").mask(1), mask(MARKS, "rotation", 41, 50))


def test_others_can_open_the_file(split, samples):
    with safe_open(split.path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    assert tensors.keys() == {"images", "padding", "bounds", "where", "values", "edges", "records"}
    np.testing.assert_array_equal(tensors["images"], np.stack([sample.image for sample in samples]))
    bounds, records = tensors["bounds"], tensors["records"].tobytes()
    assert bounds.shape == (5, 3) and bounds[-1].tolist() == [len(tensors[k]) for k in ("where", "edges", "records")]
    assert [json.loads(records[a:b])["name"] for a, b in zip(bounds[:-1, 2], bounds[1:, 2])] == list(NAMES)
    assert (tensors["values"] > 0).all() and len(tensors["values"]) == len(tensors["where"])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3), st.integers(1, 9))
def test_every_target_comes_back(tmp_path_factory, seed, levels, size):
    generator = np.random.default_rng(seed)
    steps = generator.integers(0, levels + 1, (3, size, size)).astype(np.float32) / 3
    path = tmp_path_factory.getbasetemp() / "levels" / "train.safetensors"
    image = np.zeros((size, size, 3), np.uint8)
    assert write_packed(path, (Packed.of(image, step, {}) for step in steps), size) == 3
    for number, step in enumerate(steps):
        np.testing.assert_array_equal(PackedSplit(path, "reflection").unscaled_target(number), step)


def test_what_is_overfitted_keeps_the_axes_beside_an_unclipped_crossing(tmp_path):
    """The truth is of axes, however much higher the target is where they cross."""
    marked = np.zeros((96, 96), bool)
    marked[30] = marked[:, 40] = True
    box = Letterbox(96, 96, 96)
    raw = {clip: unscaled_target(marked, "reflection", box, clip) for clip in (True, False)}
    square = np.zeros((96, 96, 3), np.uint8)
    write_packed(tmp_path / "train.safetensors", [Packed.of(square, raw[False], {})], 96)
    split = TargetSplit(tmp_path / "train.safetensors", "reflection")
    np.testing.assert_array_equal(split.mask(0), scaled(raw[True]) >= 0.5)
    assert split.mask(0)[marked].all() and (split.target(0)[marked] < 0.6).mean() > 0.9


def test_a_disc_takes_little_room(tmp_path):
    disc = np.hypot(*np.mgrid[-200:200, -200:200]) < 190
    sample = Packed.of(np.zeros((400, 400, 3), np.uint8), disc.astype(np.float32), {})
    write_packed(tmp_path / "train.safetensors", [sample], 400)
    assert (tmp_path / "train.safetensors").stat().st_size < 1.02 * 400 * 400 * 3


def test_what_is_returned_can_be_written_to(split):
    for take in (split.image, split.target):
        before = take(1).copy()
        array = take(1)
        array += 1
        np.testing.assert_array_equal(take(1), before)


def test_numbers_outside(split):
    for number in (4, -1):
        with pytest.raises(IndexError):
            split.image(number)
        with pytest.raises(IndexError):
            split.target(number)


def test_no_samples(tmp_path):
    assert write_packed(tmp_path / "val.safetensors", [], SIZE) == 0
    empty = PackedSplit(tmp_path / "val.safetensors", "reflection")
    assert len(empty) == 0 and empty.size == SIZE


def test_many_readers_at_once(split, content):
    class Images:
        def __len__(self):
            return 200

        def __getitem__(self, number):
            return split.image(number % 4), split.unscaled_target(number % 4)

    loader = DataLoader(Images(), batch_size=None, num_workers=2, multiprocessing_context=start_method(2))
    for number, (image, found) in enumerate(loader):
        np.testing.assert_array_equal(image, content[number % 4][0])
        np.testing.assert_array_equal(found, content[number % 4][1])
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(split.image, [n % 4 for n in range(200)]))
    assert all((image == content[number % 4][0]).all() for number, image in enumerate(images))


def test_a_large_split_is_never_in_memory(tmp_path):
    """300 MB of images, written and read at random in a process whose memory grows by a small part of that."""
    code = """
import resource, sys, numpy as np
from pathlib import Path
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.packing import HEADER, Packed, write_packed
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
path, side, before = Path(sys.argv[1]), 417, peak()
image, target = np.full((side, side, 3), 7, np.uint8), np.zeros((side, side), np.float32)
target[:, 200] = 1
write_packed(path, (Packed.of(image, target, {"name": str(n)}) for n in range(600)), side)
split = PackedSplit(path, "reflection")
for n in np.random.default_rng(0).permutation(len(split)):
    assert split.image(n)[0, 0, 0] == 7 and split.unscaled_target(n)[5, 200] == 1 and split.name(n) == str(n)
print(path.stat().st_size, peak() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "train.safetensors")]
    size, grown = map(int, subprocess.check_output(command, text=True).split())
    assert size > 290 * 2**20 and grown < 60 * 2**20


def test_packing_again_replaces_everything(split, samples):
    write_packed(split.path, samples[2:3], SIZE)
    assert [len(PackedSplit(split.path, "reflection")), PackedSplit(split.path, "reflection").name(0)] == [1, "third"]


def test_a_stop_while_writing_leaves_what_was_there(split, samples):
    def stopping():
        yield samples[0]
        raise KeyboardInterrupt

    before = split.path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_packed(split.path, stopping(), SIZE)
    assert split.path.read_bytes() == before


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"<html>" * 900]
)
def test_a_damaged_file_is_named(split, damage):
    split.path.write_bytes(damage(split.path.read_bytes()))
    with pytest.raises(DataError, match="train.safetensors"):
        len(PackedSplit(split.path, "reflection"))


def test_no_byte_changes_unnoticed(split):
    """Each of the header's, and some of the rest: it is found, or makes no difference, as in the header's padding."""
    sound = split.path.read_bytes()
    expected = PackedSplit(split.path, "reflection")._head
    for place in [*range(700), *range(700, len(sound), 97), len(sound) - 1]:
        damaged = bytearray(sound)
        damaged[place] ^= 16
        split.path.write_bytes(damaged)
        try:
            (found,) = packed_splits(split.path.parents[1], ["dendi"], "train", "reflection")
        except DataError as error:
            assert "train.safetensors" in str(error)
        else:
            assert found._head == expected and 600 < place < 8 + HEADER


def test_a_damaged_split_is_not_trained_on(split):
    content = bytearray(split.path.read_bytes())
    content[-1] ^= 1
    split.path.write_bytes(content)
    assert len(PackedSplit(split.path, "reflection")) == 4  # quick to open
    with pytest.raises(DataError, match="train.safetensors: damaged"):
        packed_splits(split.path.parents[1], ["dendi"], "train", "reflection")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere.safetensors.*dvc repro preprocess"):
        len(PackedSplit(tmp_path / "nowhere.safetensors", "reflection"))


def test_packed_splits(tmp_path, samples):
    for place, count in {"dendi/val": 4, "sdrw/val": 0, "ldrs/val": 2, "ldrs/test": 1}.items():
        write_packed(tmp_path / f"{place}.safetensors", samples[:count], SIZE)
    found = packed_splits(tmp_path, ["ldrs", "nyu", "sdrw", "dendi"], "val", "reflection")
    assert [(split.dataset, len(split), split.task) for split in found] == [
        ("ldrs", 2, "reflection"),
        ("dendi", 4, "reflection"),
    ]
    assert packed_splits(tmp_path, ["nyu", "sdrw"], "val", "reflection") == []


@pytest.mark.parametrize("shape", [(120, 90), (60, 100), (33, 33)])
def test_native_image_is_close_to_the_original(tmp_path, shape):
    rows, columns = np.indices(shape) / np.array(shape)[:, None, None]
    smooth = np.stack([255 * rows, 255 * columns, 127 + 60 * np.sin(6 * rows + 4 * columns)], axis=2).astype(np.uint8)
    square, record = Letterbox(*shape, 96).image(smooth), {"height": shape[0], "width": shape[1]}
    write_packed(tmp_path / "train.safetensors", [Packed.of(square, np.zeros((96, 96), np.float32), record)], 96)
    native = PackedSplit(tmp_path / "train.safetensors", "reflection").native_image(0)
    assert native.shape == (*shape, 3) and native.dtype == np.uint8
    difference = np.abs(native.astype(int) - smooth)[2:-2, 2:-2]  # the region may begin or end in a black bar
    assert difference.mean() < 2 and difference.max() < 8
