"""How long a study will take: a few of its tasks are run in memory, and the rest is inferred from them."""

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from sim.commands.layout import duration
from sim.engine.study import StudyConfig, canonical_json, load_study
from sim.engine.study_checks import check_study
from sim.engine.tasks import Task, draw_data, metrics_of, run_task, runs_of, study_tasks
from sim.exact_tables import EXACT_TABLES
from sim.preferences.arguments import check_integer
from sim.statistics.accumulate import CellAccumulator

__all__ = ["Forecast", "Stratum", "forecast"]

_SAMPLED = 4  # tasks of each world, from small sample sizes to large ones


@dataclass(frozen=True)
class Stratum:
    """Measured tasks of one world.

    Attributes
    ----------
    world : str
        Name.
    tasks : int
        Number of tasks of the world.
    setup : float
        Seconds to build the world, once in each process and for each swept setting.
    collecting : float
        Seconds to gather the results of all its tasks in tables, one after the other in one process.
    seconds : tuple of float
        What the measured tasks took, from the smallest sample size to the largest.
    """

    world: str
    tasks: int
    setup: float
    collecting: float
    seconds: tuple[float, ...]

    @property
    def total(self) -> float:
        """Return the expected seconds of all tasks, one after the other."""
        return self.tasks * float(np.mean(self.seconds))

    @property
    def variance(self) -> float:
        """Return the variance of the total: that of a systematic sample, from successive differences."""
        sampled = len(self.seconds)
        if sampled < 2 or sampled == self.tasks:
            return 0.0
        successive = float(np.square(np.diff(self.seconds)).sum()) / (2 * (sampled - 1))
        return self.tasks**2 * (1 - sampled / self.tasks) * successive / sampled


@dataclass(frozen=True)
class Forecast:
    """What a study at a profile asks for.

    Attributes
    ----------
    study, profile : str
        Name and size.
    tasks, jobs : int
        Number of tasks, and of processes that share them.
    strata : tuple of Stratum
        What was measured, world by world; one without a setup stands for an exact study.
    failed : int
        Measured tasks in which a method raised, whose time says little.
    """

    study: str
    profile: str
    tasks: int
    jobs: int
    strata: tuple[Stratum, ...]
    failed: int

    @property
    def measured(self) -> int:
        """Return the number of tasks measured."""
        return sum(len(stratum.seconds) for stratum in self.strata)

    @property
    def seconds(self) -> float:
        """Return the expected time until the tables are there."""
        return sum(stratum.setup + stratum.total / self.jobs + stratum.collecting for stratum in self.strata)

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % t interval of `seconds` that follows from how much the measured tasks differ.

        It begins at what the measured tasks took, if not later.
        """
        freedom = sum(len(stratum.seconds) - 1 for stratum in self.strata if len(stratum.seconds) < stratum.tasks)
        error = math.sqrt(sum(stratum.variance for stratum in self.strata)) / self.jobs
        half = float(stdtrit(freedom, 0.975)) * error if freedom else 0.0
        least = sum(sum(stratum.seconds) for stratum in self.strata) / self.jobs
        return max(self.seconds - half, least), self.seconds + half

    def text(self) -> str:
        """Return the forecast in a line."""
        low, high = self.interval
        found = f"95 % interval {duration(low)} to {duration(high)}, from {self.measured} of them run here one by one"
        if self.measured == self.tasks:
            found = "all of them were run here one by one"
        text = (
            f"{self.study} ({self.profile}): {_counted(self.tasks, 'task')}, about {duration(self.seconds)} with "
            f"{_counted(self.jobs, 'process', 'es')} on as many free cores, once these have started; {found}"
        )
        return text + (f"; {self.failed} of these failed, so do not trust it" if self.failed else "")


def _counted(number: int, noun: str, plural: str = "s") -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def forecast(config: StudyConfig | str, profile: str, jobs: int = 1) -> Forecast:
    """Measure a small sample of a study's tasks, in memory, and infer how long the study takes.

    Of every world four tasks are run, from small sample sizes to large ones: a systematic sample of the tasks in the
    order of the sample size. With ``N`` tasks and measured times ``t_1, ..., t_k`` of a world, its tasks are expected
    to take ``N mean(t)``, with the variance ``N^2 (1 - k/N) sum_i (t_i - t_(i-1))^2 / (2 k (k - 1))``.

    Parameters
    ----------
    config : StudyConfig or str
        A study, or what `sim.engine.study.load_study` accepts.
    profile : {"smoke", "quick", "paper"}
        Size.
    jobs : int
        Processes that will share the tasks, at least 1.

    Returns
    -------
    Forecast
        Number of tasks, expected time and its interval.

    Raises
    ------
    ValueError
        If the study is not valid, or has no such profile.

    Notes
    -----
    Not covered: starting the processes (some seconds), cores that others use, and rare tasks that take far longer than
    those measured. A task has no time limit here.

    References
    ----------
    .. [1] Wolter (2007), Introduction to Variance Estimation, section 8.2: systematic samples, successive differences.

    Examples
    --------
    >>> found = forecast("class_weighting", "smoke", jobs=2)
    >>> found.tasks, found.measured, found.interval[0] <= found.seconds <= found.interval[1]
    (5, 4, True)
    """
    study = config if isinstance(config, StudyConfig) else load_study(config)
    check_integer("jobs", jobs, 1)
    check_study(study, profile)
    if study.kind == "exact":
        started = time.perf_counter()
        EXACT_TABLES[study.table](**study.parameters)
        return Forecast(
            study.name, "-", 1, 1, (Stratum(study.table, 1, 0.0, 0.0, (time.perf_counter() - started,)),), 0
        )
    tasks = study_tasks(study, profile)
    run_task(replace(tasks[0], replicates=1))  # loads what is loaded when it is first called
    strata, failed = [], 0
    for world in dict.fromkeys(task.cell.world["name"] for task in tasks):
        own = sorted((task for task in tasks if task.cell.world["name"] == world), key=lambda task: task.cell.n)
        stratum, raised = _measure(world, own)
        strata.append(stratum)
        failed += raised
    return Forecast(study.name, profile, len(tasks), min(jobs, len(tasks)), tuple(strata), failed)


def _measure(world: str, tasks: Sequence[Task]) -> tuple[Stratum, int]:
    """Run a systematic sample of a world's tasks; return what they took, and how many of them failed."""
    sampled = min(_SAMPLED, len(tasks))
    setups, seconds, collecting, failed = [], [], [], 0
    for i in range(sampled):
        task = tasks[int((i + 0.5) * len(tasks) / sampled)]
        started = time.perf_counter()
        with contextlib.suppress(Exception):  # a world that cannot be built fails in the task itself, and is counted
            draw_data(replace(task, replicates=1))  # a process builds each world once, and then keeps it
        built = time.perf_counter()
        _, content = run_task(task)
        ran = time.perf_counter()
        CellAccumulator(task.key.stream("bootstrap")).add(metrics_of(content))
        setups.append(built - started)
        seconds.append(ran - built)
        collecting.append(time.perf_counter() - ran)
        failed += any(run["status"] != "ok" for run in runs_of(content))
    worlds = len({canonical_json(task.cell.world) for task in tasks})
    setup, collected = worlds * float(np.mean(setups)), len(tasks) * float(np.mean(collecting))
    return Stratum(world, len(tasks), setup, collected, tuple(seconds)), failed
