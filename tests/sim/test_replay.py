"""`replay` runs one run again as a worker did: equal values, the same error with its traceback, and where it hangs."""

import os
import shutil
import signal
import sys
import threading
import time

import pandas as pd
import pyarrow as pa
import pytest

from sim import simulation
from sim.__main__ import main
from sim.commands.replay import replay_run
from sim.commands.results import open_results
from sim.engine.kinds import KINDS
from sim.engine.run_ids import run_id
from sim.engine.runner import run_study
from sim.engine.store import open_store
from sim.engine.study import load_study
from sim.engine.tasks import lost_task
from tests.sim.command_line import refusal, write_study
from tests.sim.faulty_kind import FAULT_AT, FAULTY, faulty_study
from tests.sim.small_study import small_study

RUN = "mine/hodge/n=1000/block=1:ddro"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with two finished studies, which tests only read."""
    folder = tmp_path_factory.mktemp("finished")
    run_study(load_study(write_study(folder)), folder, profile="smoke", jobs=2)
    run_study(small_study(), folder)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """Return a copy of the folder, to change."""
    return shutil.copytree(finished, tmp_path / "copy")


def replayed(capsys, run, folder):
    """Return exit status and text of a replay."""
    status = main(["replay", run, "--output", str(folder)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return status, captured.out


def faulty(*arguments, **options):
    raise ZeroDivisionError("a fault\nover two lines")


def test_every_run_of_a_study_is_reproduced(finished):
    runs = pd.read_parquet(finished / "small" / "runs.parquet").to_dict("records")
    # dpo draws from a stream of its own, so data and methods' randomness are both reproduced; blocks are not full.
    assert {run["method"] for run in runs} == {"rdro", "dpo"} and len(runs) >= 12
    for run in runs[:8]:
        again = replay_run(run_id(run), finished)
        assert (again.reproduced, again.error, again.seed_key) == (True, "", run["seed_key"])
        assert again.saved["status"] == "ok" and again.values > 0


def test_a_run_is_shown_with_what_was_saved(finished, capsys):
    status, text = replayed(capsys, RUN, finished)
    assert status == 0
    lines = text.splitlines()
    assert lines[0].startswith(f"run {RUN}, seed key 3:") and lines[1] == "saved: ok"
    assert lines[2].startswith("now: ") and lines[3] == "reproduced bit for bit"


@pytest.mark.parametrize("column", ["value", "exact", "status"])
def test_one_changed_bit_is_noticed(copy, capsys, column):
    settings = open_results(copy / "mine").settings
    with open_store(copy / "mine", settings) as store:
        with pa.ipc.open_file(store.parts()[3].read_bytes()) as part:
            schema, frame = part.schema, part.read_pandas()
        place = frame.index[frame["method"] == "ddro"][5]
        frame.loc[place, column] = "diverged" if column == "status" else frame.loc[place, column] + 2.0**-52
        with pa.ipc.new_file(copy / "part.arrow", schema) as part:
            part.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False))
        store.save_part(3, (copy / "part.arrow").read_bytes())
    status, text = replayed(capsys, RUN, copy / "mine")  # the folder of one study will do
    assert status == 1 and text.endswith("NOT reproduced\n")
    assert replayed(capsys, RUN.replace("ddro", "rdro"), copy)[0] == 0


def test_an_error_is_reproduced_with_its_traceback(tmp_path, monkeypatch, capsys):
    study = load_study(write_study(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(simulation, "simulate", faulty)
        result = run_study(study, tmp_path, profile="smoke")
        assert len(result.errors) == 8
        status, text = replayed(capsys, RUN, tmp_path)
    assert status == 0
    assert text.startswith("Traceback (most recent call last):\n") and "in faulty\n" in text
    assert "saved: error, ZeroDivisionError: a fault over two lines\n" in text
    assert text.endswith("the saved error is reproduced\n")
    # Once the fault is mended, the saved error is not reproduced.
    status, text = replayed(capsys, RUN, tmp_path)
    assert status == 1 and text.endswith("NOT reproduced\n") and "Traceback" not in text


def test_another_error_than_the_saved_one_is_not_the_same(copy, monkeypatch, capsys):
    settings = open_results(copy / "mine").settings
    with open_store(copy / "mine", settings) as store:
        store.parts()
        store.save_part(*lost_task(open_results(copy / "mine").tasks()[3], "error", "MemoryError: no room"))
    monkeypatch.setattr(simulation, "simulate", faulty)
    status, text = replayed(capsys, RUN, copy)
    assert status == 1 and "saved: error, MemoryError: no room" in text and text.endswith("NOT reproduced\n")
    status, text = replayed(capsys, RUN.replace("block=1", "block=0"), copy)  # saved well, and raises now
    assert status == 1 and "saved: ok" in text and "raised the error above" in text


def test_a_run_that_timed_out_is_run_without_a_limit(copy, capsys):
    study = open_results(copy / "mine")
    with open_store(copy / "mine", study.settings) as store:
        store.parts()
        store.save_part(*lost_task(study.tasks()[3], "timeout", "took longer than 5 s"))
    status, text = replayed(capsys, RUN, copy)
    assert status == 0 and "saved: timeout, took longer than 5 s" in text
    assert text.endswith("nothing to compare with\n")


def interrupt_in(name, thread):
    """Press Ctrl-C once a thread has come to a function."""
    while True:
        frame = sys._current_frames()[thread]
        while frame is not None and frame.f_code.co_name != name:
            frame = frame.f_back
        if frame is not None:
            return os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


def test_a_run_that_hangs_hangs_again_and_ctrl_c_shows_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KINDS, "faulty", FAULTY)
    result = run_study(faulty_study("hangs"), tmp_path, timeout=0.5)
    assert len(result.errors) == 1
    main(["status", "--output", str(tmp_path)])
    name = f"faulty/normal/n={FAULT_AT}/block=0:hangs"
    assert f"timeout in {name}, seed key 1:" in capsys.readouterr().out
    stop = threading.Thread(target=interrupt_in, args=("_hang", threading.get_ident()))
    stop.start()
    assert main(["replay", name, "--output", str(tmp_path)]) == 130
    stop.join()
    error = capsys.readouterr().err
    assert "in _hang\n" in error and error.endswith("interrupted; the traceback above shows where the run was\n")


def test_a_run_that_is_not_saved_is_run(copy, capsys):
    next((copy / "mine" / "parts").glob("000003-*")).unlink()
    status, text = replayed(capsys, RUN, copy)
    assert status == 0 and "saved: nothing, it has not run\n" in text and text.endswith("nothing to compare with\n")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            "mien/hodge/n=1000/block=1:ddro",
            "study of a run must be one of mine, small; got 'mien' (did you mean 'mine'?)",
        ),
        (
            "mine/hodge/n=1000/block=2:ddro",
            "got 'mine/hodge/n=1000/block=2:ddro' (did you mean 'mine/hodge/n=1000/block=",
        ),
        ("mine", "a run must be named as study/world/n=N/block=B:method and be in"),
    ],
)
def test_a_wrong_name_is_refused_and_the_nearest_named(finished, capsys, run, message):
    assert message in refusal(capsys, "replay", run, "--output", finished)
