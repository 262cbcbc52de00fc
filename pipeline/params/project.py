"""Where the project lies, and the files that its parameters name."""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from pipeline.params.values import NAMES_FILES


def project() -> Path:
    """The folder of params.yaml, in which all stages run; where DVC runs an experiment in a temporary copy of it, the
    folder that was copied.

    It outlives the run, and holds what Git does not know. DVC_ROOT alone does not tell: a pipeline whose stage calls
    `dvc repro` in another project hands its own root down.
    """
    here = Path.cwd()
    root = Path(os.environ.get("DVC_ROOT", here)).resolve()
    if not here.is_relative_to((root / ".dvc" / "tmp").resolve()):
        return here
    return _repository(root) / here.relative_to(_repository(here))


def located(path: Path) -> Path:
    """The absolute path of what a parameter names. ~ is the user's home; relative paths are of the project.

    In a temporary copy a file comes from there where it is part of it: as Git knew it, or as a stage made it. Of a
    folder a copy may hold a part.
    """
    here = Path.cwd() / path.expanduser()
    return here if here.is_file() else project() / path.expanduser()


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


def _repository(folder: Path) -> Path:
    """The root of the Git repository that holds a folder; DVC copies repositories whole."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)
