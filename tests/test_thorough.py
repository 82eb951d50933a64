"""The thorough run: what passed is kept and not run again, whatever stops the run, until its code changes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thorough import Row, imports, outcome, read

FILES = {
    "pytest.ini": "[pytest]\naddopts = --import-mode=importlib\npythonpath = .\n",
    "theory/__init__.py": "from theory.limits import LIMIT\nfrom theory.others import OTHER\n",
    "theory/limits.py": "LIMIT = 1.0\n",
    "theory/others.py": "OTHER = 1\n",
    "tests/strategies.py": "",
    "tests/conftest.py": "import hypothesis as h\n"
    "h.settings.register_profile('thorough', max_examples=20, deadline=None)\n"
    "h.settings.load_profile('thorough')\n",
    "tests/theory/test_toy.py": """
import pytest
from hypothesis import given, strategies as st
from theory import LIMIT

@pytest.mark.parametrize("sign", [1, -1])
@given(st.floats(-1, 1))
def test_all(sign, x): assert sign * x <= LIMIT

@given(st.booleans())
def test_few(x): pass

@given(st.integers())
def test_wrong(x): assert x < 5

def test_no_property(): pass
""",
    "tests/theory/test_endless.py": """
from hypothesis import given, strategies as st

@given(st.none())
def test_endless(x):
    while True: pass
""",
}
TOY, ENDLESS = "tests/theory/test_toy.py", "tests/theory/test_endless.py"


@pytest.fixture
def toy(tmp_path):
    """Return a small project with the module of the thorough run in it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copy(Path(__file__).with_name("thorough.py"), tmp_path / "tests")
    return tmp_path


def start(toy, *arguments):
    """Begin a sitting, in a process group of its own."""
    command = [sys.executable, "-m", "tests.thorough", *arguments]
    environment = os.environ | {"PYTHONPATH": str(toy)}
    return subprocess.Popen(
        command, cwd=toy, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def rows(toy):
    """Return what the table says, without seconds, dates and checksums."""
    return [(row.function.split("::")[1], row.examples, row.outcome) for row in read(toy / "tests" / "thorough.csv")]


def test_what_passed_is_not_run_again_until_its_code_changes(toy):
    first = start(toy, TOY, "--jobs", "2")
    output, _ = first.communicate()
    assert first.returncode == 1  # a failure stops nothing, and is told
    assert {row for row in rows(toy) if row[2] == "passed"} == {("test_all", 40, "passed"), ("test_few", 2, "passed")}
    assert [row[0] for row in rows(toy) if row[2] == "failed"] == ["test_wrong"]
    assert "2 of 3 functions have passed at the present sources: 42 examples" in output
    assert "assert 5 < 5" in (toy / ".hypothesis/thorough/tests.theory.test_toy.py.test_wrong.txt").read_text()
    (toy / "theory/limits.py").write_text('"""Limits."""\n\nLIMIT = 1.0  # the largest\n')
    (toy / "theory/others.py").write_text("OTHER = 2\n")  # no name of it is imported
    start(toy, TOY).communicate()
    assert [row[0] for row in rows(toy)[3:]] == ["test_wrong"]
    (toy / "theory/limits.py").write_text("LIMIT = 2.0\n")
    output, _ = start(toy, TOY, "--report").communicate()
    assert len(rows(toy)) == 4
    assert "not run    tests/theory/test_toy.py::test_few\n" in output
    assert "0 of 3 functions have passed at the present sources: 0 examples" in output


@pytest.mark.parametrize(
    ("statement", "files"),
    [
        ("import theory.limits", ["theory/limits.py"]),
        ("from theory import others", ["theory/others.py"]),
        ("from theory import OTHER as other", ["theory/others.py"]),
        ("from theory import LIMIT, OTHER", ["theory/limits.py", "theory/others.py"]),
        ("def late():\n    from theory.limits import LIMIT", ["theory/limits.py"]),
        ("import theory", ["theory/__init__.py", "theory/limits.py", "theory/others.py"]),
        ("from lazy import anything", ["lazy/__init__.py", "lazy/some.py"]),  # whose __init__ does not say from where
        ("from lazy.some import anything", ["lazy/some.py"]),
        ("from spaces.deep.module import name", ["spaces/deep/module.py"]),
        ("import numpy.linalg, csv\nfrom os import path", []),
    ],
)
def test_imports_are_followed_to_the_file_of_a_name(toy, statement, files):
    for name in ("lazy/__init__.py", "lazy/some.py", "spaces/deep/module.py"):
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / name).write_text("")
    (toy / "user.py").write_text(statement)
    assert sorted(imports(toy, toy / "user.py")) == [toy / name for name in files]


def test_a_file_that_computes_names_imports_its_whole_package(toy):
    (toy / "theory/others.py").write_text("from importlib import import_module\n")
    assert imports(toy, toy / "theory/others.py") == set((toy / "theory").glob("*.py"))


def test_a_function_that_reaches_its_limit_has_not_passed(toy):
    run = start(toy, ENDLESS, "--limit", "1")
    output, _ = run.communicate()
    assert run.returncode == 0
    assert rows(toy) == [("test_endless", 0, "unfinished")]
    assert "0 of 1 functions have passed" in output


def test_only_functions_under_way_are_lost_when_it_is_stopped(toy):
    run = start(toy, "tests", "--jobs", "4")
    lines = [run.stdout.readline() for _ in range(3)]
    assert sum("passed" in line for line in lines) == 2
    run.terminate()
    run.communicate()
    assert run.returncode == 128 + signal.SIGTERM
    assert {row[0] for row in rows(toy)} == {"test_all", "test_few", "test_wrong"}
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)  # no test is left running


STOPPED = "- 7 passing, 0 failing, and 1 invalid test cases\n  - Stopped because {}\n{}"


@pytest.mark.parametrize(
    ("status", "reason", "rest", "expected"),
    [
        (0, "settings.max_examples=7", "", "passed"),
        (0, "nothing left to do", "", "passed"),
        (0, "settings.max_examples=7, but < 1% of examples satisfied assumptions", "", "short"),
        (0, "nothing left to do", "1 passed, 1 skipped in 1s", "short"),
        (1, "nothing left to do", "", "failed"),
        (-signal.SIGXCPU, "nothing left to do", "", "unfinished"),
        (-signal.SIGKILL, "nothing left to do", "", "broken"),
        (2, "nothing left to do", "", "broken"),
    ],
)
def test_only_whole_runs_have_passed(status, reason, rest, expected):
    assert outcome(status, STOPPED.format(reason, rest)) == (7, expected)


def test_no_example_at_all_is_no_pass():
    assert outcome(0, "1 skipped") == (0, "short")


def test_the_table_of_the_repository_can_be_read():
    table = read(Path(__file__).with_name("thorough.csv"))
    assert table and all(isinstance(row, Row) and row.outcome and row.seconds > 0 for row in table)
