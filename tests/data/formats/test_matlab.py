"""Our readers of MATLAB files give what scipy's gives, and name what they do not read."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.io import loadmat, savemat
from scipy.sparse import eye_array

from pipeline.data.formats.matlab import hdf5
from pipeline.data.formats.matlab import version5 as matlab5
from pipeline.data.formats.matlab.file import read_matlab, segments
from pipeline.data.formats.matlab.values import Unreadable
from pipeline.errors import DataError

FOLDER = Path(__file__).with_name("matlab")  # written by Octave, see make.m there
SEGMENTS = [[1, 2, 3, 4], [5, 6, 7, 8]]
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


def assert_as_scipy(path, variables):
    expected, found = loadmat(path, simplify_cells=True), read_matlab(path, variables)
    assert list(found) == list(variables)
    for name in variables:
        assert equal(found[name], expected[name]), (found[name], expected[name])
        assert equal(read_matlab(path, [name])[name], expected[name])  # alone, too


@given(st.dictionaries(names, values, min_size=1, max_size=3), st.booleans())
def test_the_same_as_scipy(tmp_path_factory, variables, compressed):
    path = tmp_path_factory.getbasetemp() / "any.mat"
    savemat(path, variables, do_compression=compressed)
    assert_as_scipy(path, variables)


flat = st.sampled_from(["f8", "f4", "i4", "i2", "u2", "u1"]).flatmap(
    lambda kind: arrays.arrays(kind, st.tuples(st.integers(1, 4), st.integers(1, 4)))
)


@given(st.dictionaries(names, flat | st.text("abc", min_size=1, max_size=8), min_size=1, max_size=3))
def test_the_same_as_scipy_of_version_4(tmp_path_factory, variables):
    path = tmp_path_factory.getbasetemp() / "any.mat"
    savemat(path, variables, format="4")
    assert_as_scipy(path, variables)


def saved(path, compressed=True, **variables):
    savemat(path, variables, do_compression=compressed)
    return path


def test_text_in_rows_and_arrays_of_structs(tmp_path):
    structs = np.array([("a", 1), ("b", 2)], [("name", object), ("n", object)])
    path = saved(tmp_path / "a.mat", rows=np.array(["ab ", "cde"]), structs=structs, none=np.empty((0, 0)))
    found = read_matlab(path, ["rows", "structs", "none"])
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
    assert read_matlab(tmp_path / "a.mat", "x")["x"].tolist() == [1.5, -2]


def test_big_endian_of_version_4(tmp_path):
    head = struct.pack(">5I", 1000, 1, 2, 0, 2)
    (tmp_path / "a.mat").write_bytes(head + b"x\0" + np.array([1.5, -2], ">f8").tobytes())
    assert loadmat(tmp_path / "a.mat")["x"].tolist() == [[1.5, -2]]
    assert read_matlab(tmp_path / "a.mat", "x")["x"].tolist() == [1.5, -2]


# What Octave writes


@pytest.mark.parametrize("version", ["v4", "v6", "v7", "v73"])
def test_segments_of_all_versions(version):
    path = FOLDER / f"{version}.mat"
    assert segments(path, read_matlab(path, ["segments"])["segments"]) == SEGMENTS


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("octave-text", "Octave's text format"),
        ("octave-binary", "Octave's binary format"),
        ("octave-zip", "compressed by gzip"),
        ("octave-hdf5", "HDF5 that is not MATLAB's"),
    ],
)
def test_other_formats_of_octave_are_named(name, what):
    with pytest.raises(DataError, match=rf"{name}.mat: .*{what}.* save -v7 {name}.mat segments"):
        read_matlab(FOLDER / f"{name}.mat", ["segments"])


LETTERS = {
    "square": ["pq", "rs"],  # of these three Octave writes lengths that are four bytes too long
    "three": ["p", "q", "r"],
    "four": ["p", "q", "r", "s"],
    "accents": ["aé", "bcd"],  # Octave counts bytes
    "accent": "é.jpg",
    "beyond": "a😀b",  # MATLAB counts units of 16 bits
}


@pytest.mark.parametrize("version", ["v4", "v6", "v7"])
def test_letters_of_octave(version):
    path = FOLDER / f"letters-{version}.mat"
    wanted = {name: text for name, text in LETTERS.items() if version != "v4" or name not in ("accents", "beyond")}
    assert {name: np.asarray(text).tolist() for name, text in read_matlab(path, wanted).items()} == wanted
    assert read_matlab(path, ["segments"])["segments"].tolist() == SEGMENTS  # behind them
    if version != "v4":
        square, name, number = read_matlab(path, ["beside"])["beside"]
        assert (square.tolist(), name, number) == (LETTERS["square"], "name", 5)


def test_several_wrong_lengths_in_one_cell():
    square, three, name = read_matlab(FOLDER / "many-v7.mat", ["many", "segments"])["many"]
    assert (square.tolist(), three.tolist(), name) == (LETTERS["square"], LETTERS["three"], "name")


# What is not read blocks nothing beside it


@pytest.mark.parametrize("version", ["v6", "v7"])
def test_a_workspace_with_all_sorts_of_things(version):
    found = read_matlab(FOLDER / f"workspace-{version}.mat", ["wanted", "segments"])
    assert found["segments"].tolist() == SEGMENTS
    assert found["wanted"]["name"] == "a.jpg" and found["wanted"]["ax"].tolist() == [1, 2, 3, 4]
    assert found["wanted"]["extra"] == Unreadable("a sparse matrix (use full)")


def of_class(number, name, value, fields=False):
    """Bytes of an uncompressed file with one variable of doubles, which is said to be of another class."""
    savemat(buffer := BytesIO(), {name: {"a": value} if fields else value})
    head = np.array([6, 8, 6], "<u4").tobytes()
    assert head in buffer.getvalue()
    return buffer.getvalue().replace(head, np.array([6, 8, number], "<u4").tobytes())


UNREAD = {3: "an object", 5: "a sparse matrix", 16: "a function", 18: "class 18"}


@pytest.mark.parametrize(("number", "words"), UNREAD.items())
def test_other_classes_are_named(tmp_path, number, words):
    path = tmp_path / "a.mat"
    path.write_bytes(of_class(number, "x", np.ones((2, 2))) + saved(BytesIO(), s=np.eye(2)).getvalue()[128:])
    assert read_matlab(path, ["s"])["s"].tolist() == np.eye(2).tolist()
    with pytest.raises(DataError, match=f"a.mat: x: expected .* got .*{words}"):
        read_matlab(path, ["s", "x"])
    path.write_bytes(of_class(number, "x", np.ones((2, 2)), fields=True))
    assert words in read_matlab(path, ["x"])["x"]["a"].what


def test_an_opaque_object_is_named(tmp_path):
    parts = [(6, np.array([17, 0], "<u4").tobytes()), (1, b"when"), (1, b"MCOS"), (1, b"datetime")]
    body = b"".join(
        struct.pack("<II", kind, len(data)) + data.ljust(-len(data) % 8 + len(data)) for kind, data in parts
    )
    opaque = struct.pack("<II", 14, len(body)) + body
    header, behind = (saved(BytesIO(), s=np.eye(2)).getvalue()[place] for place in (slice(128), slice(128, None)))
    for name, content in {"plain": opaque, "packed": zlib.compress(opaque)}.items():
        packed = content if name == "plain" else struct.pack("<II", 15, len(content)) + content
        (tmp_path / name).write_bytes(header + packed + behind)
        assert read_matlab(tmp_path / name, ["s"])["s"].tolist() == np.eye(2).tolist()
        with pytest.raises(DataError, match=f"{name}: when: expected .* string, table or datetime .use char"):
            read_matlab(tmp_path / name, ["when"])


@pytest.mark.parametrize(("variable", "words"), [(eye_array(3).tocsc(), "sparse"), (np.array([1 + 2j]), "complex")])
@pytest.mark.parametrize("compressed", [True, False])
def test_sparse_and_complex_variables(tmp_path, variable, words, compressed):
    path = saved(tmp_path / "a.mat", compressed, before=variable, segments=SEGMENTS, behind=variable)
    assert read_matlab(path, ["segments"])["segments"].tolist() == SEGMENTS
    for name in ("before", "behind"):
        with pytest.raises(DataError, match=f"a.mat: {name}: expected numbers, text, .* got .*{words}"):
            read_matlab(path, [name])


def test_what_cannot_be_read_is_no_mark(tmp_path):
    with pytest.raises(DataError, match="a.mat: expected segments .*: got a sparse matrix"):
        segments(tmp_path / "a.mat", cell([Unreadable("a sparse matrix")])[0])
    with pytest.raises(DataError, match="a.mat: expected segments .*: got a sparse matrix"):
        segments(tmp_path / "a.mat", Unreadable("a sparse matrix"))


def test_a_missing_variable(tmp_path):
    path = saved(tmp_path / "a.mat", axes=np.eye(2), other=eye_array(2).tocsc())
    with pytest.raises(DataError, match=r"a.mat: expected the variables \['segments'\], got \['axes', 'other'\]"):
        read_matlab(path, ["segments", "axes"])


# Damage


def outcome(path, name):
    try:
        return np.asarray(read_matlab(path, [name])[name]).tolist()
    except DataError as error:
        assert str(error).startswith(f"{path}: ")
        return str(error)


def test_no_wrong_bit_in_compressed_data_goes_unnoticed(tmp_path):
    value = np.random.default_rng(0).normal(size=(3, 4))
    good = saved(tmp_path / "a.mat", x=value).read_bytes()
    for place in range(136, len(good)):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        (tmp_path / "a.mat").write_bytes(content)
        found = outcome(tmp_path / "a.mat", "x")
        assert isinstance(found, str) or found == value.tolist(), place  # which is of a code that no data use


@pytest.mark.parametrize("compressed", [True, False])
def test_no_cut_goes_unnoticed(tmp_path, compressed):
    good = saved(tmp_path / "a.mat", compressed, x=np.random.default_rng(0).normal(size=(3, 4))).read_bytes()
    for length in range(len(good)):
        (tmp_path / "a.mat").write_bytes(good[:length])
        assert isinstance(outcome(tmp_path / "a.mat", "x"), str), length


def repacked(path, change):
    """The one variable of a compressed file, its compressed bytes changed and its length right."""
    good = path.read_bytes()
    packed = change(good[136:])
    path.write_bytes(good[:132] + struct.pack("<I", len(packed)) + packed)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed[:-1],  # of the checksum
        lambda packed: packed[:-4],
        lambda packed: packed[:-4] + bytes(4),
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed + b"x",
    ],
)
def test_damaged_compressed_data_name_the_variable(tmp_path, change):
    path = repacked(saved(tmp_path / "a.mat", x=np.arange(9000) % 77), change)
    with pytest.raises(DataError, match="a.mat: not a MATLAB file that can be read: x: .*save -v7 a.mat x"):
        read_matlab(path, ["x"])


def test_padding_behind_compressed_data(tmp_path):
    path = repacked(saved(tmp_path / "a.mat", x=np.eye(2)), lambda packed: packed + bytes(3))
    assert read_matlab(path, ["x"])["x"].tolist() == np.eye(2).tolist()


def test_a_few_kilobytes_do_not_unfold_to_gigabytes(tmp_path, monkeypatch):
    path = saved(tmp_path / "bomb.mat", x=np.zeros(2_000_000), y=np.eye(2))
    assert path.stat().st_size < 100_000 and len(read_matlab(path, ["x"])["x"]) == 2_000_000
    monkeypatch.setattr(matlab5, "LARGEST_FILE", 10_000_000)
    with pytest.raises(DataError, match="bomb.mat: .*x: .*at most 10000000 bytes when decompressed"):
        read_matlab(path, ["x"])
    assert read_matlab(path, ["y"])["y"].tolist() == np.eye(2).tolist()  # x is not unpacked for that


def test_cells_nested_without_end(tmp_path):
    value = "x"
    for _ in range(40):
        value = cell([value, 1])
    with pytest.raises(DataError, match="deep"):
        read_matlab(saved(tmp_path / "deep.mat", x=value), ["x"])


def test_fields_that_do_not_fill_a_struct(tmp_path):
    good = saved(tmp_path / "a.mat", False, x={"a": 1.0, "b": 2.0}).read_bytes()
    last = good.rfind(struct.pack("<I", 14))  # the value of b
    (tmp_path / "a.mat").write_bytes(good[:132] + struct.pack("<I", last - 136) + good[136:last])
    with pytest.raises(DataError, match="a.mat: .*x: expected values of"):
        read_matlab(tmp_path / "a.mat", ["x"])


HEADER = b"MATLAB 7.0 MAT-file, Platform: PCWIN64 HDF5 schema 1.0".ljust(124) + b"\0\2IM"
NO_MATLAB = {
    "empty": (b"", "no header of MATLAB"),
    "text": (b"x" * 500, "no header of MATLAB"),
    "zlib": (zlib.compress(b"x" * 500), "no header of MATLAB"),
    "7.3 cut": (HEADER, "HDF5 header"),
    "7.3 empty": (HEADER.ljust(512, b"\0") + hdf5.SIGNATURE + bytes(200), "HDF5 header|expected an object"),
    "7.3 by its signature": (HEADER[:124] + b"\0\1IM" + bytes(384) + hdf5.SIGNATURE, "HDF5 header|ends too early"),
}


@pytest.mark.parametrize(("content", "words"), NO_MATLAB.values(), ids=NO_MATLAB)
def test_no_matlab_file(tmp_path, content, words):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=f"a.mat: not a MATLAB file that can be read: .*({words}).* save -v7 a.mat x"):
        read_matlab(tmp_path / "a.mat", ["x"])


def test_the_text_of_a_header_tells_no_version(tmp_path):
    content = saved(tmp_path / "a.mat", x=np.eye(2)).read_bytes()
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(116) + content[116:])
    assert read_matlab(tmp_path / "a.mat", ["x"])["x"].tolist() == np.eye(2).tolist()


def test_a_shape_that_the_numbers_do_not_fill(tmp_path):
    savemat(buffer := BytesIO(), {"x": np.ones((3, 5))})
    shape, huge = np.array([5, 8, 3], "<i4").tobytes(), np.array([5, 8, 2**31 - 1], "<i4").tobytes()
    (tmp_path / "a.mat").write_bytes(buffer.getvalue().replace(shape, huge))
    with pytest.raises(DataError, match="a.mat"):
        read_matlab(tmp_path / "a.mat", ["x"])
