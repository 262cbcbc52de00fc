"""Samples -> packed splits: images decoded, marks repaired, both letterboxed, on all cores and always alike."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pipeline.annotations import Sample
from pipeline.data.packed.targets import mask, unscaled_target
from pipeline.data.preparation.packing import Packed, write_packed
from pipeline.data.preparation.repair import aligned, outside, repaired
from pipeline.data.reading.findings import Finding, Kind
from pipeline.data.reading.images import UPRIGHT, Photograph, read_photograph
from pipeline.errors import DataError
from pipeline.geometry import Letterbox
from pipeline.params.choices import Task
from pipeline.runtime.process import start_method


def pack(
    samples: Sequence[Sample],
    task: Task,
    size: int,
    path: Path,
    description: str,
    repair: bool = True,
    clip: bool = True,
) -> list[Finding]:
    """Write the packed split of `samples` for `task` at `size` x `size` pixels; return what was found.

    Samples whose image cannot be read are left out, each with a fault among the findings. `repair` lets images be
    turned and marks be changed (repair.py); without it both stay as the released code reads them. `clip` clips
    targets where axes cross. The file is the same whatever the number of cores.
    """
    findings: list[Finding] = []

    def sound_ones() -> Iterator[Packed]:
        prepared = _prepared(_Preparation(samples, task, size, repair, clip))
        for packed, found in tqdm(prepared, desc=description, unit="image", total=len(samples)):
            findings.extend(found)
            if packed is not None:
                yield packed

    try:
        write_packed(path, sound_ones(), size)
    except RuntimeError as error:  # PyTorch's, when the system ended a worker
        raise DataError(
            f"{description}: a process that prepares images was ended, out of memory perhaps: {error}"
        ) from None
    return findings


@dataclass(frozen=True)
class _Preparation(Dataset):
    samples: Sequence[Sample]
    task: Task
    size: int
    repair: bool
    clip: bool

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Packed | None, list[Finding]]:
        try:
            return prepare(self.samples[number], self.task, self.size, self.repair, self.clip)
        except DataError as error:
            return None, [Finding("fault", "image missing, damaged or not the one that was marked", str(error))]


def _prepared(preparation: _Preparation) -> DataLoader:
    """Every sample in turn, each prepared by one of as many processes as there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, len(preparation) // 4)
    start = start_method(workers)
    return DataLoader(preparation, batch_size=None, num_workers=workers, multiprocessing_context=start)


def prepare(sample: Sample, task: Task, size: int, repair: bool, clip: bool) -> tuple[Packed, list[Finding]]:
    """One sample for the packed file, and what was found in it. Raises DataError where its image cannot be read."""
    photograph = read_photograph(sample.image)
    notes: list[tuple[Kind, str, str]] = [("note", *note) for note in _peculiarities(sample.image, photograph)]
    pixels, annotation = photograph.pixels, sample.annotation
    if repair:
        annotation, turned, changes = aligned(sample, photograph)
        pixels = photograph.turned() if turned else pixels
        annotation, more = repaired(annotation, pixels.shape[1], pixels.shape[0])
        notes += [("repair", *change) for change in changes + more]
    elif sample.drawn not in (None, pixels.shape[1::-1]):
        notes.append(("note", "size other than annotated", "{} x {}".format(*sample.drawn)))
    height, width = pixels.shape[:2]
    beyond = outside(annotation, width, height)
    if beyond:
        notes.append(("note", "mark partly outside the image", f"by {beyond:.1%} of its side"))
    if not annotation.serves(task):
        notes.append(("note", "nothing marked", f"no mark for {task}"))
    letterbox = Letterbox(height, width, size)
    target = unscaled_target(mask(annotation, task, height, width), task, letterbox, clip)
    record = {
        "name": sample.name, "file": str(sample.image), "height": height, "width": width,
        "annotation": annotation.to_dict(),
    }  # fmt: skip
    findings = [Finding(kind, what, f"{sample.image}: {text}", str(sample.image)) for kind, what, text in notes]
    return Packed.of(letterbox.image(pixels), target, record), findings


def _peculiarities(path: Path, photograph: Photograph) -> Iterator[tuple[str, str]]:
    """What an image file is, other than upright RGB under its right name."""
    if Image.registered_extensions().get(path.suffix.lower()) not in (photograph.format, None):
        if photograph.format != "MPO":  # JPEG with several pictures, as some cameras write it
            yield "format other than the extension", f"it is {photograph.format}"
    if photograph.mode != "RGB":
        yield "not RGB", f"mode {photograph.mode}, converted"
    if photograph.orientation != UPRIGHT:
        yield "EXIF orientation", f"{photograph.orientation}"
