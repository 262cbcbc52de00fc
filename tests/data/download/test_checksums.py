"""The ledger of checksums: trusted at first use, required ever after, never half written."""

import hashlib
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from pipeline.data.download.checksums import note, require
from pipeline.errors import DataError
from pipeline.runtime.files import digest

URL, OLD, NEW = "https://example.org/a.zip?e=1", "0" * 64, "f" * 64
CHILD = """
import os, sys
from pathlib import Path
from pipeline.data.download.checksums import note
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    note("0" * 64, f"{sys.argv[2]}-{number}", number, Path(sys.argv[1]))
"""


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "data" / "checksums.yaml"


def child(ledger, code, name="a"):
    command = [sys.executable, "-c", code, str(ledger), name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], text=True, **pipes)


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_digest(tmp_path, size):
    (tmp_path / "file").write_bytes(b"x" * size)
    assert digest(tmp_path / "file") == hashlib.sha256(b"x" * size).hexdigest()


def test_first_use_is_noted_and_said(ledger, caplog):
    require(OLD, URL, None, ledger)
    assert not ledger.parent.exists()
    note(OLD, URL, 5, ledger)
    entry = {"sha256": OLD, "bytes": 5, "first_seen": date.today().isoformat()}
    assert yaml.safe_load(ledger.read_text()) == {URL: entry}
    assert URL in caplog.text and str(ledger) in caplog.text
    require(OLD, URL, None, ledger)


def test_another_digest_is_refused(ledger):
    note(OLD, URL, 5, ledger)
    with pytest.raises(DataError) as caught:
        require(NEW, URL, None, ledger)
    for word in (URL, OLD, NEW, str(ledger), date.today().isoformat(), "delete that entry"):
        assert word in str(caught.value)
    require(NEW, "another source", None, ledger)


def test_a_second_note_changes_nothing(ledger, caplog):
    note(OLD, URL, 5, ledger)
    before = ledger.read_bytes()
    caplog.clear()
    note(NEW, URL, 6, ledger)
    assert ledger.read_bytes() == before
    assert not caplog.text


def test_the_catalogue_goes_before_the_ledger(ledger):
    note(OLD, URL, 5, ledger)
    require(NEW, URL, NEW, ledger)
    with pytest.raises(DataError) as caught:
        require(OLD, URL, NEW, ledger)
    assert OLD in str(caught.value) and NEW in str(caught.value) and "sources.yaml" in str(caught.value)


@pytest.mark.parametrize("name", ["a: b", "- a", "#", "'", "ü b.zip", "x" * 300, "1", "null", "{}", "*a", "a\nb"])
def test_any_name_can_be_noted(ledger, name):
    note(OLD, name, 5, ledger)
    note(OLD, URL, 5, ledger)
    require(OLD, name, None, ledger)
    with pytest.raises(DataError):
        require(NEW, name, None, ledger)


DAMAGED = [
    b"{",
    b"a",
    b"- a",
    b"7",
    b"a: b",
    b"a: null",
    b"a: {}",
    b"a: [sha256]",
    b"a: {sha256: 7}",
    b"a: {sha256: null}",
    b"a: !!python/object:x.y {}",
    b"\xff\xfe\x00",
    b"a: &a [*a]",
    b"<<<<<<< HEAD\na: {sha256: b}\n=======\n",
]


@pytest.mark.parametrize("content", DAMAGED, ids=repr)
@pytest.mark.parametrize(
    "use", [lambda ledger: require(OLD, URL, None, ledger), lambda ledger: note(OLD, URL, 5, ledger)]
)
def test_a_damaged_ledger_is_named_and_kept(ledger, content, use):
    ledger.parent.mkdir()
    ledger.write_bytes(content)
    with pytest.raises(DataError) as caught:
        use(ledger)
    assert str(caught.value).startswith(f"{ledger}: expected a mapping of sources to sha256")
    assert ledger.read_bytes() == content


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "{}\n"])
def test_an_empty_ledger(ledger, content):
    ledger.parent.mkdir()
    ledger.write_text(content)
    require(OLD, URL, None, ledger)
    note(OLD, URL, 5, ledger)
    assert list(yaml.safe_load(ledger.read_text())) == [URL]


def test_entries_without_a_date(ledger):
    ledger.parent.mkdir()
    ledger.write_text(yaml.safe_dump({URL: {"sha256": OLD}}))
    require(OLD, URL, None, ledger)
    with pytest.raises(DataError, match=OLD):
        require(NEW, URL, None, ledger)


def test_notes_of_several_processes_at_once(ledger):
    names = "abcd"
    children = [child(ledger, CHILD, name) for name in names]
    assert [process.stdout.readline() for process in children] == ["ready\n"] * len(names)
    for process in children:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in children:
        process.communicate()
    assert [process.returncode for process in children] == [0] * len(names)
    assert set(yaml.safe_load(ledger.read_text())) == {f"{name}-{number}" for name in names for number in range(10)}


@pytest.mark.parametrize("moment", ["os.replace", "Path.write_text"])
def test_a_killed_process_leaves_the_ledger_as_it_was(ledger, moment):
    note(OLD, URL, 5, ledger)
    before = ledger.read_bytes()
    code = CHILD.replace('print("ready"', f'{moment} = lambda *_: os._exit(9)\nprint("ready"')
    process = child(ledger, code)
    process.communicate("go\n")
    assert process.returncode == 9
    assert ledger.read_bytes() == before
    note(NEW, "another source", 6, ledger)
    assert set(yaml.safe_load(ledger.read_text())) == {URL, "another source"}
