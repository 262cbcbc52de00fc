"""What is run by hand can be run: code that was moved or rewritten takes the faults of tests/planted/ with it, and the
files that tests/staleness.py changes."""

import re
from pathlib import Path

from tests import staleness
from tests.faults import PROJECT, chosen, planted


def test_every_fault_can_be_planted_and_its_tests_are_there():
    faults = list(chosen([]))
    assert len(faults) > 100
    assert [(fault["fault"], reason) for fault in faults if (reason := planted(fault, PROJECT))] == []


def test_what_speaks_against_a_fault(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "code.py").write_text("one two two")
    fault = {"in": "code.py", "old": "one", "new": "1", "tests": ["test_code.py"]}
    assert planted(fault, tmp_path) == "cannot be tested: no tests/test_code.py"
    (tmp_path / "tests" / "test_code.py").write_text("def test_one():")
    assert planted(fault, tmp_path) == planted(fault | {"tests": ["test_code.py::test_one"]}, tmp_path) == ""
    assert planted(fault | {"tests": ["test_code.py::test_on"]}, tmp_path).endswith("no tests/test_code.py::test_on")
    assert planted(fault | {"old": "two"}, tmp_path).endswith("code.py holds the old text 2 times, not 1")
    assert planted(fault | {"old": "two", "times": 2}, tmp_path) == ""


def test_the_files_that_staleness_changes_exist():
    files = re.findall(r'"((?:pipeline|stages)/[^"*]+\.py)"', Path(staleness.__file__).read_text())
    assert len(files) > 10
    assert [file for file in files if not (PROJECT / file).is_file()] == []
