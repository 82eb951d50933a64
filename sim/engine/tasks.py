"""Tasks: the blocks of replicates that a study is cut into, and what a worker makes of one."""

import itertools
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import ThreadpoolController

from sim.engine.kinds import KINDS, Kind
from sim.engine.limits import OutOfTime, time_limit
from sim.engine.run_ids import run_id
from sim.engine.seeds import SeedKey
from sim.engine.study import Cell, MethodConfig, StudyConfig, canonical_json, load_study
from sim.outcomes import ROWS
from sim.statuses import STATUSES

__all__ = [
    "SavedPart",
    "Task",
    "failures_of",
    "lost_task",
    "metrics_of",
    "metrics_schema",
    "run_task",
    "runs_of",
    "study_tasks",
    "world_of",
]

_T = TypeVar("_T")
_COMPRESSED_ROWS = 1000  # from here on a part is compressed: to fewer it adds time, and saves little space
_RUNS = b"relratio.runs"  # where a part's metadata keep what became of each method


@dataclass(frozen=True)
class Task:
    """A block of replicates of all methods in one cell, on the same data.

    Attributes
    ----------
    index : int
        Place in the study, which orders the results.
    study : str
        Name of the study.
    kind : Kind
        Who builds the world and estimates.
    cell : Cell
        World, sample size and methods.
    key : SeedKey
        Key of the random streams.
    first, replicates : int
        First replicate and number of replicates.
    """

    index: int
    study: str
    kind: Kind
    cell: Cell
    key: SeedKey
    first: int
    replicates: int

    @property
    def methods(self) -> tuple[MethodConfig, ...]:
        """Return what is estimated."""
        return self.cell.methods

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns that all rows of the task share."""
        return {"study": self.study, "world": self.cell.world["name"], "n": self.cell.n} | self.cell.vary

    def __str__(self) -> str:
        """Return the task as messages name it."""
        place = ", ".join(f"{name} = {value}" for name, value in ({"n": self.cell.n} | self.cell.vary).items())
        return f"{self.index} ({self.cell.world['name']}, {place}, block {self.key.block})"


def study_tasks(config: StudyConfig | str | Path, profile: str) -> list[Task]:
    """Return the tasks of a study in the order of its results; an exact study has none.

    Parameters
    ----------
    config : StudyConfig, str or Path
        A study, or what `sim.engine.study.load_study` accepts.
    profile : {"smoke", "quick", "paper"}
        Size.

    Returns
    -------
    list of Task
        Cells in order, each cut into blocks of the kind's size.

    Raises
    ------
    ValueError
        If the study is not valid, or has no such profile.

    Examples
    --------
    >>> [(task.cell.world["alpha"], task.replicates) for task in study_tasks("class_weighting", "smoke")][:2]
    [(0.05, 50), (0.2, 50)]
    """
    study = config if isinstance(config, StudyConfig) else load_study(config)
    if study.kind == "exact":
        return []
    kind, replicates = KINDS[study.kind], study.profile(profile).replicates
    blocks = list(enumerate(range(0, replicates, kind.block)))
    return [
        Task(
            index,
            study.name,
            kind,
            cell,
            SeedKey.of(study.seed, cell.world, cell.n, block),
            first,
            min(kind.block, replicates - first),
        )
        for index, (cell, (block, first)) in enumerate(itertools.product(study.cells(profile), blocks))
    ]


def run_task(task: Task, timeout: float | None = None) -> tuple[int, bytes]:
    """Run a task: the same data for all methods; what raises or takes too long is recorded, not lost.

    Parameters
    ----------
    task : Task
        What to do.
    timeout : float, optional
        Seconds that drawing the data, and each method, may take; see `sim.engine.limits.time_limit`.

    Returns
    -------
    int
        The task's index.
    bytes
        An Arrow file of metrics, with the runs in its metadata; see `metrics_of` and `runs_of`.

    Raises
    ------
    ImportError
        If this machine lacks a package that the kind needs.

    Examples
    --------
    >>> index, part = run_task(study_tasks("class_weighting", "smoke")[3])
    >>> index, metrics_of(part)["method"].unique().to_pylist()
    (3, ['balanced', 'pooled'])
    """
    task.kind.load()
    with _threadpools(task.kind).limit(
        limits=1
    ):  # processes are the parallelism; BLAS threads would fight over the same cores
        found, runs = _run_methods(task, timeout)
    return task.index, _part(found, runs)


def lost_task(task: Task, status: str, message: str) -> tuple[int, bytes]:
    """Return the part of a task whose worker did not live to tell: every method has the given status.

    Parameters
    ----------
    task : Task
        The task.
    status : {"error", "timeout"}
        What became of it.
    message : str
        Why.

    Returns
    -------
    int
        The task's index.
    bytes
        An Arrow file without rows, with the runs in its metadata.
    """
    runs = [_run_row(task, method, None, (status, message), 0.0) for method in task.methods]
    return task.index, _part([], runs)


class SavedPart(NamedTuple):
    """The file of a task, and what became of each of its methods."""

    path: Path
    runs: list[dict[str, Any]]


def metrics_of(part: Path | bytes) -> pa.Table:
    """Return the metrics of a part: those columns that are not the same in all rows of its task."""
    with _opened(part) as file:
        return file.read_all().replace_schema_metadata(None)


def runs_of(part: Path | bytes) -> list[dict[str, Any]]:
    """Return the runs in the metadata of a part."""
    with _opened(part) as file:
        return list(json.loads(file.schema.metadata[_RUNS]))


def _opened(part: Path | bytes) -> pa.RecordBatchFileReader:
    """Open a part."""
    return pa.ipc.open_file(part if isinstance(part, bytes) else part.read_bytes())


def failures_of(part: SavedPart) -> list[str]:
    """Return one line for each method that raised or timed out in a saved part."""
    return [
        f"{run_id(run)}, seed key {run['seed_key']}: {run['message']}" for run in part.runs if run["status"] != "ok"
    ]


def metrics_schema(task: Task) -> pa.Schema:
    """Return the columns of metrics with their types, which do not depend on what a task found."""
    types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    return pa.schema([*((name, types[type(value)]) for name, value in task.columns.items()), *ROWS])


def _part(found: list[pa.Table], runs: list[dict[str, Any]]) -> bytes:
    """Return metrics and runs as the bytes of an Arrow file: to Parquet a few rows are as dear as many."""
    metrics = pa.concat_tables(found or [ROWS.empty_table()]).combine_chunks()
    schema, sink = ROWS.with_metadata({_RUNS: json.dumps(runs)}), pa.BufferOutputStream()
    compression = "zstd" if len(metrics) >= _COMPRESSED_ROWS else None
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as file:
        file.write_table(metrics)
    return bytes(sink.getvalue())


def _run_methods(task: Task, timeout: float | None) -> tuple[list[pa.Table], list[dict[str, Any]]]:
    """Return the metrics of a task, and one run for each method."""
    found, runs = [], []
    drawn, no_data = _attempt(lambda: draw_data(task), timeout)
    for method in task.methods:
        started = time.perf_counter()
        metrics, failure = None, no_data
        if drawn is not None:
            metrics, failure = _attempt(lambda method=method: estimate_method(task, method, *drawn), timeout)
        if metrics is not None:
            found.append(metrics)
        runs.append(_run_row(task, method, metrics, failure, time.perf_counter() - started))
    return found, runs


def _attempt(step: Callable[[], _T], timeout: float | None) -> tuple[_T | None, tuple[str, str] | None]:
    """Return what a step returns, or status and message of its failure: told under its own name, never swallowed."""
    try:
        with time_limit(timeout):
            return step(), None
    except OutOfTime as stop:
        return None, ("timeout", str(stop))
    except Exception as error:  # noqa: BLE001 -- recorded, with the seed that repeats it
        return None, ("error", " ".join(f"{type(error).__name__}: {error}".split()))


def world_of(kind: Kind, cell: Cell) -> Any:
    """Return the world of a cell, built once in each process."""
    return _world(kind, canonical_json(cell.world))


def draw_data(task: Task) -> tuple[Any, Any]:
    """Return the world of a task and its data."""
    world = world_of(task.kind, task.cell)
    return world, world.sample(task.cell.n, task.replicates, task.key.stream("data"))


def estimate_method(task: Task, method: MethodConfig, world: Any, data: Any) -> pa.Table:
    """Return a method's metrics, under the study's numbers of replicates."""
    # A stream of its own: no method's randomness depends on which others run.
    rng = task.key.stream(f"method {method.label}")
    rows = task.kind.estimate(
        world,
        method.method,
        task.cell.n,
        task.replicates,
        rng,
        label=method.label,
        data=data,
        options=method.options,
    ).rows()
    place = ROWS.get_field_index("replicate")
    return rows.set_column(place, ROWS.field(place), pc.add(rows["replicate"], task.first))


def _run_row(
    task: Task, method: MethodConfig, metrics: pa.Table | None, failure: tuple[str, str] | None, seconds: float
) -> dict[str, Any]:
    """Return what became of a method in a task; a method that failed counts all its replicates as failed."""
    status, message = failure or ("ok", "")
    counted = dict.fromkeys(STATUSES, 0)
    names: list[str] = []
    if metrics is None:
        counted[status] = task.replicates
    else:
        names = metrics["metric"].unique().to_pylist()
        found = metrics["status"].filter(pc.equal(metrics["metric"], names[0])).value_counts()
        counted |= zip(*(part.to_pylist() for part in found.flatten()), strict=True)
    return {
        **task.columns,
        "method": method.label,
        "block": task.key.block,
        "first_replicate": task.first,
        "replicates": task.replicates,
        "status": status,
        "message": message,
        "seed_key": str(task.key),
        **counted,
        "python": platform.python_version(),
        **task.kind.versions(),
        "seconds": seconds,
        "metrics": names,
    }


@lru_cache
def _threadpools(kind: Kind) -> ThreadpoolController:
    """Return the pools of threads of a kind that is loaded; to look for them takes milliseconds."""
    return ThreadpoolController()


@lru_cache(maxsize=64)
def _world(kind: Kind, settings: str) -> Any:
    """Build a world from the text of its settings."""
    return kind.build(json.loads(settings))
