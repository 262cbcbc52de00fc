"""A stage depends on just the parameters that it reads, and on the content of the files that they name.

They are followed through the code: from `load_params()` in the stage's script, by assignments, attributes and calls, to
the single keys that are read. A call that cannot be followed counts as reading all that it is given.
"""

import ast
from dataclasses import dataclass, field
from functools import cache

from pydantic import BaseModel

from pipeline.params import load_params
from pipeline.params.values import named_files
from tests.graph.stages import PROJECT

PARAMS = load_params(PROJECT / "params.yaml")
NAMED = {key for key, _ in named_files(PARAMS)}  # whose files' content counts; their place may, too
# Of calls that are given parameters, those that no result depends on: what a checkpoint says of its making, and which
# checkpoint a training goes on from.
RECORDS = {"ModelRecord", "fingerprint", "model_dump_json", "model_dump"}
FREE = "machine"  # the section of what no stage depends on


def leaves(section: BaseModel | dict, prefix: str = "") -> set[str]:
    """The dotted keys of single values."""
    entries = section.items() if isinstance(section, dict) else vars(section).items()
    parts = [
        leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel | dict) else {f"{prefix}{name}"}
        for name, value in entries
    ]
    return set().union(*parts)


LEAVES = leaves(PARAMS)


def below(key: str) -> set[str]:
    """The leaves of a section; all for the key of all parameters, which is empty."""
    return {leaf for leaf in LEAVES if f"{leaf}.".startswith(f"{key}." if key else "")}


@dataclass(frozen=True)
class Section:
    """Parameters in the code's hands: which, and the leaves that a copy holds other values of."""

    key: str
    replaced: frozenset[str] = frozenset()


@cache
def parsed(module: str) -> tuple[dict[str, ast.AST], dict[str, tuple[str, str]]]:
    """The functions and classes of a module by name; what it imports from this project: name -> module, name there."""
    path = PROJECT / module.replace(".", "/")
    tree = ast.parse((path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = {(alias.asname or alias.name): (node.module, alias.name) for node in imports for alias in node.names}
    definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return definitions, {name: place for name, place in names.items() if place[0].split(".")[0] in ("pipeline", "stages")}


@dataclass
class Trace:
    """What the code reads: `read` grows; `backbone` is the catalogue's entry that is chosen."""

    backbone: str
    read: set[str] = field(default_factory=set)
    seen: dict[tuple, Section | None] = field(default_factory=dict)

    def call(self, module: str, name: str, given: dict[str, object], rest: tuple = ()) -> Section | None:
        """Follow a function, or all methods of a class, with what it is given; the parameters that it returns."""
        key = (module, name, tuple(sorted(given.items(), key=str)), rest)
        if key in self.seen:
            return self.seen[key]
        self.seen[key] = None
        node = parsed(module)[0][name]
        if isinstance(node, ast.ClassDef):
            methods = {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}
            fields = [child.target.id for child in node.body if isinstance(child, ast.AnnAssign)]
            code, names = Code(self, module), {}
            if "__init__" in methods:
                code.names = given | self._positional(methods.pop("__init__"), rest, skip=1, body=code)
                names = {name: value for name, value in code.names.items() if name.startswith("self.")}
            else:
                given = given | dict(zip(fields, rest))
                names = {f"self.{name}": value for name, value in given.items()}
            for method in methods.values():
                Code(self, module, dict(names)).visit_body(method.body)
            return None
        code = Code(self, module, given | dict(zip([argument.arg for argument in node.args.args], rest)))
        code.visit_body(node.body)
        self.seen[key] = code.returned
        return code.returned
