"""The stages of the three graphs, as DVC resolves them, for the tests of what they depend on."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

PROJECT = Path(__file__).parents[2]
FILES = "dvc.yaml", "ablation/dvc.yaml", "weights/dvc.yaml"
GRAPHS = {file: yaml.safe_load((PROJECT / file).read_text())["stages"] for file in FILES}
NAMES = [name for stages in GRAPHS.values() for name in stages]
LINKS = "sources", "named", "photographs"  # stages that make a link to each file that a parameter names


@dataclass(frozen=True)
class Resolved:
    """One stage of a matrix: its name, the module and the words of its command, its deps and the keys of its params."""

    name: str
    module: str
    words: tuple[str, ...]
    deps: frozenset[str]
    keys: frozenset[str]

    @property
    def script(self) -> Path:
        """The file that its command runs."""
        return PROJECT / f"{self.module.replace('.', '/')}.py"

    @property
    def changes(self) -> dict[str, str]:
        """The values that its command puts in the place of those of params.yaml."""
        return dict(word.split("=", 1) for word in self.words if re.match(r"[a-z_.]+=", word))


@cache
def resolved() -> dict[str, list[Resolved]]:
    """Every stage by the name of its matrix, or by its own."""
    found: dict[str, list[Resolved]] = {name: [] for name in NAMES}
    with Repo(PROJECT) as repo:
        for stage in (stage for file in FILES for stage in repo.stage.load_all(str(PROJECT / file))):
            python, flag, module, *words = stage.cmd.split()
            assert (python, flag) == ("python", "-m")
            params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
            files = {Path(dep.fs_path).relative_to(PROJECT).as_posix() for dep in stage.deps if dep not in params}
            keys = frozenset(key for dep in params for key in dep.params)
            name = stage.name.split("@")[0]
            found[name].append(Resolved(stage.name, module, tuple(words), frozenset(files), keys))
    return found
