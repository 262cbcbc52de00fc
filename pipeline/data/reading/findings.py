"""What is wrong with a data set, or worth telling of it, beside its sound samples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from pipeline.annotations import Sample
from pipeline.errors import DataError

Kind = Literal["fault", "repair", "note"]
Item = TypeVar("Item")
LEFT_OUT = "shapes that are no symmetry marks left out"  # of own images; the stage says so, too


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    `kind`: `fault`, a sample is left out; `repair`, its pixels, marks or name were mended; `note`, nothing was changed.
    `what`: of what sort it is, in a few words that all of its sort share. `text`: the file, the item in it, what was
    expected and what came. `image`: the file of the sample that it concerns and that stays; empty for a fault.
    """

    kind: Kind
    what: str
    text: str
    image: str = ""


def sound(
    items: Iterable[Item], read: Callable[[Item], Sample], findings: list[Finding], what: str = "malformed annotation"
) -> list[Sample]:
    """`read(item)` of every item; where it raises DataError there is a fault in `findings` instead of a sample."""
    samples = []
    for item in items:
        try:
            samples.append(read(item))
        except DataError as error:
            findings.append(Finding("fault", what, str(error)))
    return samples
