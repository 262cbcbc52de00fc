"""The stages of the three graphs, as DVC resolves them, for the tests of what they depend on."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from dvc.dependency import ParamsDependency
from dvc.output import Output
from dvc.repo import Repo

PROJECT = Path(__file__).parents[2]
FILES = "dvc.yaml", "ablation/dvc.yaml", "weights/dvc.yaml"
GRAPHS = {file: yaml.safe_load((PROJECT / file).read_text())["stages"] for file in FILES}
NAMES = [name for stages in GRAPHS.values() for name in stages]
LINKS = "sources", "named", "photographs"  # stages that make a link to each file that a parameter names


@dataclass(frozen=True)
class Resolved:
    """One stage of a matrix: the module and the words of its command, files that it depends on, keys of params.yaml."""

    name: str
    module: str
    words: tuple[str, ...]
    deps: frozenset[str]
    keys: frozenset[str]
    outs: frozenset[str]

    @property
    def script(self) -> Path:
        """The file that its command runs."""
        return PROJECT / f"{self.module.replace('.', '/')}.py"

    @property
    def changes(self) -> dict[str, str]:
        """The values that its command puts in the place of those of params.yaml."""
        return dict(word.split("=", 1) for word in self.words if re.match(r"[a-z_.]+=", word))


def inside(thing: Output) -> str:
    """The path of a dep or an out in the project."""
    return Path(thing.fs_path).relative_to(PROJECT).as_posix()


@cache
def resolved() -> dict[str, list[Resolved]]:
    """Every stage by the name of its matrix, or by its own."""
    found: dict[str, list[Resolved]] = {name: [] for name in NAMES}
    with Repo(PROJECT) as repo:
        for stage in (stage for file in FILES for stage in repo.stage.load_all(str(PROJECT / file))):
            python, flag, module, *words = stage.cmd.split()
            assert (python, flag) == ("python", "-m")
            params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
            files = frozenset(map(inside, (dep for dep in stage.deps if dep not in params)))
            keys, outs = frozenset(key for dep in params for key in dep.params), frozenset(map(inside, stage.outs))
            found[stage.name.split("@")[0]].append(Resolved(stage.name, module, tuple(words), files, keys, outs))
    return found
