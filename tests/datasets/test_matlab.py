"""Our reader of MATLAB files gives what scipy's gives, and names what it does not read."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.io import loadmat, savemat
from scipy.sparse import eye_array

from pipeline.datasets import matlab
from pipeline.datasets.matlab import read_matlab
from pipeline.errors import DataError

TYPES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
names = st.text("abcdefg", min_size=1, max_size=5)
numbers = st.sampled_from(TYPES).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=4))
)
words = st.text(st.characters(codec="latin-1", exclude_categories=["C"]), min_size=1, max_size=8)


def cell(values):
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


values = st.recursive(
    numbers | words,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(cell) | st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def equal(ours, expected):
    if hasattr(expected, "_fieldnames"):  # scipy makes dicts of structs only where the first of their cells is one
        expected = {name: getattr(expected, name) for name in expected._fieldnames}
    if isinstance(expected, dict):
        return (
            isinstance(ours, dict) and ours.keys() == expected.keys() and all(equal(ours[k], expected[k]) for k in ours)
        )
    if isinstance(expected, str):
        return ours == expected
    if isinstance(expected, list):  # that too it makes only where the first of the cells is a struct
        return len(ours) == len(expected) and all(map(equal, ours, expected))
    ours, expected = np.asarray(ours), np.asarray(expected)
    if expected.dtype == object:
        return ours.shape == expected.shape and all(equal(a, b) for a, b in zip(ours.flat, expected.flat))
    return ours.shape == expected.shape and np.array_equal(ours, expected, equal_nan=expected.dtype.kind == "f")


@given(st.dictionaries(names, values, min_size=1, max_size=3), st.booleans())
def test_the_same_as_scipy(tmp_path_factory, variables, compressed):
    path = tmp_path_factory.getbasetemp() / "any.mat"
    savemat(path, variables, do_compression=compressed)
    expected = loadmat(path, simplify_cells=True)
    found = read_matlab(path)
    assert found.keys() == variables.keys()
    for name in variables:
        assert equal(found[name], expected[name]), (found[name], expected[name])


def saved(path, **variables):
    savemat(path, variables, do_compression=True)
    return path


def test_text_in_rows_and_arrays_of_structs(tmp_path):
    structs = np.array([("a", 1), ("b", 2)], [("name", object), ("n", object)])
    found = read_matlab(
        saved(tmp_path / "a.mat", rows=np.array(["ab ", "cde"]), structs=structs, none=np.empty((0, 0)))
    )
    assert found["rows"].tolist() == ["ab ", "cde"] and found["none"].size == 0
    assert [(s["name"], s["n"]) for s in found["structs"]] == [("a", 1), ("b", 2)]


def test_big_endian(tmp_path):
    double = (6).to_bytes(4, "big") + (8).to_bytes(4, "big") + (6).to_bytes(4, "big") + bytes(4)
    shape = (5).to_bytes(4, "big") + (8).to_bytes(4, "big") + (1).to_bytes(4, "big") + (2).to_bytes(4, "big")
    name = (1 << 16 | 1).to_bytes(4, "big") + b"x\0\0\0"
    data = (9).to_bytes(4, "big") + (16).to_bytes(4, "big") + np.array([1.5, -2], ">f8").tobytes()
    body = double + shape + name + data
    header = b"MATLAB 5.0".ljust(124) + b"\x01\x00MI"
    (tmp_path / "a.mat").write_bytes(header + (14).to_bytes(4, "big") + len(body).to_bytes(4, "big") + body)
    assert loadmat(tmp_path / "a.mat")["x"].tolist() == [[1.5, -2]]  # scipy agrees that it is such a file
    assert read_matlab(tmp_path / "a.mat")["x"].tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [(eye_array(3).tocsc(), "class 5"), (np.array([1 + 2j]), "class 6"), (np.array([1j]), "class 6")],
)
def test_other_classes_are_named(tmp_path, variable, expected):
    with pytest.raises(DataError, match=f"a.mat: .*{expected}"):
        read_matlab(saved(tmp_path / "a.mat", x=variable))


def test_a_few_kilobytes_do_not_unfold_to_gigabytes(tmp_path, monkeypatch):
    path = saved(tmp_path / "bomb.mat", x=np.zeros(2_000_000))
    assert path.stat().st_size < 100_000 and len(read_matlab(path)["x"]) == 2_000_000
    monkeypatch.setattr(matlab, "LARGEST_FILE", 10_000_000)
    with pytest.raises(DataError, match="bomb.mat: .*at most 10000000 bytes when decompressed"):
        read_matlab(path)


def test_cells_nested_without_end(tmp_path):
    value = "x"
    for _ in range(40):
        value = cell([value, 1])
    with pytest.raises(DataError, match="deep"):
        read_matlab(saved(tmp_path / "deep.mat", x=value))


@pytest.mark.parametrize("content", [b"", b"MATLAB 7.3 MAT-file".ljust(600), b"x" * 500, zlib.compress(b"x" * 500)])
def test_no_matlab_file(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match="a.mat: not a MATLAB file"):
        read_matlab(tmp_path / "a.mat")


def test_a_shape_that_the_numbers_do_not_fill(tmp_path):
    savemat(buffer := BytesIO(), {"x": np.ones((3, 5))})
    shape, huge = np.array([5, 8, 3], "<i4").tobytes(), np.array([5, 8, 2**31 - 1], "<i4").tobytes()
    (tmp_path / "a.mat").write_bytes(buffer.getvalue().replace(shape, huge))
    with pytest.raises(DataError, match="a.mat"):
        read_matlab(tmp_path / "a.mat")
