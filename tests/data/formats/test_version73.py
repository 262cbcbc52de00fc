"""MATLAB 7.3: what h5py writes in MATLAB's layout is read as it was, within limits, and from nowhere else."""

from itertools import count

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.formats.matlab import version73 as matlab73
from pipeline.data.formats.matlab.file import read_matlab
from pipeline.errors import DataError
from tests.data.formats.test_matlab import cell, equal, names, outcome, values

HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
CLASSES = {"f8": "double", "f4": "single"}
CLASSES |= {f"{kind}{size}": f"{'u' * (kind == 'u')}int{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)}
STORED = [{}, {"compression": 3}, {"compression": 3, "shuffle": True}, {"fletcher32": True}, {"chunks": True}]
NUMBERS = count()  # for the names of cells


def put(file, place, name, value, options):
    """Write a value as MATLAB does: reversed dimensions, a class, cells by reference into #refs#."""
    if isinstance(value, dict):
        group = place.create_group(name)
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        fields = np.empty(len(value), object)
        fields[:] = [np.array(list(field), "S1") for field in value]
        group.attrs.create("MATLAB_fields", fields, dtype=h5py.vlen_dtype(np.dtype("S1")))
        for field, content in value.items():
            put(file, group, field, content, options)
        return group
    if isinstance(value, str):
        units = np.frombuffer(value.encode("utf-16-le"), "<u2")
        dataset = place.create_dataset(name, data=units.reshape(-1, 1), **options)
        kind = "char"
    elif value.dtype == object:
        dataset = place.create_dataset(name, data=references(file, value, options), dtype=h5py.ref_dtype)
        kind = "cell"
    else:
        dataset = place.create_dataset(name, data=value.T, **options)
        kind = CLASSES[value.dtype.newbyteorder("=").str[1:]]
    dataset.attrs["MATLAB_class"] = np.bytes_(kind)
    return dataset


def references(file, values, options):
    """References to values, in MATLAB's order."""
    found = np.empty(values.T.shape, h5py.ref_dtype)
    for place, value in np.ndenumerate(values.T):
        found[place] = put(file, file.require_group("#refs#"), f"r{next(NUMBERS)}", value, options).ref
    return found


def written(path, variables, options=None, **how):
    with h5py.File(path, "w", userblock_size=512, **how) as file:
        for name, value in variables.items():
            put(file, file, name, value, options or {})
    return stamped(path)


def stamped(path):
    with path.open("r+b") as file:
        file.write(HEADER)
    return path


def expected(value):
    """What the reader makes of it: no dimensions of length 1."""
    if isinstance(value, dict):
        return {name: expected(content) for name, content in value.items()}
    if isinstance(value, str):
        return value
    if value.dtype == object:
        contents = np.empty(value.shape, object)
        for place, content in np.ndenumerate(value):
            contents[place] = expected(content)
        value = contents
    value = value.squeeze()
    return value if value.ndim else value.item()


@settings(max_examples=40)
@given(
    st.dictionaries(names, values, min_size=1, max_size=3),
    st.sampled_from(STORED),
    st.sampled_from(["earliest", "v108"]),
)
def test_what_was_written(tmp_path_factory, variables, options, version):
    path = tmp_path_factory.getbasetemp() / "any73.mat"
    written(path, variables, options, libver=(version, "v108" if version == "v108" else "latest"))
    found = read_matlab(path, variables)
    for name, value in variables.items():
        assert equal(found[name], expected(value)), (found[name], value)
        if isinstance(value, dict):
            assert list(found[name]) == list(value)  # fields in order


@pytest.mark.parametrize("options", STORED[1:])
@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i2", "u1"])
def test_arrays_in_many_pieces(tmp_path, options, kind):
    array = np.random.default_rng(0).integers(0, 100, (61, 45)).astype(kind)
    path = written(tmp_path / "a.mat", {"x": array}, options | {"chunks": (7, 16)})
    assert read_matlab(path, ["x"])["x"].tolist() == array.tolist()


def test_a_group_of_many_members(tmp_path):
    """So many that a B-tree has several levels."""
    values = cell([np.array([[float(n)]]) for n in range(400)])
    path = written(tmp_path / "a.mat", {"x": values} | {f"v{n}": np.eye(2) for n in range(150)})
    found = read_matlab(path, ["x", "v149"])
    assert found["x"].tolist() == list(range(400)) and found["v149"].tolist() == np.eye(2).tolist()


def test_arrays_of_structs_and_empty_values(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("gt")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for field, column in {"name": ["a.jpg", "b.jpg"], "ax": [np.ones((1, 4)), np.zeros((2, 4))]}.items():
            refs = references(file, cell(column).T, {})
            group.create_dataset(field, data=refs, dtype=h5py.ref_dtype)
        for name, kind in {
            "none": "double",
            "empty": "char",
            "cells": "cell",
            "structs": "struct",
            "new": "canonical empty",
        }.items():
            dataset = file.create_dataset(name, data=np.array([0, 0], "u8"))
            dataset.attrs["MATLAB_class"], dataset.attrs["MATLAB_empty"] = np.bytes_(kind), np.uint8(1)
    found = read_matlab(stamped(path), ["gt", "none", "empty", "cells", "structs", "new"])
    assert [entry["name"] for entry in found["gt"]] == ["a.jpg", "b.jpg"]
    assert [entry["ax"].shape for entry in found["gt"]] == [(4,), (2, 4)]
    assert found["empty"] == "" and all(found[name].size == 0 for name in ("none", "cells", "structs", "new"))


def test_what_is_not_read_blocks_nothing(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        put(file, file, "segments", np.eye(4), {})
        file.create_dataset("c", data=np.array([1 + 2j])).attrs["MATLAB_class"] = np.bytes_("double")
        file.create_dataset("when", data=np.arange(6, dtype="u4")).attrs["MATLAB_class"] = np.bytes_("datetime")
        group = file.create_group("sparse")
        group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(3)
        file.create_group("f").attrs["MATLAB_class"] = np.bytes_("function_handle")
        file.create_dataset("plain", data=np.eye(2))
        file.create_dataset("odd", data=np.eye(2) > 0).attrs["MATLAB_class"] = np.bytes_("logical")
        struct = put(file, file, "s", {"ax": np.ones((1, 4))}, {})
        struct.create_dataset("c", data=np.array([1 + 2j])).attrs["MATLAB_class"] = np.bytes_("double")
    stamped(path)
    assert read_matlab(path, ["segments", "s"])["s"]["ax"].tolist() == [1, 1, 1, 1]
    words = {"c": "complex", "when": "datetime", "sparse": "sparse", "f": "function_handle", "plain": "class ''"}
    for name, word in words.items():
        with pytest.raises(DataError, match=f"a.mat: {name}: expected numbers, text, .*{word}"):
            read_matlab(path, [name])
    with pytest.raises(DataError, match="a.mat: .*odd: .* save -v7 a.mat odd"):
        read_matlab(path, ["odd"])
    with pytest.raises(DataError, match=r"a.mat: expected the variables \['x'\], got \['c', 'f', 'odd', 'plain'"):
        read_matlab(path, ["x"])


def test_nothing_is_read_from_elsewhere(tmp_path):
    written(tmp_path / "secret.mat", {"x": np.eye(2)})
    (tmp_path / "secret.bin").write_bytes(np.eye(2).tobytes())
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = h5py.ExternalLink(str(tmp_path / "secret.mat"), "/x")
        file["y"] = h5py.SoftLink("/z")
        outside = file.create_dataset("e", (2, 2), "f8", external=[(str(tmp_path / "secret.bin"), 0, 32)])
        outside.attrs["MATLAB_class"] = np.bytes_("double")
    for name in ("x", "y", "e"):
        with pytest.raises(DataError, match="a.mat"):
            read_matlab(stamped(path), [name])


def test_classes_that_python_wrote_as_text_of_any_length(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", data=np.eye(2)).attrs["MATLAB_class"] = "double"
    assert read_matlab(stamped(path), ["x"])["x"].tolist() == np.eye(2).tolist()


@pytest.mark.parametrize("kind", [5, 1.5, np.eye(2), h5py.Empty("f8"), ["a", "b"], "", b"\xff"])
def test_classes_of_another_kind(tmp_path, kind):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", data=np.eye(2)).attrs["MATLAB_class"] = kind
    with pytest.raises(DataError, match="a.mat"):
        read_matlab(stamped(path), ["x"])


@pytest.mark.parametrize("kind", ["double", "char", "cell", "struct"])
@pytest.mark.parametrize("data", [[np.inf, np.nan], np.array([b"ab"]), [1 + 2j], [-1, 5], ["text"]])
def test_values_of_another_kind_than_their_class(tmp_path, kind, data):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", data=data).attrs["MATLAB_class"] = np.bytes_(kind)
        group = file.create_group("s")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        group.create_dataset("field", data=data)
    assert isinstance(outcome(stamped(path), "x"), str) or kind == "double" and np.asarray(data).dtype.kind in "fi"
    assert isinstance(outcome(path, "s"), str)


# Limits


def test_a_few_kilobytes_do_not_unfold_to_gigabytes(tmp_path, monkeypatch):
    path = written(tmp_path / "a.mat", {"x": np.zeros((1000, 1000)), "y": np.eye(2)}, {"compression": 9})
    assert path.stat().st_size < 200_000 and read_matlab(path, ["x"])["x"].size == 10**6
    monkeypatch.setattr(matlab73, "LARGEST_FILE", 5_000_000)
    with pytest.raises(DataError, match="a.mat: .*x: it holds more values"):
        read_matlab(path, ["x"])
    assert read_matlab(path, ["y"])["y"].tolist() == np.eye(2).tolist()


@pytest.mark.parametrize("shape", [(2**20, 2**20), (2**31, 2**31), (2**62, 0)])
def test_shapes_that_nothing_fills(tmp_path, shape):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        chunks = None if 0 in shape else (8, 8)
        dataset = file.create_dataset("x", shape, "f8", chunks=chunks)
        dataset.attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.raises(DataError, match="a.mat"):
        read_matlab(stamped(path), ["x"])


@pytest.mark.parametrize("stored", [{}, {"chunks": (2, 2)}])
def test_data_that_were_never_written(tmp_path, stored):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        dataset = file.create_dataset("x", (4, 4), "f8", **stored)
        dataset.attrs["MATLAB_class"] = np.bytes_("double")
        if stored:
            dataset[:2] = 1
    with pytest.raises(DataError, match="a.mat: .*x: (it ends too early|pieces of an array are missing)"):
        read_matlab(stamped(path), ["x"])


@pytest.mark.parametrize("version", ["earliest", "v108"])
def test_what_refers_to_itself_ends(tmp_path, version):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512, libver=(version, "v108" if version == "v108" else "latest")) as file:
        cells = file.create_dataset("cells", (8, 8), h5py.ref_dtype)
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
        cells[...] = np.full((8, 8), cells.ref, h5py.ref_dtype)
        group = file.create_group("struct")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for name in "abcdefgh":
            group[name] = group
    for name in ("cells", "struct"):
        with pytest.raises(DataError, match=f"a.mat: .*{name}: (cells lie in cells 16 deep|it holds more values)"):
            read_matlab(stamped(path), [name])


# Damage


def test_no_wrong_bit_in_compressed_data_goes_unnoticed(tmp_path):
    value = np.random.default_rng(0).normal(size=(12, 4))
    path = written(tmp_path / "a.mat", {"x": value}, {"compression": 3, "shuffle": True, "fletcher32": True})
    good = path.read_bytes()
    with h5py.File(path) as file:
        piece = file["x"].id.get_chunk_info(0)
        start = piece.byte_offset
        start += 0 if good[start : start + 2] in (b"\x78\x5e", b"\x78\x01", b"\x78\x9c") else 512
    for place in range(start, start + piece.size, 3):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        assert isinstance(outcome(path, "x"), str), place


def test_no_cut_goes_unnoticed(tmp_path):
    variables = {"x": np.random.default_rng(0).normal(size=(9, 4)), "c": cell(["a", np.eye(2)])}
    path = written(tmp_path / "a.mat", variables, {"compression": 3})
    good, whole = path.read_bytes(), {name: outcome(path, name) for name in variables}
    for length in range(0, len(good), 61):
        path.write_bytes(good[:length])
        for name, value in whole.items():
            found = outcome(path, name)
            assert isinstance(found, str) or str(found) == str(value), length  # what is cut off may be room left free
