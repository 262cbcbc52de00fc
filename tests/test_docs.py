"""What the documentation names exists: commands, parameters, modules, stages, files, links. Nothing is run."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from pipeline.cli import _parser
from pipeline.params import load_params

PROJECT = Path(__file__).parents[1]
DOCS = sorted(path.relative_to(PROJECT).as_posix() for path in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])
DOCS += ["data/README.md", "data/own/README.md", "findings/README.md", "tests/golden/README.md"]
PARAMS = yaml.safe_load((PROJECT / "params.yaml").read_text())
SECTIONS = [key for key, value in PARAMS.items() if isinstance(value, dict)]
TRACKED = ("pipeline/", "stages/", "tests/", "docs/", "benchmarks/", "findings/", "weights/", ".github/", ".ci/")
NO_PARAMETERS = "CHANGELOG.md"  # it names those of before


def fenced(text):
    """The lines of all blocks of shell commands, those that `\\` continues joined."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for kind, block in blocks if not kind for line in block.replace("\\\n", " ").splitlines()]


def spans(text):
    """What stands in single backticks, outside blocks."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]


def commands(text):
    """The words of each command, in blocks and in backticks."""
    found = []
    for line in [*fenced(text), *spans(text)]:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a word of prose with an apostrophe
            continue
        command = []
        for word in [*words, "&&"]:
            if word in ("&&", "|", ";"):
                found.append(command)
                command = []
            else:
                command.append(word)
    return [command for command in found if command]


def changes(command):
    """The values of all -S of a command."""
    return [value for option, value in zip(command, command[1:]) if option == "-S"]


def known(key):
    """Whether params.yaml has a dotted key."""
    node = PARAMS
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


@pytest.fixture(params=DOCS)
def doc(request):
    """A file of the documentation, and its text."""
    return PROJECT / request.param, (PROJECT / request.param).read_text()


def test_something_is_found():
    text = (PROJECT / "README.md").read_text()
    first = [command[0] for command in commands(text)]
    assert all(first.count(name) > 2 for name in ("symmetry", "make", "dvc")) and len(spans(text)) > 50
    assert {"task=rotation", "train.gamma=1.0,2.0,3.0"} <= {value for c in commands(text) for value in changes(c)}


def test_commands_of_symmetry_are_right(doc):
    for command in commands(doc[1]):
        if command[0] == "symmetry" and len(command) > 2:  # two words name a command in prose
            _parser().parse_args(command[1:])
        elif command[0] == "symmetry" and len(command) == 2 and not command[1].startswith("-"):
            with pytest.raises(SystemExit) as end:
                _parser().parse_args([command[1], "--help"])
            assert end.value.code == 0, command


def test_targets_of_make_exist(doc):
    makefile = (PROJECT / "Makefile").read_text().replace("$(READY)", ".venv/ready")
    targets = set(re.findall(r"^([\w./-]+):", makefile, re.MULTILINE))
    for command in commands(doc[1]):
        if command[0] == "make":
            assert {word for word in command[1:] if "=" not in word} <= targets, command


def test_modules_exist_and_have_these_options(doc):
    for name in re.findall(r"-m ((?:stages|benchmarks|pipeline|tests)\.[\w.]+)", doc[1]):
        assert find_spec(name.rstrip(".")), name
    for command in commands(doc[1]):
        if command[:2] == ["python", "-m"]:
            source = Path(find_spec(command[2]).origin).read_text()
            assert all(f'"{word}"' in source for word in command[3:] if word.startswith("--")), command


def test_stages_exist(doc):
    files = {name: yaml.safe_load((PROJECT / name).read_text())["stages"] for name in ("dvc.yaml", "ablation/dvc.yaml")}
    files["weights/dvc.yaml"] = yaml.safe_load((PROJECT / "weights/dvc.yaml").read_text())["stages"]
    for command in commands(doc[1]):
        if command[:2] == ["dvc", "repro"]:
            for word in command[2:]:
                file, _, stage = word.rpartition(":") if ":" in word else ("", "", word)
                if not word.startswith("-") and word not in files:
                    assert stage.split("@")[0] in files[file or "dvc.yaml"], command


def test_parameters_and_their_values_are_allowed(doc):
    for command in commands(doc[1]):
        given = [value for value in changes(command) if value != "key=value"]
        assert all(known(value.split("=")[0]) for value in given), command
        if given and "--queue" not in command:  # there commas part the values of several experiments
            load_params(PROJECT / "params.yaml", given)


def test_keys_of_params_exist(doc):
    if doc[0].name == NO_PARAMETERS:
        return
    for span in spans(doc[1]):
        key = re.fullmatch(rf"((?:{'|'.join(SECTIONS)})\.[a-z][\w.]*)(?:[:=].*)?", span)
        assert not key or key[1].endswith(".py") or known(key[1]), span


def test_links_lead_to_files_and_headings(doc):
    for target in re.findall(r"\]\(([^)\s]+)\)", doc[1]):
        if "://" not in target:
            assert (doc[0].parent / target.partition("#")[0]).exists(), target


def test_files_in_backticks_exist(doc):
    roots = {path.name for path in PROJECT.iterdir()}
    for span in spans(doc[1]):
        ours = span.startswith(TRACKED) or (span in roots and "." in span)
        if ours and " " not in span and not re.search(r"[A-Z]{3}", Path(span).name.split(".")[0]):
            assert list(PROJECT.glob(span.rstrip("/"))), span


def test_modules_of_the_changelog_exist():
    text = (PROJECT / "CHANGELOG.md").read_text()
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ") and "`" in line]
    names = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert len(names) > 50 and not [name for name in names if not find_spec(f"pipeline.{name}")]


def test_versions_agree_and_nothing_cites_what_is_not_here():
    version = re.search(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert str(yaml.safe_load((PROJECT / "CITATION.cff").read_text())["version"]) == version
    sources = [
        path for room in ("pipeline", "stages", "tests", "benchmarks") for path in (PROJECT / room).rglob("*.py")
    ]
    cited = "METHOD " + "section"
    assert not [path for path in sources if cited in path.read_text()]


def test_lines_are_short(doc):
    """Of prose; a table or a picture has no line breaks."""
    text = re.sub(r"^```.*?^```$", "", doc[1], flags=re.DOTALL | re.MULTILINE)
    long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "!["))]
    assert not long or doc[0].parent.name == "golden"
