"""The types of the values in params.yaml.

DVC compares values by ==, by which 1, 1.0 and true are the same. So a value of another type is an error where the type
changes what is done.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError


def _number(value: object) -> object:
    """pydantic would take true for 1.0."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number, not true or false")
    return value


def _alpha(value: object, validate: Callable) -> float | str:
    """One message, where pydantic would give one for the number and one for the word."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError("alpha", "Input should be a number less than 1, or 'balanced'") from None


def _layers(value: object) -> object:
    if type(value) is not int:
        raise PydanticCustomError("layers", "Input should be 1, 2 or 4")
    return value


def _none_if_empty(value: object) -> object:
    """What `dvc exp run -S key=` leaves is an empty text."""
    return None if isinstance(value, str) and not value.strip() else value


def _not_empty(value: object) -> object:
    if _none_if_empty(value) is None:
        raise PydanticCustomError("empty", "Input should be the path of a folder")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[\w.,=+\[\]-]+", value):
        raise PydanticCustomError(
            "name", "Input should be letters, digits and any of _ . , = + - [ ], as it becomes the name of a stage"
        )
    return value


def _distinct(values: tuple) -> tuple:
    if twice := [value for value in values if values.count(value) > 1]:
        raise PydanticCustomError(
            "distinct", "Input should hold each value once, not '{value}' again", {"value": twice[0]}
        )
    return values


NAMES_FILES = "the value names a file or folder"  # marks the types below

Count = Annotated[int, Field(ge=1, strict=True)]
InputSize = Annotated[int, Field(ge=32, le=4096, strict=True)]  # pixels; a picture of this size takes memory
Seed = Annotated[int, Field(ge=0, strict=True)]
Number = Annotated[float, BeforeValidator(_number)]
Share = Annotated[Number, Field(gt=0, le=1)]
Alpha = Annotated[Annotated[Number, Field(lt=1)] | Literal["balanced"], WrapValidator(_alpha)]
Layers = Annotated[Literal[1, 2, 4], BeforeValidator(_layers)]
Text = Annotated[str, Field(pattern=r"\S")]  # not of blanks alone
Name = Annotated[str, AfterValidator(_name)]  # part of a stage's name, a folder's, and a command
File = Annotated[Path | None, BeforeValidator(_none_if_empty), NAMES_FILES]
Folder = Annotated[Path, BeforeValidator(_not_empty), NAMES_FILES]
Source = Annotated[str | None, BeforeValidator(_none_if_empty), NAMES_FILES]  # a path or a URL
Value = TypeVar("Value")
Axis = Annotated[tuple[Value, ...], Field(min_length=1), AfterValidator(_distinct)]


def named_files(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Path | None]]:
    """Each dotted key whose value names a file or folder, with the path as it is written; None: none, or a URL."""
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from named_files(value, f"{key}.")
        elif isinstance(value, dict):
            for entry, inner in value.items():
                yield from named_files(inner, f"{key}.{entry}.")
        elif NAMES_FILES in field.metadata:
            yield key, None if value is None or "://" in str(value) else Path(value)
