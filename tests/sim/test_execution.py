"""Work ends in the same results wherever and in whatever order it is done, and no worker's fault stops the rest."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import distributed
import pandas as pd
import pytest

from sim.engine import runner
from sim.engine.execution import execute
from sim.engine.kinds import KINDS
from sim.engine.runner import collect_study, run_study
from sim.engine.store import digest
from tests.sim.faulty_kind import FAULT_AT, FAULTY, faulty_study
from tests.sim.small_study import small_study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return the digest of the small study run in one process."""
    return digest(run_study(small_study(), tmp_path_factory.mktemp("expected")).folder)


@pytest.fixture(scope="module")
def cluster():
    """Return the address of a Dask cluster of two worker processes, spoken to over TCP."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp", dashboard_address=":0"
    ) as local:
        assert local.scheduler_address.startswith("tcp://")
        yield local.scheduler_address


@pytest.fixture
def faulty(monkeypatch):
    """Register the faulty kind and return the maker of its studies."""
    monkeypatch.setitem(KINDS, "faulty", FAULTY)
    return faulty_study


@pytest.mark.parametrize("jobs", [2, 4])
def test_results_do_not_depend_on_the_number_of_workers(expected, tmp_path, jobs):
    assert digest(run_study(small_study(), tmp_path, jobs=jobs).folder) == expected


def test_results_do_not_depend_on_the_place(expected, cluster, tmp_path):
    result = run_study(small_study(), tmp_path, backend="dask", scheduler=cluster)
    assert result.computed == result.tasks == 12
    assert digest(result.folder) == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_results_do_not_depend_on_the_order_of_tasks(expected, tmp_path, monkeypatch, seed):
    def shuffled(tasks, **options):
        return execute(random.Random(seed).sample(tasks, len(tasks)), **options)

    monkeypatch.setattr(runner, "execute", shuffled)
    assert digest(run_study(small_study(), tmp_path).folder) == expected


def test_shards_are_collected_to_the_same_results(expected, tmp_path):
    computed = []
    for shard in (2, 0, 1):
        result = run_study(small_study(), tmp_path, shard=(shard, 3))
        computed.append(result.computed)
        assert not (result.folder / "metrics.parquet").exists()
    assert computed == [4, 4, 4] and run_study(small_study(), tmp_path, shard=(1, 3)).computed == 0
    collected = collect_study(small_study(), tmp_path)
    assert (collected.computed, collected.tasks) == (0, 12)
    assert digest(collected.folder) == expected


def test_shards_may_run_at_the_same_time_and_the_same_one_not(expected, tmp_path):
    code = "import sys; from sim.engine.runner import run_study; from tests.sim.small_study import small_study\n"
    code += f"run_study(small_study(), {str(tmp_path)!r}, shard=(int(sys.argv[1]), 2))"
    shards = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for i in (0, 1)
    ]
    assert [(shard.communicate(timeout=300)[1], shard.returncode) for shard in shards] == [("", 0)] * 2
    assert digest(collect_study(small_study(), tmp_path).folder) == expected


def test_missing_tasks_are_named(tmp_path):
    run_study(small_study(), tmp_path, shard=(0, 6))
    message = r"got none for 10 of them: 1 \(laws, n = 40, alpha = 0\.3, block 1\), 2 \(laws, n = 200, .*block 1\)$"
    with pytest.raises(ValueError, match=message):
        collect_study(small_study(), tmp_path)
    with pytest.raises(FileNotFoundError, match="tables must be made of tasks that shards have computed, got none in"):
        collect_study(small_study(), tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def rest(result):
    """Return the metrics that no fault touches."""
    return result.table("metrics").query(f"method == 'fine' and n != {FAULT_AT}").reset_index(drop=True)


def test_a_worker_that_raises_hangs_or_dies_is_recorded_and_the_rest_finishes(faulty, tmp_path):
    clean = run_study(faulty(), tmp_path / "clean")
    result = run_study(faulty("raises", "hangs"), tmp_path, jobs=2, timeout=1.0)
    runs = result.table("runs")
    failed = runs[runs["status"] != "ok"].set_index("method")
    assert failed["status"].to_dict() == {"raises": "error", "hangs": "timeout"} and set(failed["n"]) == {FAULT_AT}
    assert failed["message"].to_dict() == {
        "raises": "RuntimeError: a fault over two lines",
        "hangs": "took longer than 1 s",
    }
    assert failed.loc["hangs", "timeout"] == failed.loc["raises", "error"] == 10
    assert len(result.errors) == 2
    assert all(key in line for key, line in zip(failed["seed_key"], result.errors, strict=True))
    summary = result.table("summary").query(f"n == {FAULT_AT}").set_index("method")
    assert summary.loc["hangs", "share_timeout"] == summary.loc["raises", "share_error"] == 1.0
    assert (summary["replicates"] == 10).all() and set(summary["metric"]) == {"error"}
    pd.testing.assert_frame_equal(rest(result), rest(clean), check_exact=True)


def test_a_worker_that_dies_takes_one_task_with_it(faulty, tmp_path):
    clean = run_study(faulty(), tmp_path / "clean")
    result = run_study(faulty("dies"), tmp_path, jobs=2)
    runs = result.table("runs")
    died = runs[runs["status"] == "error"]
    # Both methods: their part was never written.
    assert set(zip(died["method"], died["n"], strict=True)) == {("fine", FAULT_AT), ("dies", FAULT_AT)}
    assert len(died) == 2 and died["message"].str.contains(r"its worker process died of SIGKILL").all()
    pd.testing.assert_frame_equal(rest(result), rest(clean), check_exact=True)


def test_a_worker_that_is_killed_once_costs_no_result(faulty, tmp_path):
    study = faulty("dies_once", marker=str(tmp_path / "marker"))
    result = run_study(study, tmp_path / "killed", jobs=2)
    assert (tmp_path / "marker").exists() and (result.computed, result.errors) == (3, ())
    assert digest(result.folder) == digest(run_study(study, tmp_path / "unharmed").folder)


def test_a_worker_that_cannot_be_interrupted_is_ended(faulty, tmp_path, capfd):
    clean = run_study(faulty(), tmp_path / "clean")
    result = run_study(faulty("stuck"), tmp_path, jobs=2, timeout=1.0)
    runs = result.table("runs")
    stuck = runs[runs["status"] != "ok"]
    assert set(stuck["status"]) == {"timeout"} and set(stuck["n"]) == {FAULT_AT} and len(stuck) == 2
    assert (stuck["message"] == "took longer than 1 s, in code that could not be interrupted").all()
    assert "in _be_stuck" in capfd.readouterr().err  # where it was
    pd.testing.assert_frame_equal(rest(result), rest(clean), check_exact=True)


def test_a_worker_of_a_cluster_that_raises_or_hangs_is_recorded(faulty, cluster, tmp_path):
    result = run_study(faulty("raises", "hangs"), tmp_path, backend="dask", scheduler=cluster, timeout=1.0)
    processes = run_study(faulty("raises", "hangs"), tmp_path / "processes", jobs=2, timeout=1.0)
    assert len(result.errors) == 2
    assert digest(result.folder) == digest(processes.folder)


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_dies_is_recorded(faulty, tmp_path):
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
        result = run_study(faulty("dies"), tmp_path, backend="dask", scheduler=local.scheduler_address)
    runs = result.table("runs")
    assert set(runs.loc[runs["status"] == "error", "n"]) == {FAULT_AT} and len(result.errors) == 2
    assert runs["message"].str.contains("its worker processes died").sum() == 2


def test_no_worker_outlives_its_killed_parent(tmp_path):
    code = "from sim.engine.kinds import KINDS; from tests.sim.faulty_kind import FAULTY, faulty_study\n"
    code += "from sim.engine.runner import run_study; KINDS['faulty'] = FAULTY\n"
    code += f"run_study(faulty_study('hangs'), {str(tmp_path)!r}, jobs=2)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True) as parent:
        try:
            parts = tmp_path / "faulty" / "parts"
            while len(list(parts.glob("*.arrow"))) < 2:  # then each worker hangs in a task of the next size
                assert parent.poll() is None
                time.sleep(0.01)
            parent.kill()
            parent.wait()
            deadline = time.monotonic() + 30.0  # they look once a second; the rest is for a busy machine
            while _group_lives(parent.pid):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            if _group_lives(parent.pid):
                os.killpg(parent.pid, signal.SIGKILL)


def _group_lives(group):
    """Return whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "dusk"}, ValueError, r"backend must be one of dask, processes; got 'dusk'"),
        ({"backend": "dask"}, ValueError, "a scheduler must be named for the backend dask and for no other, got None"),
        ({"scheduler": "tcp://host:1"}, ValueError, "got 'tcp://host:1' for processes"),
        ({"timeout": 0.0}, ValueError, "timeout must be finite and greater than 0, got 0.0"),
        ({"jobs": 0}, ValueError, "jobs must be at least 1, got 0"),
        ({"shard": (2, 2)}, ValueError, r"shard must be one of 0, \.\.\., 1, got 2"),
        ({"shard": (0, 0)}, ValueError, "number of shards must be at least 1, got 0"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run_study(small_study(), tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_out_of_reach_is_told(tmp_path):
    message = r"0 of 12 tasks of small \(quick\) are saved in .*; the same command goes on"
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}), pytest.raises(OSError, match=message):
        run_study(small_study(), tmp_path, backend="dask", scheduler="tcp://127.0.0.1:9")
