"""The types of the values in params.yaml.

DVC compares values by ==, by which 1, 1.0 and true are the same. So a value of another type is an error where the type
changes what is done.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WrapValidator
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


NAMES_FILES = "the value names a file or folder"  # marks the types below; pipeline.params.project finds them

Count = Annotated[int, Field(ge=1, strict=True)]
InputSize = Annotated[int, Field(ge=32, le=4096, strict=True)]  # pixels; a picture of this size takes memory
Seed = Annotated[int, Field(ge=0, strict=True)]
Number = Annotated[float, BeforeValidator(_number)]
Share = Annotated[Number, Field(gt=0, le=1)]
Alpha = Annotated[Annotated[Number, Field(lt=1)] | Literal["balanced"], WrapValidator(_alpha)]
Text = Annotated[str, Field(pattern=r"\S")]  # not of blanks alone
Name = Annotated[str, AfterValidator(_name)]  # part of a stage's name, a folder's, and a command
File = Annotated[Path | None, BeforeValidator(_none_if_empty), NAMES_FILES]
Folder = Annotated[Path, BeforeValidator(_not_empty), NAMES_FILES]
Source = Annotated[str | None, BeforeValidator(_none_if_empty), NAMES_FILES]  # a path or a URL
Value = TypeVar("Value")
Axis = Annotated[tuple[Value, ...], Field(min_length=1), AfterValidator(_distinct)]
