"""The soak itself: short ones are run, and it sees what it looks for."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.endurance import killing
from tests.endurance.killing import start
from tests.endurance.soak import Report, Soak

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for living processes in /proc")


def soak(*arguments):
    """Run the soak in a process of its own, as this one may have threads, and return its last line."""
    command = [sys.executable, "-m", "tests.endurance.soak", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["sim", "--cycles", 5],
        pytest.param(["sim", "--cycles", 100, "--commands", 10, "--seed", 2], marks=pytest.mark.slow),
        pytest.param(["lm", "--cycles", 10, "--commands", 1], marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_as_undisturbed_ones(arguments):
    last = soak(*arguments)
    assert last.startswith(f"{arguments[2] + 1} cycles, ") and " 0 faults, " in last


class Toy:
    """Results are files named by a digit."""

    def saved(self, output):
        return {path.name: path.read_text() for path in output.glob("[0-9]")}

    def reported(self, text):
        return text.count("saved")

    def digest(self, output):
        return "".join(sorted(self.saved(output).values()))

    def files(self, output):
        return sorted(path.name for path in output.iterdir())

    def complaints(self, text):
        return text.splitlines()


def looked_at(toy, scratch, run, write=()):
    """Return the faults that are found after a run that has written some files."""
    found = Soak.__new__(Soak)
    found.report, found._subject, found._random = Report(), toy, random.Random(0)
    found._scratch, found._output, found._temporary = scratch, scratch / "output", scratch / "tmp"
    found._temporary.mkdir()
    found._output.mkdir()
    (found._output / "0").write_text("a")
    found._digest, found._files = "ab", ["0", "1"]

    def runs(way, share):
        for name, text in write:
            (found._output / name).unlink() if text is None else (found._output / name).write_text(text)
        return run

    found._run = runs
    found.cycle()
    return [fault.partition("): ")[2] for fault in found.report.faults]


@pytest.mark.parametrize(
    ("run", "write", "faults"),
    [
        ((0, "saved", "", (), 0.0), [("1", "b")], []),
        ((None, "saved", "", (), 0.0), [("1", "b"), (".draft", "x")], []),
        ((None, "", "", (), 0.0), [("0", None)], ["lost or changed: ['0']"]),
        ((None, "", "", (), 0.0), [("0", "c")], ["lost or changed: ['0']"]),
        ((None, "saved saved", "", (), 0.0), [], ["2 results were reported and 1 are saved"]),
        ((None, "", "", ("process 7",), 0.0), [], ["left behind: process 7"]),
        ((None, "", "Traceback", (), 0.0), [], ["on stderr: Traceback"]),
        ((2, "", "", (), 0.0), [], ["exit status 2: "]),
        ((0, "", "", (), 0.0), [("1", "c")], ["another digest than that of an undisturbed run"]),
        ((0, "", "", (), 0.0), [("1", "b"), ("x.tmp", "")], ["stray files ['x.tmp'], missing []"]),
        ((0, "", "", (), 0.0), [("1", "b"), ("../tmp/x", "")], ["stray TMP/x"]),
    ],
)
def test_faults_are_seen(tmp_path, run, write, faults):
    found = looked_at(Toy(), tmp_path, killing.Run(*run), write)
    assert [fault.replace(str(tmp_path / "tmp"), "TMP") for fault in found] == faults
    assert (tmp_path / "fault-1").exists() == bool(faults)


def test_a_worker_that_outlives_its_parent_is_seen_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(killing, "GONE_WITHIN", 0.2)
    code = "import subprocess, sys; print('begun', flush=True)\n"
    code += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).wait()"
    run = start([sys.executable, "-c", code], tmp_path, seconds=1.0)
    assert run.status is None and len(run.left) == 1 and run.left[0].startswith("process ")
    end = time.monotonic() + 10.0
    while Path("/proc", run.left[0].removeprefix("process "), "cmdline").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_is_killed_just_before_the_file_operation_that_was_drawn(tmp_path):
    code = (
        "import os, pathlib; from tests.endurance.killing import Operations; folder = pathlib.Path(os.environ['F'])\n"
    )
    code += (
        "Operations(folder, 3); (folder / 'a').touch(); os.rename(folder / 'a', folder / 'b'); (folder / 'c').touch()"
    )
    (tmp_path / "f").mkdir()
    run = start([sys.executable, "-c", code], tmp_path, environment={"F": str(tmp_path / "f"), "PYTHONPATH": str(ROOT)})
    assert run.status is None and [path.name for path in (tmp_path / "f").iterdir()] == ["b"]
