"""MATLAB files of version 7.3: HDF5 in which attributes tell MATLAB's classes."""

from collections.abc import Collection

import numpy as np

from pipeline.data.formats.matlab.hdf5 import Array, Hdf5
from pipeline.data.formats.matlab.values import DAMAGE, DEEPEST, Unreadable, objects, reason, squeezed, text
from pipeline.data.reading.files import LARGEST_FILE

HEADER = 512  # bytes before the HDF5 signature
NUMBERS = {"double": "f8", "single": "f4", "logical": "u1", "canonical empty": "f8"} | {
    f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def read(content: bytes, names: Collection[str]) -> tuple[dict[str, object], list[str]]:
    """The variables of these names, and the names of all. Raises one of DAMAGE."""
    file = Hdf5(content[HEADER:], LARGEST_FILE)
    members = file.members(file.root)
    found = {}
    for name in members.keys() & names:
        try:
            found[name] = _value(file, members[name], 0)
        except DAMAGE as error:
            raise ValueError(f"{name}: {reason(error)}") from None
    return found, [name for name in members if not name.startswith("#")]


def _value(file: Hdf5, address: int, depth: int) -> object:
    """The value of a variable, cell or field."""
    if depth > DEEPEST:
        raise ValueError(f"cells lie in cells {DEEPEST} deep and deeper")
    attributes = file.attributes(address)
    if "MATLAB_sparse" in attributes:
        return Unreadable("a sparse matrix (use full)")
    kind = _class(file, attributes)
    if file.is_group(address):
        return _structs(file, address, attributes, depth) if kind in ("struct", "") else Unreadable(f"a {kind}")
    if kind not in NUMBERS and kind not in ("char", "cell", "struct"):
        return Unreadable(f"an object of class {kind!r} (use char, cellstr, struct or numbers)")
    array = file.dataset(address)
    if "MATLAB_empty" in attributes and _only(file.attribute(attributes["MATLAB_empty"]), "numbers").any():
        return (
            ""
            if kind == "char"
            else np.empty(_shape(_only(array, "numbers")), object if kind in ("cell", "struct") else float)
        )
    if array.kind == "compounds":
        return Unreadable("complex numbers (use real)")
    if kind in ("cell", "struct"):
        return squeezed(_referred(file, array, depth).T)
    values = _only(array, "numbers")
    if kind == "char":
        if values.dtype.kind != "u":
            raise ValueError("expected letters, got other numbers")
        return text(values.T.astype("<u2"), "utf-16-le")
    return squeezed(values.T.astype(NUMBERS[kind]))


def _class(file: Hdf5, attributes: dict[str, bytes]) -> str:
    """MATLAB's class of an object; empty where none is told."""
    if "MATLAB_class" not in attributes:
        return ""
    name = file.attribute(attributes["MATLAB_class"])
    return (file.lists(name.values)[0] if name.kind == "lists" else _only(name, "text").item()).decode()


def _only(array: Array, kind: str) -> np.ndarray:
    """The values of an array that must be of a kind."""
    if array.kind != kind:
        raise ValueError(f"expected {kind}, got {array.kind}")
    return array.values


def _structs(file: Hdf5, address: int, attributes: dict[str, bytes], depth: int) -> object:
    """A dict of a struct, or an array of one for each, where each field holds references."""
    members = file.members(address)
    if "MATLAB_fields" in attributes:  # the order of the fields
        names = file.lists(_only(file.attribute(attributes["MATLAB_fields"]), "lists"))
        members = {name.decode(): members[name.decode()] for name in names if name.decode() in members}
    if not members or not all(_is_array_of_structs(file, member) for member in members.values()):
        return {name: _value(file, member, depth + 1) for name, member in members.items()}
    columns = [_referred(file, file.dataset(member), depth) for member in members.values()]
    if len({column.shape for column in columns}) > 1:
        raise ValueError("its fields are arrays of different shapes")
    structs = objects([dict(zip(members, row)) for row in zip(*(column.ravel() for column in columns))])
    return squeezed(structs.reshape(columns[0].shape).T)


def _is_array_of_structs(file: Hdf5, address: int) -> bool:
    """Whether a field has one value for each of several structs: then it has no class of its own."""
    return not file.is_group(address) and "MATLAB_class" not in file.attributes(address)


def _referred(file: Hdf5, array: Array, depth: int) -> np.ndarray:
    """The values that an array of references leads to, in its shape."""
    references = _only(array, "references")
    values = [_value(file, int(address), depth + 1) for address in references.ravel()]
    return objects(values).reshape(references.shape)


def _shape(values: np.ndarray) -> tuple[int, ...]:
    """The shape of an empty array, which stands in place of its values."""
    shape = tuple(int(length) for length in values.ravel())
    if 0 not in shape:
        raise ValueError(f"expected the shape of an empty array, got {shape}")
    return shape
