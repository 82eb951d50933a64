"""Trainings and their folders: full disks, second processes and Ctrl-C are one line that says how to go on."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lm.__main__ import main
from lm.files import locked
from tests.endurance.killing import processes_of
from tests.endurance.lm_subject import LmSubject

ROOT = Path(__file__).parents[2]


def test_a_second_training_in_a_folder_is_refused_and_the_first_is_named(tmp_path, capsys):
    folder = tmp_path / "run"
    with locked(folder):
        assert main(LmSubject(tmp_path).arguments(folder, 1)) == 2
    message = f"results must be written by one process at a time, got {folder} in use by process {os.getpid()}"
    assert capsys.readouterr().err == f"relratio-lm: {message}\n"
    assert [path.name for path in folder.iterdir()] == [".lock"]


# Less than the weights, which safetensors writes; less than the optimiser's state, which torch writes.
@pytest.mark.parametrize("limit", [pytest.param(200_000, marks=pytest.mark.slow), 700_000])
def test_a_disk_too_full_for_a_checkpoint_is_one_line_that_says_how_to_go_on(tmp_path, capsys, limit):
    folder, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    arguments = LmSubject(tmp_path, steps=2).arguments(folder, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        assert main(arguments) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert error.startswith(f"relratio-lm: training must be able to write to {folder}, got: ")
    assert error.endswith("; no checkpoint was saved yet; start again by the same command\n") and error.count("\n") == 1
    assert main(arguments) == 0
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for living processes in /proc")
@pytest.mark.parametrize("command", ["train", "validate"])
def test_ctrl_c_says_what_is_saved_and_how_to_go_on_and_leaves_no_process(tmp_path, command):
    if command == "train":
        folder, saved = tmp_path / "run", "checkpoint-[0-9]*/trainer_state.json"
        arguments = LmSubject(tmp_path, steps=100_000).arguments(folder, 1)
    else:
        folder, saved = tmp_path / "run" / "weighting", "parts/*.parquet"
        arguments = ["validate", "weighting", "--profile", "smoke", "--output", str(tmp_path / "run"), "--jobs", "2"]
    run = subprocess.Popen(
        [sys.executable, "-m", "lm", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    while not list(folder.glob(saved)):
        assert run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    error = run.communicate()[1]
    assert run.returncode == 130 and "Traceback" not in error
    last = error.splitlines()[-1]
    assert last.startswith("relratio-lm: interrupted; ") and str(folder) in last
    assert last.endswith(
        "is saved; go on by the same command with --resume_from_checkpoint true"
        if command == "train"
        else "of 12 runs of weighting (smoke) are saved in " + f"{folder}; the same command goes on from there"
    )
    end = time.monotonic() + 60.0
    while processes_of(run.pid):
        assert time.monotonic() < end
        time.sleep(0.05)
