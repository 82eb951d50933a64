"""Kills, full disks, damage and second writers: nothing saved is lost, and the result is that of an undisturbed run."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sim.__main__ import main
from sim.engine.runner import run_study
from sim.engine.store import digest
from sim.engine.study import load_study
from tests.sim.command_line import ROOT, command, refusal, run_command, status_rows, write_study

TASKS = 30


@pytest.fixture
def study(tmp_path):
    """Return the path of a study file."""
    return write_study(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the digests of the study's profiles, run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    digests = {}
    for profile in ("smoke", "quick"):
        arguments = ["--profile", profile, "--output", str(folder / profile), "--jobs", "1"]
        assert main(["run", write_study(folder), *arguments]) == 0
        digests[profile] = digest(folder / profile / "mine")
    return digests


@pytest.fixture
def start():
    """Return a function that starts the command line as the leader of a process group; at the end nothing is left."""
    started = []

    def run(*arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command(*arguments), **pipes, cwd=ROOT, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def again(capsys, *arguments):
    """Run a command here, as a fresh process would take longer to start than to run, and return what it printed."""
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr()


def saved(folder):
    """Return how many parts a study has."""
    return len(list((folder / "parts").glob("*.arrow")))


def wait_for(condition, run):
    """Wait until a condition holds or a run ends."""
    while not condition() and run.poll() is None:
        time.sleep(0.002)


def wait_until(condition, seconds):
    """Wait until a condition holds, and fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextlib.contextmanager
def no_writing(folder):
    """Take away the right to write to a folder; whom no right binds becomes nobody meanwhile."""
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def alive(group):
    """Return the processes of a group that live; the dead that nobody has asked for are none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for living processes in /proc")
@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_a_run_killed_many_times_goes_on_to_the_same_result_and_leaves_no_worker(
    study, whole, tmp_path, start, capsys, times
):
    rng = np.random.default_rng(20260404)
    folder, arguments = tmp_path / "out" / "mine", ["run", study, "--output", tmp_path / "out", "--jobs", 2]
    kills, hit_parts, groups = 0, 0, []
    while kills < times:
        before, wanted, delay = saved(folder), (1, 0, 2, 0)[kills % 4], float(rng.uniform(0.0, 0.1))
        run = start(*arguments)
        # Half of them are hit while they start, the others after some tasks.
        wait_for(lambda: (folder / ".lock").exists() and saved(folder) >= before + wanted, run)  # noqa: B023 -- now
        time.sleep(delay)
        run.kill()
        run.communicate()
        groups.append(run.pid)
        if run.returncode == 0:  # it was done before the kill, which does not count
            assert digest(folder) == whole["quick"]
            shutil.rmtree(folder)
        else:
            assert run.returncode == -signal.SIGKILL
            kills += 1
            hit_parts += saved(folder) > before
    assert hit_parts > times // 4  # runs that had work under way, not only those that had just started
    wait_until(lambda: not any(map(alive, groups)), seconds=10.0)
    assert again(capsys, *arguments).err == ""
    assert digest(folder) == whole["quick"]


def test_a_run_killed_while_it_writes_its_tables_goes_on_to_the_same_result(study, whole, tmp_path, start, capsys):
    folder, arguments = tmp_path / "mine", ["run", study, "--output", tmp_path, "--jobs", 1]
    run = start(*arguments)
    wait_for(lambda: list(folder.glob("metrics.parquet.*.tmp")), run)
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert list(folder.glob("metrics.parquet.*.tmp")) and not (folder / "metrics.parquet").exists()
    assert "not collected" in again(capsys, "status", "--output", tmp_path).out
    assert f"mine: up to date, tables in {folder}" in again(capsys, *arguments).out
    assert digest(folder) == whole["quick"] and not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_tells_what_is_saved_and_the_same_command_goes_on(study, whole, tmp_path, start, capsys, jobs):
    folder, arguments = tmp_path / "mine", ["run", study, "--output", tmp_path, "--jobs", jobs]
    run = start(*arguments)
    wait_for(lambda: saved(folder) >= 3, run)
    os.killpg(run.pid, signal.SIGINT)  # as in a terminal, where the whole group is told
    _, error = run.communicate(timeout=60)
    kept = saved(folder)
    assert run.returncode == 130 and 3 <= kept < TASKS
    assert f"interrupted; {kept} of {TASKS} tasks of mine (quick) are saved in {folder}; the same command" in error
    assert "Traceback" not in error
    assert f"mine: {TASKS - kept} of {TASKS} tasks computed" in again(capsys, *arguments).out
    assert digest(folder) == whole["quick"]


def test_damaged_parts_are_named_and_computed_again(study, whole, tmp_path, capsys):
    folder, arguments = (
        tmp_path / "mine",
        ["run", study, "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"],
    )
    assert main(arguments) == 0
    altered, truncated = sorted((folder / "parts").iterdir())[1:3]
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    truncated.write_bytes(truncated.read_bytes()[:-100])
    capsys.readouterr()
    assert main(["status", "--output", str(tmp_path)]) == 0
    state = status_rows(capsys.readouterr().out)["mine"]
    assert (state["state"], state["done"], state["not run"], state["damaged"]) == ("unfinished", "2", "0", "2")
    assert main(arguments) == 0
    captured = capsys.readouterr()
    for path in (altered, truncated):
        assert f"{path} does not match its checksum and is computed again" in captured.err
    assert "mine: 2 of 4 tasks computed" in captured.out
    assert digest(folder) == whole["smoke"]


def test_a_damaged_table_is_made_again(study, whole, tmp_path, capsys):
    arguments = ["run", study, "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"]
    assert main(arguments) == 0
    (tmp_path / "mine" / "metrics.parquet").write_bytes(b"")
    capsys.readouterr()
    assert main(["status", "--output", str(tmp_path)]) == 0
    assert "not collected" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "up to date" in capsys.readouterr().out and digest(tmp_path / "mine") == whole["smoke"]


@pytest.mark.parametrize("files", [1, 2, 4])
def test_a_full_disk_is_told_and_nothing_saved_is_lost(study, whole, tmp_path, capsys, monkeypatch, files):
    room, replace = iter([None] * files), os.replace

    def replace_until_full(source, target):
        if next(room, "full") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    folder, arguments = (
        tmp_path / "mine",
        ["run", study, "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"],
    )
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until_full)
        message = refusal(capsys, *arguments)
    kept = saved(folder)
    assert kept == files - 1  # the first file is the settings
    assert message.startswith(f"results must go to a folder that can be written, got {folder}/parts/00000{kept}-")
    assert message.endswith(
        f": No space left on device; {kept} of 4 tasks of mine (smoke) are saved in {folder}; "
        "the same command goes on from there"
    )
    assert main(arguments) == 0
    assert f"mine: {4 - kept} of 4 tasks computed" in capsys.readouterr().out
    assert digest(folder) == whole["smoke"]


def test_a_disk_too_full_for_the_tables_keeps_all_parts(study, whole, tmp_path, capsys):
    folder, arguments = tmp_path / "mine", ["run", study, "--output", tmp_path, "--jobs", 1]
    limit = 500_000  # bytes of a file: room for each part, but not for the metrics of all of them
    full = run_command(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert full.returncode == 2 and "Traceback" not in full.stderr
    assert "File too large" in full.stderr and f"{TASKS} of {TASKS} tasks of mine (quick) are saved" in full.stderr
    assert not list(folder.glob("metrics*"))
    assert "mine: up to date" in again(capsys, *arguments).out and digest(folder) == whole["quick"]


def test_an_unwritable_folder_is_refused(study, tmp_path):
    folder, config = tmp_path / "sealed", load_study(study)
    folder.mkdir()
    message = f"^results must go to a folder that can be written, got {folder}/mine: Permission denied$"
    with no_writing(folder), pytest.raises(OSError, match=message):
        run_study(config, folder, profile="smoke")
    assert not list(folder.iterdir())


def test_an_output_below_a_file_is_refused(study, capsys):
    message = refusal(capsys, "run", study, "--profile", "smoke", "--output", study)
    assert message == f"results must go to a folder that can be written, got {study}/mine: Not a directory"


def test_a_second_process_on_one_store_is_refused_and_the_first_goes_on(study, whole, tmp_path, start, capsys):
    folder, arguments = tmp_path / "mine", ["run", study, "--output", tmp_path, "--jobs", 1]
    first = start(*arguments)
    wait_for(lambda: saved(folder) >= 1, first)
    os.kill(first.pid, signal.SIGSTOP)  # so that it surely is not done before the second one comes
    message = refusal(capsys, *arguments)
    assert message == f"results must be written by one process at a time, got {folder} in use by process {first.pid}"
    assert main(["status", "--output", str(tmp_path)]) == 0
    assert f"running ({first.pid})" in capsys.readouterr().out
    os.kill(first.pid, signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0 and digest(folder) == whole["quick"]
