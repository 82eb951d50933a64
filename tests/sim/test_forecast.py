"""`estimate` counts the tasks of a study, and infers its time from a sample in the way it says."""

import pytest

from sim import simulation
from sim.__main__ import main
from sim.commands import forecast as module
from sim.commands.forecast import Forecast, Stratum, forecast
from sim.engine.study import load_study
from sim.engine.tasks import study_tasks
from tests.sim.command_line import write_study
from tests.sim.small_study import small_study


def test_time_and_interval_follow_from_the_sample():
    # Of 10 tasks three took 1, 2 and 4 s: 10 (7 / 3) s in all, with variance 100 (1 - 3/10) (1 + 4) / (4 3).
    first = Stratum("a", 10, 0.5, 0.25, (1.0, 2.0, 4.0))
    assert first.total == pytest.approx(70 / 3) and first.variance == pytest.approx(100 * 0.7 * 5 / 12)
    # Measured as a whole: nothing is inferred.
    second = Stratum("b", 2, 0.0, 0.0, (3.0, 5.0))
    assert second.total == 8.0 and second.variance == 0.0
    found = Forecast("s", "quick", 12, 2, (first, second), 0)
    assert found.seconds == pytest.approx(0.5 + (70 / 3 + 8) / 2 + 0.25)
    half = (
        4.302653 * (100 * 0.7 * 5 / 12) ** 0.5 / 2
    )  # the 97.5 % point of t with the 2 degrees of freedom of the first
    # Seconds less half would be before the end of what was measured already, 7 s and 8 s shared by two processes.
    assert found.interval == pytest.approx((7.5, found.seconds + half), rel=1e-6)
    assert found.text().startswith(
        "s (quick): 12 tasks, about 16 s with 2 processes on as many free cores, once these have started; 95 % interval"
    )


def test_the_sample_is_small_covers_all_worlds_and_sizes_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []
    real = module.run_task
    monkeypatch.setattr(module, "run_task", lambda task: (ran.append(task), real(task))[1])
    study = small_study(profiles={"quick": {"n": [40, 100, 200, 400, 1000], "replicates": 260}})
    found = forecast(study, "quick", jobs=64)
    tasks = study_tasks(study, "quick")
    assert (found.tasks, found.jobs) == (len(tasks), len(tasks))  # no more processes than tasks
    assert [stratum.world for stratum in found.strata] == ["laws", "other"] and found.measured == 8
    warm_up, *measured = ran
    assert warm_up.replicates == 1 and [task.cell.n for task in measured] == [40, 100, 400, 1000] * 2
    assert found.failed == 0 and all(second > 0 for stratum in found.strata for second in stratum.seconds)
    assert list(tmp_path.iterdir()) == []


def test_a_study_with_few_tasks_is_measured_as_a_whole():
    found = forecast(small_study(), "smoke", jobs=1)
    assert found.tasks == found.measured == 2 and found.interval == (found.seconds, found.seconds)


def test_exact_studies_have_one_task(capsys):
    assert main(["estimate", "loss_shapes", "ratio_shapes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(
        line.endswith(
            "with 1 process on as many free cores, once these have started; all of them were run here one by one"
        )
        for line in lines
    )
    assert [line.split(",")[0] for line in lines] == ["loss_shapes (-): 1 task", "ratio_shapes (-): 1 task"]


def test_the_command_tells_profile_tasks_and_jobs(tmp_path, capsys):
    path = write_study(tmp_path)
    assert main(["estimate", path, "--profile", "quick", "--jobs", "2"]) == 0
    text = capsys.readouterr().out
    tasks = len(study_tasks(load_study(path), "quick"))
    assert text.startswith(f"mine (quick): {tasks} tasks, about ") and "with 2 processes" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.toml"]


def test_failing_tasks_are_told(tmp_path, monkeypatch, capsys):
    def faulty(*arguments, **options):
        raise RuntimeError("a fault")

    monkeypatch.setattr(simulation, "simulate", faulty)
    assert main(["estimate", write_study(tmp_path), "--profile", "smoke"]) == 1
    assert capsys.readouterr().out.endswith("; 4 of these failed, so do not trust it\n")
