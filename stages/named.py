"""Stage `named`: links to the files and folders that parameters name, so that DVC sees what is in them.

`python -m stages.named KEY...` leaves `data/named/KEY` for every such key of params.yaml, given itself or by its
section: a link, or a plain file where no file is named. Stages depend on it in the place of a path that may be empty,
outside the project, or relative to a project that this is a temporary copy of. `data/named/KEY-....paths` holds the
paths, by which DVC sees that links are those of other parameters, after a `git checkout` or `dvc exp apply`.
"""

import os
from pathlib import Path

from pipeline.errors import ParamsError
from pipeline.params import load_params
from pipeline.params.project import located, named_files
from pipeline.runtime.files import write_text
from stages.command import run_stage

FOLDER = Path("data/named")


def main(*keys: str) -> None:
    """Replace the links. Raises ParamsError, which names all keys whose file is missing or cannot be linked."""
    params, paths, faults = load_params(), [], []
    os.makedirs(FOLDER, exist_ok=True)  # no out itself: what is in it is
    for key, path in named_files(params):
        if not f"{key}.".startswith(tuple(f"{wanted}." for wanted in keys)):
            continue
        section = key.split(".")[0]
        paths.append(f"{key}: {path or ''}\n")
        used = path is not None and (section != "published" or params.data == "published")
        if used and FOLDER.resolve().is_relative_to(located(path).resolve()):  # it would hold a link to itself
            faults.append(f"params.yaml: {key}: {located(path)}: it holds the project's own data; name another folder")
            continue
        if used and section != "backbones" and not located(path).exists():  # of these `check` knows which are used
            faults.append(f"params.yaml: {key}: {located(path)}: no such file or folder")
            used = False  # DVC could not look through a link that leads nowhere
        link(FOLDER / key, located(path) if used else None)
    if faults:
        raise ParamsError("\n".join(faults))
    write_text(FOLDER / f"{'-'.join(keys)}.paths", "".join(paths))


def link(place: Path, target: Path | None) -> None:
    """Make `place` a link, relative within the project, so that the project can be moved; never write through one."""
    if target is None:
        write_text(place, "no file is named\n")
        return
    place.unlink(missing_ok=True)
    if target.is_relative_to(Path.cwd()):
        place.symlink_to(os.path.relpath(target, place.parent))
    else:
        place.symlink_to(target)


if __name__ == "__main__":
    run_stage(main)
