"""Clocks that jump, and files whose times say anything: no result and no decision depends on them."""

import os
import random
import time

import pytest

from figures.job.freshness import is_fresh, write_stamp
from sim.engine.runner import run_study
from sim.engine.store import digest
from tests.sim.small_study import small_study

DAY = 86_400.0
STUDY = small_study(
    profiles={"quick": {"n": [40], "replicates": 1010}}, worlds=[small_study().worlds[0]], vary=None, name="clocked"
)


@pytest.fixture
def jumping(monkeypatch):
    """Let the clock jump by up to a day, forth or back, whenever it is asked."""
    now, jumps = time.time, random.Random(5)
    monkeypatch.setattr(time, "time", lambda: now() + jumps.uniform(-DAY, DAY))


def shuffle_times(folder, seed):
    """Give all files and folders times from a day ago to a day ahead."""
    times, now = random.Random(seed), time.time()
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (now + times.uniform(-DAY, DAY),) * 2)


def test_a_study_is_resumed_and_up_to_date_whatever_the_clock_says(tmp_path, jumping):
    whole = run_study(STUDY, tmp_path / "whole")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="1 of 2 tasks"):
        run_study(STUDY, tmp_path / "cut", progress=stop)
    shuffle_times(tmp_path, 1)
    resumed = run_study(STUDY, tmp_path / "cut")
    assert (whole.tasks, resumed.computed) == (2, 1)
    shuffle_times(tmp_path, 2)
    made = {path: path.read_bytes() for path in resumed.folder.glob("*.parquet")}
    assert run_study(STUDY, tmp_path / "cut").computed == 0
    assert {path: path.read_bytes() for path in resumed.folder.glob("*.parquet")} == made
    assert digest(resumed.folder) == digest(whole.folder)
    assert (resumed.table("timing")["seconds"] >= 0.0).all()


def test_the_main_job_is_up_to_date_whatever_the_clock_says(tmp_path, jumping):
    (tmp_path / "arena").mkdir()
    for name, content in (("config.json", "{}"), ("summary.parquet", "made")):
        (tmp_path / "arena" / name).write_text(content)
    write_stamp(tmp_path, "quick")
    for seed in range(3):
        shuffle_times(tmp_path, seed)
        assert is_fresh(tmp_path, "quick")
    times = os.stat(tmp_path / "arena" / "summary.parquet")
    (tmp_path / "arena" / "summary.parquet").write_text("MADE")
    os.utime(tmp_path / "arena" / "summary.parquet", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_fresh(tmp_path, "quick")
