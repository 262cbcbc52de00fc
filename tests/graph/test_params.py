"""A stage depends on just the parameters that it reads, and on the content of the files that they name.

They are followed through the code: from `load_params()` in the stage's script, by assignments, attributes and calls, to
the single keys that are read. A call that cannot be followed counts as reading all that it is given.
"""

import ast
import re
from dataclasses import dataclass, field
from functools import cache

import pytest
from pydantic import BaseModel

from pipeline.params import load_params
from pipeline.params.project import named_files
from tests.graph.stages import LINKS, NAMES, PROJECT, resolved

PARAMS = load_params(PROJECT / "params.yaml")
NAMED = {key for key, _ in named_files(PARAMS)}
URLS = {key for key in NAMED if key.startswith("published.")}  # not of a path alone: what lies there is no file here
# Calls by which no result depends on what they are given: what a checkpoint says of its making, and which checkpoint a
# training goes on from.
RECORDS = {"ModelRecord", "fingerprint", "model_dump_json", "model_dump"}
FREE = "machine."  # the section that changes no result


def leaves(section: BaseModel | dict, prefix: str = "") -> set[str]:
    """The dotted keys of single values."""
    found = set()
    for name, value in section.items() if isinstance(section, dict) else vars(section).items():
        within = isinstance(value, BaseModel | dict)
        found |= leaves(value, f"{prefix}{name}.") if within else {f"{prefix}{name}"}
    return found


LEAVES = leaves(PARAMS)


def below(key: str) -> set[str]:
    """The leaves of a section, or a leaf itself; all of them for the empty key."""
    return {leaf for leaf in LEAVES if not key or f"{leaf}.".startswith(f"{key}.")}


@dataclass(frozen=True)
class Section:
    """Parameters in the code's hands: which, and the leaves that a copy of them holds other values of."""

    key: str
    replaced: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Known:
    """A value that the command gives."""

    value: object


@cache
def parsed(module: str) -> tuple[dict[str, ast.AST], dict[str, tuple[str, str]]]:
    """The functions and classes of a module of this project; the names that it imports -> module, name there."""
    path = PROJECT / module.replace(".", "/")
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}
    return {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}, names


@dataclass
class Code(ast.NodeVisitor):
    """A body of code with what its names hold. A visit gives the Section or Known that an expression is, or None."""

    module: str
    names: dict[str, Section | Known | None]
    backbone: str
    read: set[str]
    seen: set[tuple] = field(default_factory=set)
    returned: Section | None = None

    def another(self, module: str, names: dict) -> "Code":
        return Code(module, names, self.backbone, self.read, self.seen)

    def follow(self, place: tuple[str, str], args: list, named: dict) -> Section | None:
        """Read on in a function, or in all methods of a class, with these arguments."""
        module, node = place[0], parsed(place[0])[0][place[1]]
        key = (*place, *args, *sorted(named.items(), key=str))
        if key in self.seen:  # of a function that returns parameters, never: there are none that call themselves
            return None
        self.seen.add(key)
        if isinstance(node, ast.FunctionDef):
            code = self.another(module, dict(zip([a.arg for a in node.args.args], args)) | named)
            code.run(node.body)
            self.seen.discard(key)
            return code.returned
        methods = {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}
        fields = [f"self.{child.target.id}" for child in node.body if isinstance(child, ast.AnnAssign)]
        own = dict(zip(fields, args)) | {f"self.{name}": value for name, value in named.items()}
        if "__init__" in methods:
            code = self.another(module, dict(zip([a.arg for a in methods["__init__"].args.args[1:]], args)) | named)
            code.run(methods.pop("__init__").body)
            own = {name: value for name, value in code.names.items() if name.startswith("self.")}
        for method in methods.values():
            self.another(module, dict(own)).run(method.body)
        return None

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def take(self, *values: object) -> None:
        """All of a section is read, as far as anybody can tell."""
        for value in values:
            if isinstance(value, Section):
                self.read |= below(value.key) - value.replaced

    def visit_Name(self, node):
        return self.names.get(node.id)

    def visit_Constant(self, node):
        return Known(node.value)

    def visit_Attribute(self, node):
        owner = self.visit(node.value)
        if not isinstance(owner, Section):
            return self.names.get(ast.unparse(node))
        key = f"backbones.{self.backbone}" if node.attr == "chosen" else f"{owner.key}.{node.attr}".lstrip(".")
        if below(key) != {key}:
            return Section(key, owner.replaced) if below(key) else self.take(owner)
        self.read |= {key} - owner.replaced
        return None

    def visit_Subscript(self, node):
        self.take(self.visit(node.value), self.visit(node.slice))

    def visit_Tuple(self, node):
        self.take(*map(self.visit, node.elts))

    visit_List = visit_Set = visit_Tuple

    def visit_Dict(self, node):
        values = [self.visit(part) for part in [*filter(None, node.keys), *node.values]]
        sections = [value for value in values if isinstance(value, Section)]
        return sections and Section(sections[0].key, frozenset().union(*(s.replaced for s in sections)))

    def visit_Assign(self, node):
        for target in node.targets:
            together = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            for place, value in zip(target.elts, node.value.elts) if together else [(target, node.value)]:
                self.names[ast.unparse(place)] = self.visit(value)

    def visit_Return(self, node):
        value = node.value and self.visit(node.value)
        self.returned = value if isinstance(value, Section) else self.returned

    def visit_If(self, node):
        """By what the command says, where that decides."""
        inside = [part for part in ast.walk(node.test) if isinstance(part, ast.Name | ast.Call | ast.Attribute)]
        known = {name: held.value for name, held in self.names.items() if isinstance(held, Known)}
        if not inside or not all(isinstance(part, ast.Name) and part.id in known for part in inside):
            return self.generic_visit(node)
        chosen = node.body if eval(ast.unparse(node.test), {}, known) else node.orelse
        return self.run(chosen) if isinstance(chosen, list) else self.visit(chosen)

    visit_IfExp = visit_If

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if RECORDS & set(ast.unparse(node.func).split(".")):
            return None
        args, named = [*map(self.visit, node.args)], {word.arg: self.visit(word.value) for word in node.keywords}
        if name == "load_params":
            return Section("", frozenset(re.findall(r"([\w.]+)=\{", ast.unparse(node))))
        owner = self.visit(node.func.value) if isinstance(node.func, ast.Attribute) else None
        if isinstance(owner, Section) and name == "model_copy":
            return self.copied(owner, next(word.value for word in node.keywords if word.arg == "update"))
        sections = [value for value in [owner, *args, *named.values()] if isinstance(value, Section)]
        definitions, imports = parsed(self.module)
        place = (self.module, name) if name in definitions else imports.get(name, ("", name))
        if not sections or not isinstance(node.func, ast.Name) or not place[0].startswith(("pipeline.", "stages.")):
            return self.take(*sections)
        return self.follow(place, args, named)

    def copied(self, owner: Section, update: ast.Dict) -> Section:
        """The section with other values for some keys, or with sections in which some are replaced."""
        replaced = set(owner.replaced)
        for key, value in zip(update.keys, update.values):
            held = self.visit(value)
            replaced |= held.replaced if isinstance(held, Section) else below(f"{owner.key}.{key.value}".lstrip("."))
        return Section(owner.key, frozenset(replaced))


def needed(stage) -> set[str]:
    """The leaves that a stage reads and that its command does not set."""
    functions = parsed(stage.module)[0]
    start = ast.parse((stage.script).read_text()).body[-1].body[0].value.args[0].id  # if __main__: run_stage(START)
    backbone = stage.changes.get("backbone", PARAMS.backbone)
    arguments = [a.arg for a in functions[start].args.args]
    code = Code(stage.module, dict(zip(arguments, map(Known, stage.words))), backbone, set())
    code.run(functions[start].body)
    computes = {"reproducible"} if "requirements.txt" in stage.deps else set()  # read where stages/ is imported
    return {key for key in code.read | computes if not key.startswith(FREE)} - stage.changes.keys()


def without_effect(stage) -> set[str]:
    """What is read but not used: of prompts, where there are none."""
    return below("prompts") if stage.changes.get("prompts.kind") == "none" else set()


READING = [name for name in NAMES if name not in ("check", *LINKS)]


@pytest.mark.parametrize("name", READING)
def test_a_stage_depends_on_just_the_parameters_that_it_reads(name):
    """Files that they name may be: their content counts. So may what only some commands of a matrix set."""
    stages = resolved()[name]
    always = set.intersection(*(set(stage.changes) for stage in stages))
    for stage in stages:
        read, listed = needed(stage), set().union(*map(below, stage.keys))
        assert all(below(key) for key in stage.keys)
        missing = read - listed - (NAMED - URLS) - without_effect(stage)
        assert not missing, f"{stage.name}: add {sorted(missing)} to its params"
        idle = listed - read - (set(stage.changes) - always) - without_effect(stage)
        assert not idle, f"{stage.name}: take {sorted(idle)} from its params"


@pytest.mark.parametrize("name", READING)
def test_a_stage_depends_on_the_content_of_just_the_files_whose_names_it_reads(name):
    for stage in resolved()[name]:
        content = {dep.removeprefix("data/named/") for dep in stage.deps if dep.startswith("data/named/")}
        assert content ^ (needed(stage) & NAMED) <= without_effect(stage), stage.name
