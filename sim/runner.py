"""Running studies: blocks of replicates in parallel processes, resumable, equal for any number of workers."""

import contextlib
import importlib.metadata
import itertools
import json
import platform
import signal
import time
import warnings
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sim.exact_tables import EXACT_TABLES
from sim.preferences.arguments import check_integer
from sim.seeds import SeedKey
from sim.simulation import simulate
from sim.statistics import STATUSES, fit_rates, summarise
from sim.store import Store, open_store, parquet_bytes
from sim.study import Cell, MethodConfig, StudyConfig, canonical_json, load_study
from sim.study_checks import check_study
from sim.worlds import Counts, World, build_world

__all__ = ["BLOCK", "StudyResult", "Task", "run_study", "run_task"]

BLOCK = 250
"""Replicates of a task: enough for batched solvers to be quick, few enough that a kill costs a second."""

# Columns of metrics beside those that all rows of a task share.
_OWN = {"method": str, "replicate": int, "status": str, "metric": str, "value": float, "exact": float}
_RUNS = b"relratio.runs"  # where a part's Parquet metadata keep what became of each method


@dataclass(frozen=True)
class Task:
    """A block of replicates of all methods in one cell, on the same data.

    Attributes
    ----------
    index : int
        Place in the study, which orders the results.
    study : str
        Name of the study.
    cell : Cell
        World and sample size.
    key : SeedKey
        Key of the random streams.
    first, replicates : int
        First replicate and number of replicates.
    methods : tuple of MethodConfig
        What is estimated.
    """

    index: int
    study: str
    cell: Cell
    key: SeedKey
    first: int
    replicates: int
    methods: tuple[MethodConfig, ...]

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns that all rows of the task share."""
        return {"study": self.study, "world": self.cell.world["name"], "n": self.cell.n} | self.cell.vary


@dataclass(frozen=True)
class StudyResult:
    """What became of a study.

    Attributes
    ----------
    study : str
        Name.
    folder : Path
        Where its tables are.
    tasks, computed : int
        Number of tasks, and how many of them this call computed; 0 when all were there.
    errors : tuple of str
        One line for each method that raised in a task; such tasks are tried again by the next call.
    """

    study: str
    folder: Path
    tasks: int
    computed: int
    errors: tuple[str, ...] = ()

    def table(self, name: str) -> pd.DataFrame:
        """Read a result table, such as "summary"."""
        return pd.read_parquet(self.folder / f"{name}.parquet")


def run_study(
    config: StudyConfig | str | Path, output: str | Path, *, profile: str = "quick", jobs: int = 1
) -> StudyResult:
    """Run a study, or what is missing of it, and write its tables.

    Parameters
    ----------
    config : StudyConfig, str or Path
        A study, or what `sim.study.load_study` accepts.
    output : str or Path
        Folder of results; the study gets a folder of its name in it.
    profile : {"smoke", "quick", "paper"}
        Size.
    jobs : int
        Processes, at least 1. The results do not depend on it.

    Returns
    -------
    StudyResult
        Where the tables are, and which tasks raised.

    Raises
    ------
    ValueError, ImportError
        If the study is not valid, or the folder holds results of other settings.
    OSError
        If the folder cannot be written, another process writes to it, or a worker process was killed.
    KeyboardInterrupt
        If the user interrupts; what is saved, and how to go on, is the message.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run_study("class_weighting", folder, profile="smoke")
    ...     summary = result.table("summary").query("metric == 'tv_preferred' and alpha == 0.2")
    >>> summary[["method", "mean", "exact"]].round(2).to_dict("list")
    {'method': ['balanced', 'pooled'], 'mean': [0.01, 0.34], 'exact': [0.0, 0.34]}
    """
    study = config if isinstance(config, StudyConfig) else load_study(config)
    check_integer("jobs", jobs, 1)
    check_study(study, profile)
    folder = Path(output) / study.name
    if study.kind == "exact":
        return _run_exact(study, folder, profile)
    with open_store(folder, study.settings(profile)) as store:
        tasks = _tasks(study, profile)
        parts = store.parts()
        missing = [task for task in tasks if task.index not in parts or _failures(parts[task.index])]
        if missing or not store.tables_are_complete():
            store.discard_tables()
            _compute(missing, store, parts, jobs, f"{study.name} ({profile})", len(tasks))
            store.save_tables(_collect([parts[task.index] for task in tasks]))
        errors = tuple(line for task in tasks for line in _failures(parts[task.index]))
    return StudyResult(study.name, folder, len(tasks), len(missing), errors)


def run_task(task: Task) -> tuple[int, bytes]:
    """Run a task: the same data for all methods; what raises is recorded, not lost.

    Returns
    -------
    int
        The task's index.
    bytes
        A Parquet file of metrics, with the runs in its metadata.
    """
    with threadpool_limits(limits=1):  # processes are the parallelism; BLAS threads would fight over the same cores
        frames, runs = _run_methods(task)
    columns = [*task.columns, *_OWN]
    metrics = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    table = pa.Table.from_pandas(metrics.assign(**task.columns)[columns], schema=_schema(task), preserve_index=False)
    return task.index, parquet_bytes(table.replace_schema_metadata({_RUNS: json.dumps(runs)}))


def _run_exact(study: StudyConfig, folder: Path, profile: str) -> StudyResult:
    """Compute an exact table, and save it unless it is there as it is."""
    # First: a parameter that the table refuses must not leave a folder behind that refuses its correction.
    table = {"table": pa.Table.from_pandas(EXACT_TABLES[study.table](**study.parameters), preserve_index=False)}
    with open_store(folder, study.settings(profile)) as store:
        changed = not store.tables_are(table)
        if changed:
            store.save_tables(table)
    return StudyResult(study.name, folder, 1, int(changed))


def _tasks(study: StudyConfig, profile: str) -> list[Task]:
    """Return the tasks of a study in the order of its results."""
    replicates = study.profile(profile).replicates
    blocks = list(enumerate(range(0, replicates, BLOCK)))
    return [
        Task(
            index,
            study.name,
            cell,
            SeedKey.of(study.seed, cell.world, cell.n, block),
            first,
            min(BLOCK, replicates - first),
            study.methods,
        )
        for index, (cell, (block, first)) in enumerate(itertools.product(study.cells(profile), blocks))
    ]


def _compute(
    missing: Sequence[Task], store: Store, parts: dict[int, pa.Table], jobs: int, title: str, total: int
) -> None:
    """Run tasks in parallel and save each as soon as it is done; `parts` is filled."""
    parallel = Parallel(
        n_jobs=min(jobs, max(len(missing), 1)),  # starting a process costs more than many a task
        return_as="generator_unordered",
        backend="loky",
        initializer=signal.signal,  # Ctrl-C reaches workers too: this process alone answers, and ends them
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    bar = tqdm(total=total, initial=total - len(missing), desc=title, unit="task", disable=None)
    try:
        with bar, warnings.catch_warnings():
            # What joblib says when it is interrupted; the message below says it better.
            warnings.filterwarnings("ignore", message=r".*You could benefit from adjusting the input task iterator")
            with contextlib.closing(parallel(delayed(run_task)(task) for task in missing)) as results:
                for index, content in results:
                    store.save_part(index, content)
                    parts[index] = pq.read_table(pa.BufferReader(content))
                    bar.update()
    except (KeyboardInterrupt, BrokenProcessPool) as stop:
        saved = f"{store.saved_parts()} of {total} tasks of {title} are saved in {store.folder}; "
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(f"{saved}the same command goes on from there") from stop
        raise OSError(
            "a worker process must live until its task is done, got one that was killed, perhaps for lack of memory; "
            f"{saved}the same command with fewer --jobs goes on from there"
        ) from stop


def _run_methods(task: Task) -> tuple[list[pd.DataFrame], list[dict[str, Any]]]:
    """Return the metrics of a task, and one run for each method."""
    frames, runs = [], []
    world = counts = failure = None
    try:
        world = _world(canonical_json(task.cell.world))
        counts = world.sample(task.cell.n, task.replicates, task.key.stream("data"))
    except Exception as error:  # noqa: BLE001 -- recorded under its own name for every method
        failure = _described(error)
    for method in task.methods:
        started = time.perf_counter()
        frame, message = None, failure
        if world is not None and counts is not None:
            frame, message = _run_method(task, method, world, counts)
        if frame is not None:
            frames.append(frame)
        runs.append(_run_row(task, method, frame, message or "", time.perf_counter() - started))
    return frames, runs


def _run_method(
    task: Task, method: MethodConfig, world: World, counts: Counts
) -> tuple[pd.DataFrame | None, str | None]:
    """Return a method's metrics, or what it raised."""
    # A stream of its own: no method's randomness depends on which others run.
    rng = task.key.stream(f"method {method.label}")
    try:
        result = simulate(
            world,
            method.method,
            task.cell.n,
            task.replicates,
            rng,
            label=method.label,
            data=counts,
            **method.options,
        )
    except Exception as error:  # noqa: BLE001 -- recorded under its own name, with the seed that repeats it
        return None, _described(error)
    table = result.table()
    return table.assign(replicate=table["replicate"] + task.first), None


def _run_row(
    task: Task, method: MethodConfig, frame: pd.DataFrame | None, message: str, seconds: float
) -> dict[str, Any]:
    """Return what became of a method in a task; a method that raised counts all its replicates as errors."""
    if frame is None:
        counted = dict.fromkeys(STATUSES, 0) | {"error": task.replicates}
    else:
        statuses = frame.loc[frame["metric"] == frame["metric"].iloc[0], "status"]
        counted = {status: int((statuses == status).sum()) for status in STATUSES}
    return {
        **task.columns,
        "method": method.label,
        "block": task.key.block,
        "first_replicate": task.first,
        "replicates": task.replicates,
        "status": "ok" if frame is not None else "error",
        "message": message,
        "seed_key": str(task.key),
        **counted,
        **_versions(),
        "seconds": seconds,
    }


def _collect(parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
    """Return the tables of a study from its parts, in the order of the tasks."""
    runs = pd.DataFrame([run for part in parts for run in _runs(part)])
    timing = runs[[*parts[0].schema.names[: -len(_OWN)], "method", "block", "replicates", "seconds"]]
    runs = runs.drop(columns="seconds")
    metrics = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
    raised = _rows_of_raised(runs, metrics)
    if len(raised):
        metrics = pa.concat_tables([metrics, pa.Table.from_pandas(raised, schema=metrics.schema, preserve_index=False)])
    summary = summarise(metrics.to_pandas(strings_to_categorical=True))
    tables = {"runs": runs, "summary": summary, "rates": fit_rates(summary), "timing": timing}
    arrow = {name: pa.Table.from_pandas(table, preserve_index=False) for name, table in tables.items()}
    return {"metrics": metrics} | arrow


def _rows_of_raised(runs: pd.DataFrame, metrics: pa.Table) -> pd.DataFrame:
    """Return rows of metrics for methods that raised: each replicate is an error in every metric of the method."""
    raised = runs[runs["status"] == "error"]
    names = metrics.select(["method", "metric"]).group_by(["method", "metric"], use_threads=False).aggregate([])
    known: dict[str, list[str]] = {}
    for method, metric in zip(*(column.to_pylist() for column in names.columns), strict=True):
        known.setdefault(method, []).append(metric)
    columns = metrics.schema.names
    frames = [
        pd.DataFrame(
            {
                **{name: run[name] for name in columns if name in run and name not in ("replicate", "status")},
                "replicate": np.arange(run["first_replicate"], run["first_replicate"] + run["replicates"]),
                "status": "error",
                "metric": metric,
                "value": np.nan,
                "exact": np.nan,
            }
        )[columns]
        for run in raised.to_dict("records")
        # A method that raised everywhere has told no metric; every method has this one.
        for metric in known.get(run["method"], ["tv_preferred"])
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _schema(task: Task) -> pa.Schema:
    """Return the columns of metrics with their types, which do not depend on what a task found."""
    types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    shared = {name: types[type(value)] for name, value in task.columns.items()}
    return pa.schema(shared | {name: types[kind] for name, kind in _OWN.items()})


def _runs(part: pa.Table) -> list[dict[str, Any]]:
    """Return the runs in a part's metadata."""
    return list(json.loads(part.schema.metadata[_RUNS]))


def _failures(part: pa.Table) -> list[str]:
    """Return one line for each method that raised in a part."""
    return [
        f"{run['method']} in {run['world']} at n = {run['n']}, seed key {run['seed_key']}: {run['message']}"
        for run in _runs(part)
        if run["status"] == "error"
    ]


def _described(error: Exception) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@lru_cache(maxsize=64)
def _world(settings: str) -> World:
    """Build a world once in each process."""
    return build_world(json.loads(settings))


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    packages = ("relratio", "numpy", "scipy")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a clone that is run in place, without being installed
            found[name] = "not installed"
    return found
