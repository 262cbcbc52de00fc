"""What is marked in images, from anyone's files: DENDI's JSON, LabelMe's, SDRW's .mat, or ours.

Coordinates: x right, y down, pixels of the image.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.annotations import Annotation, ReflectionAxis, RotationCentre
from pipeline.application.marks import LINES, Marks, Size, name_of, read_marks
from pipeline.data.formats import dendi
from pipeline.data.formats.labelme import shapes as labelme
from pipeline.data.formats.matlab import sdrw
from pipeline.data.reading.files import image_files, read_json, visible
from pipeline.data.reading.images import read_photograph
from pipeline.errors import DataError

EXPECTED = (
    "expected a folder of JSON (DENDI's, LabelMe's or ours), SDRW's .mat, or a .json or .jsonl file as "
    "`symmetry detect --out` writes it"
)


@dataclass(frozen=True)
class Truth:
    """What is marked in one image; `size` where the annotation tells it; `where`: the file it is from."""

    annotation: Annotation
    size: Size | None
    where: str


@dataclass(frozen=True)
class TruthSet:
    """All that is marked, by the names of the images; `left_out`: shapes of LabelMe's that are no marks, in words."""

    path: Path
    each: dict[str, Truth]
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def _seen(self) -> dict[str, tuple[Size, str]]:
        """The size of each image that lies beside the annotations, as it is seen, and its file."""
        folder = self.path if self.path.is_dir() else self.path.parent
        images = {name_of(path): path for path in image_files(folder, [])}
        sides = {name: read_photograph(images[name]).turned().shape for name in self.each if name in images}
        return {name: ((width, height), str(images[name])) for name, (height, width, _) in sides.items()}

    def size(self, name: str, *told: tuple[Size | None, str]) -> Size:
        """Width and height of an image in pixels, as its annotation, its file beside that, and predictions tell.

        `told`: what predictions tell, and their files. Raises DataError where they differ, or where nobody tells: marks
        and predictions would lie at different places without a word.
        """
        truth = self.each[name]
        seen = [self._seen[name]] if name in self._seen else []
        sizes = [(size, where) for size, where in ((truth.size, truth.where), *seen, *told) if size]
        if not sizes:
            raise DataError(
                f"{truth.where}: the size of the image {name} is not known: put the image beside its annotation, or "
                "`width` and `height` into the prediction"
            )
        (first, source), *others = sizes
        for size, where in others:
            if size != first:
                raise DataError(
                    f"{where}: {name} has {size[0]} x {size[1]} pixels (width x height) here, but {first[0]} x "
                    f"{first[1]} in {source}: marks and predictions must be of the image as it is seen, turned as EXIF "
                    "says, and of its size"
                )
        return first


def read_truth(path: Path) -> TruthSet:
    """What is marked, from a file or folder. Raises DataError, which names the file and says what is wrong."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {EXPECTED}")
    files = visible(path, []) if path.is_dir() else [path]
    json = [file for file in files if file.suffix.lower() in (".json", LINES)]
    matlab = [file for file in files if file.suffix.lower() == ".mat"]
    if bool(json) == bool(matlab):
        what = f"{len(json)} files of JSON and {len(matlab)} of MATLAB" if json else "none of these"
        raise DataError(f"{path}: {EXPECTED}; got {what}")
    truth = TruthSet(path, {})
    for file in [*json, *matlab]:
        for name, found in _read(file, truth.left_out):
            if name in truth.each:
                raise DataError(
                    f"{found.where}: {truth.each[name].where} is of an image called {name}, too; images are told apart "
                    "by their names without folders: rename one, or score the folders one by one"
                )
            truth.each[name] = found
    return truth


def _read(file: Path, left_out: list[str]) -> list[tuple[str, Truth]]:
    """The images of one file, of whichever form it is."""
    if file.suffix.lower() == ".mat":
        axes = sdrw.axes_by_name(file)
        return [(name_of(name), Truth(Annotation(axes=tuple(some)), None, str(file))) for name, some in axes.items()]
    content = read_json(file) if file.suffix.lower() == ".json" else None
    if isinstance(content, dict) and "figures" in content:
        return [(name_of(file), Truth(dendi.read_annotation(file), None, str(file)))]
    if isinstance(content, dict) and "shapes" in content:
        drawing = labelme.read_drawing(file, ())
        left_out += [f"{file}: {shape}" for shape in drawing.left_out]
        return [(name_of(file), Truth(drawing.annotation, drawing.size, str(file)))]
    return [(marks.name, Truth(_annotation(marks), marks.size, marks.where)) for marks in read_marks(file)]


def _annotation(marks: Marks) -> Annotation:
    """What our JSON calls found, or marked by hand, as marks; scores do not matter."""
    centres = (RotationCentre(x, y, labelme.UNKNOWN_FOLD if fold is None else fold) for x, y, _, fold in marks.centres)
    return Annotation(tuple(ReflectionAxis(*axis[:4]) for axis in marks.axes), marks.discs, tuple(centres))
