"""Whatever bytes a file holds, a reader gives samples or says what is wrong: no other error, no hang, no writing.

`pytest tests/data/formats/test_fuzz.py --hypothesis-profile fuzz` tries a hundred times as many.
"""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from pipeline.annotations import Sample
from pipeline.data.download import checksums
from pipeline.data.formats import dendi
from pipeline.data.formats.labelme import ldrs
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.data.formats.matlab import nyu, sdrw
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.packing import Packed, write_packed
from pipeline.data.reading.images import read_photograph
from pipeline.errors import DataError

FIGURES = {
    "figures": [
        {"label": "reflection", "shape": {"coordinates": [[1, 2], [3.5, 4]]}, "attributes": []},
        {"label": "reflection-circle", "shape": {"coordinates": [[5, 0], [5, 8], [0, 4], [9, 4]]}, "attributes": []},
        {"label": "rotation-polygon", "shape": {"coordinates": [[7.9, 8]]}, "attributes": [{"value": "6"}]},
    ]
}
SHAPES = {
    "shapes": [
        {"label": "x", "shape_type": "line", "points": [[1, 2], [3.5, 4]]},
        {"label": "x", "shape_type": "circle", "points": [[9, 9], [3.5, 4]]},
        {"label": "rotation 5", "shape_type": "point", "points": [[9, 9]]},
    ]
}


def saved(write):
    write(buffer := io.BytesIO())
    return buffer.getvalue()


def matlab(**variables):
    return saved(lambda file: savemat(file, variables, do_compression=True))


def truth(names, marks):
    entries = np.empty(len(names), [("name", object), ("ax", object)])
    entries[:] = list(zip(names, marks))
    return entries.reshape(-1, 1)


def names_and_marks(name, marks):
    cell = np.empty((1, 1), object)
    cell[0, 0] = name
    return {"name": cell, "ax": np.array([marks])}


def split_lists():
    lists = {f"{split}_{kind}": [f"{kind}/a.{kind}"] for split in ("train", "val", "test") for kind in ("img", "ann")}
    return saved(lambda file: torch.save(lists, file))


ROW = np.array([1, 2, 3, 4.5])
MATLAB = Path(__file__).with_name("matlab")  # files of all versions, see make.m there


def nyu_of(name):
    """NYU with a MATLAB file of `tests/datasets/matlab`, which is fuzzed."""
    files = {"NYU/S/I001.png": b"", "NYU/M/I001.png": b"", "NYU/M/I001.mat": matlab(segments=ROW)}
    return nyu, "train", "NYU/S/I001.mat", (MATLAB / f"{name}.mat").read_bytes(), files


# what is fuzzed -> its reader and split, the file and its content, and the other files that are needed
TREES = {
    "dendi split": (dendi, "train", "reflection_split.pt", split_lists(),
                    {"ann/a.ann": json.dumps(FIGURES).encode()}),
    "dendi annotation": (dendi, "train", "ann/a.ann",
                         json.dumps(FIGURES).encode(), {"reflection_split.pt": split_lists()}),
    "ldrs": (ldrs, "val", "LDRS/val/a.json", json.dumps(SHAPES).encode(),
             {"LDRS/val/a.jpg": b""}),
    **{f"nyu {name}": nyu_of(name) for name in ("v4", "v6", "v7", "v73", "workspace-v7", "octave-hdf5")},
    "sdrw training": (sdrw, "train",
                      "SDRW/reflection_training/singleGT_training/singleGT_training.mat",
                      matlab(gt=truth(["a.jpg", "b.jpg "], [ROW, np.stack([ROW, ROW])])),
                      {"SDRW/reflection_training/single_training/a.jpg": b"",
                       "SDRW/reflection_training/multipleGT_training/multipleGT_training.mat":
                           matlab(gt=truth(["a.jpg"], [ROW]))}),
    "sdrw testing": (sdrw, "test", "SDRW/reflectionTestGt2013.mat",
                     matlab(gtS=names_and_marks("a.jpg", ROW), gtM=names_and_marks("a.jpg", ROW)),
                     {"SDRW/reflection_testing/single_testing/a.jpg": b""}),
}  # fmt: skip


def mutated(good):
    """Bytes near `good`: some overwritten, a piece cut out, doubled or put in; or any bytes."""

    def change(changes):
        content = bytearray(good)
        for place, kind, piece in changes:
            place %= len(content) + 1
            if kind == "overwrite":
                content[place : place + len(piece)] = piece
            elif kind == "insert":
                content[place:place] = piece
            elif kind == "cut":
                del content[place : place + 8 * len(piece)]
            else:
                del content[place:]
        return bytes(content)

    kinds = st.sampled_from(["overwrite", "overwrite", "insert", "cut", "truncate"])
    step = st.tuples(st.integers(0, 2**20), kinds, st.binary(min_size=1, max_size=6))
    return st.one_of(st.lists(step, min_size=1, max_size=4).map(change), st.binary(max_size=300))


def tree(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def listing(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def check_reader(folder, reader, split):
    """Samples or DataError; paths stay inside the folder and nothing is written."""
    before = listing(folder)
    try:
        samples = reader.samples(folder, findings := [], split, "reflection", ())
    except DataError as error:
        assert str(folder) in str(error)
    else:
        assert all(isinstance(sample, Sample) and folder in sample.image.parents for sample in samples)
        assert all(str(folder) in finding.text for finding in findings)
    assert listing(folder) == before


@pytest.mark.parametrize("name", TREES)
def test_readers(tmp_path, name):
    reader, split, fuzzed, good, files = TREES[name]
    tree(tmp_path, {**files, fuzzed: good})

    @given(mutated(good))
    def any_bytes(content):
        (tmp_path / fuzzed).write_bytes(content)
        check_reader(tmp_path, reader, split)

    check_reader(tmp_path, reader, split)
    any_bytes()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["line", "circle", "point"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["label", "shape", "shape_type", "points", "coordinates", "attributes", "value"]), inner
        )
    ),
    max_leaves=12,
)


@given(
    st.lists(values, max_size=3) | values,
    st.sampled_from([lambda path: labelme.read_drawing(path, ["line"]), dendi.read_annotation]),
)
def test_any_json(tmp_path_factory, content, read):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"shapes": content, "figures": content}))
    try:
        read(path)
    except DataError as error:
        assert str(path) in str(error)


def picture(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)
    return saved(lambda file: Image.fromarray(pixels).save(file, kind))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then refuses or mends
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "AVIF"])
def test_images(tmp_path, kind):
    path = tmp_path / "image"

    @given(mutated(picture(kind)))
    def any_bytes(content):
        path.write_bytes(content)
        try:
            found = read_photograph(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert found.pixels.ndim == 3 and found.pixels.shape[2] == 3 and found.turned().dtype == np.uint8

    any_bytes()


def test_packed_files(tmp_path):
    path = tmp_path / "train.safetensors"
    write_packed(path, [Packed.of(np.ones((5, 5, 3), np.uint8), np.eye(5, dtype=np.float32) / 2, {"name": "a"})], 5)

    @given(mutated(path.read_bytes()[:4200]).map(lambda head: head + good[4200:]))
    def any_head(content):
        path.write_bytes(content)
        try:
            assert len(PackedSplit(path, "reflection")) >= 0
        except DataError as error:
            assert str(path) in str(error)

    good = path.read_bytes()
    any_head()


@given(mutated(b"https://a.b/c:\n  bytes: 3\n  first_seen: '2026-01-01'\n  sha256: abc\n"))
def test_checksums(tmp_path_factory, content):
    ledger = Path(tmp_path_factory.getbasetemp()) / "checksums.yaml"
    ledger.write_bytes(content)
    try:
        checksums.require("abc", "https://a.b/c", None, ledger)
    except DataError as error:
        assert str(ledger) in str(error)
