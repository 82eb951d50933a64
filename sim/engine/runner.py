"""Running studies: only what is missing is computed, and the tables are equal however the work was done."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from sim.engine.collect import collect
from sim.engine.execution import check_execution, execute
from sim.engine.kinds import KINDS, sources_checksum
from sim.engine.store import Store, check_settings, open_store, saved_parts
from sim.engine.study import StudyConfig, fingerprint, load_study
from sim.engine.study_checks import check_study
from sim.engine.tasks import SavedPart, Task, failures_of, run_task, runs_of, study_tasks
from sim.exact_tables import EXACT_TABLES
from sim.preferences.arguments import check_integer

__all__ = ["StudyResult", "Task", "collect_study", "run_study", "run_task", "saved_tasks", "study_tasks"]

_SHOWN_TASKS = 10


@dataclass(frozen=True)
class StudyResult:
    """What became of a study, or of one of its shards.

    Attributes
    ----------
    study : str
        Name.
    folder : Path
        Where its tables are.
    tasks, computed : int
        Number of tasks, and how many of them this call computed; 0 when all were there.
    errors : tuple of str
        One line for each method that raised or timed out in a task; such tasks are tried again by the next call.
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
    config: StudyConfig | str | Path,
    output: str | Path,
    *,
    profile: str = "quick",
    jobs: int = 1,
    backend: str = "processes",
    scheduler: str | None = None,
    timeout: float | None = None,
    shard: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    checked: bool = False,
) -> StudyResult:
    """Run a study, or what is missing of it, and write its tables.

    The results depend neither on `jobs`, `backend` and `shard`, nor on how often a run was cut short.

    Parameters
    ----------
    config : StudyConfig, str or Path
        A study, or what `sim.engine.study.load_study` accepts.
    output : str or Path
        Folder of results; the study gets a folder of its name in it.
    profile : {"smoke", "quick", "paper"}
        Size.
    jobs : int
        Processes of this machine, at least 1.
    backend : {"processes", "dask"}
        Where tasks run.
    scheduler : str, optional
        Address of the Dask scheduler, such as "tcp://host:8786", for the backend dask.
    timeout : float, optional
        Seconds, greater than 0, that one method may take for one task; what takes longer is recorded as "timeout".
        Default no limit.
    shard : pair of int, optional
        ``(i, N)`` with 0 <= i < N: compute the tasks i, i + N, i + 2 N, ... alone, without tables. Shards may run at
        the same time, on any machines that share the folder; `collect_study` makes the tables.
    progress : callable, optional
        Called after each task with the numbers of tasks that are done and of all tasks; default a bar on the terminal.
    checked : bool
        Whether `sim.engine.study_checks.check_study` has passed, as where several studies are checked before the first
        one runs. A study whose folder is there was checked before that was made.

    Returns
    -------
    StudyResult
        Where the tables are, and which tasks failed.

    Raises
    ------
    ValueError, ImportError
        If the study or an argument is not valid, or the folder holds results of other settings or versions.
    OSError
        If the folder cannot be written, or another process writes to it, or the Dask scheduler is out of reach.
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
    check_execution(jobs, backend, scheduler, timeout)
    _check_shard(shard)
    folder, settings = Path(output) / study.name, study.settings(profile)
    if not (checked or check_settings(folder, settings)):
        check_study(study, profile)
    tasks = study_tasks(study, profile)
    if shard is not None:
        tasks = tasks[shard[0] :: shard[1]]
    if study.kind == "exact":  # no tasks: a table, which with shards is made when they are collected
        return _run_exact(study, folder, profile) if shard is None else StudyResult(study.name, folder, 0, 0)
    with open_store(folder, settings, shard) as store:
        parts = _found(store, None if shard is None else {task.index for task in tasks})
        missing = [task for task in tasks if task.index not in parts or failures_of(parts[task.index])]
        with _told(store, study, profile, len(tasks)):
            if missing:
                store.discard_tables()
                results = execute(missing, jobs=jobs, backend=backend, scheduler=scheduler, timeout=timeout)
                parts |= _save(results, store, f"{study.name} ({profile})", len(missing), len(tasks), progress)
            if shard is None:
                _collect(study, tasks, parts, store)
    errors = tuple(line for task in tasks for line in failures_of(parts[task.index]))
    return StudyResult(study.name, folder, len(tasks), len(missing), errors)


def saved_tasks(study: StudyConfig, output: str | Path, profile: str = "quick") -> tuple[int, int]:
    """Return how many tasks of a study are on disk, unchecked, and how many it has; an exact table counts as one.

    Examples
    --------
    >>> saved_tasks(load_study("class_weighting"), "no/such/folder", "smoke")
    (0, 5)
    """
    folder = Path(output) / study.name
    if study.kind == "exact":
        return int((folder / "table.parquet").exists()), 1
    return saved_parts(folder), len(study_tasks(study, profile))


def collect_study(config: StudyConfig | str | Path, output: str | Path, profile: str = "quick") -> StudyResult:
    """Make the tables of a study whose tasks were computed by shards; an exact study is computed here.

    Parameters
    ----------
    config, output, profile
        As of `run_study`.

    Returns
    -------
    StudyResult
        As of `run_study`; no task is computed.

    Raises
    ------
    ValueError
        If tasks are missing, which are named, or the folder holds results of other settings.
    OSError
        If the folder cannot be written, or another process, such as a shard, writes to it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in (0, 1):
    ...         shard = run_study("class_weighting", folder, profile="smoke", shard=(i, 2))
    ...     len(collect_study("class_weighting", folder, "smoke").table("summary").query("metric == 'tv_target'"))
    10
    """
    study = config if isinstance(config, StudyConfig) else load_study(config)
    tasks, folder = study_tasks(study, profile), Path(output) / study.name
    if study.kind == "exact":
        return _run_exact(study, folder, profile)
    if not folder.is_dir():
        raise FileNotFoundError(f"tables must be made of tasks that shards have computed, got none in {folder}")
    with open_store(folder, study.settings(profile)) as store:
        parts = _found(store)
        missing = [task for task in tasks if task.index not in parts]
        if missing:
            more = f" and {len(missing) - _SHOWN_TASKS} more" if len(missing) > _SHOWN_TASKS else ""
            shown = ", ".join(map(str, missing[:_SHOWN_TASKS]))
            raise ValueError(
                f"tables must be made of all {len(tasks)} tasks of {study.name} ({profile}), got none for "
                f"{len(missing)} of them: {shown}{more}"
            )
        with _told(store, study, profile, len(tasks)):
            _collect(study, tasks, parts, store)
    errors = tuple(line for task in tasks for line in failures_of(parts[task.index]))
    return StudyResult(study.name, folder, len(tasks), 0, errors)


def _check_shard(shard: tuple[int, int] | None) -> None:
    """Raise unless a shard is one of a number of shards."""
    if shard is not None:
        number, total = shard
        check_integer("number of shards", total, 1)
        if check_integer("shard", number, 0) >= total:
            raise ValueError(f"shard must be one of 0, ..., {total - 1}, got {number}")


def _run_exact(study: StudyConfig, folder: Path, profile: str) -> StudyResult:
    """Compute an exact table, and save it unless it is there as it is."""
    settings = study.settings(profile)
    inputs = fingerprint(KINDS["monte_carlo"].versions())  # of NumPy, SciPy and the code
    if check_settings(folder, settings):
        with open_store(folder, settings) as store:
            if store.tables_are_complete(inputs):
                return StudyResult(study.name, folder, 1, 0)
    # Before the folder: a parameter that the table refuses must not leave one that refuses its correction.
    table = pa.Table.from_pandas(EXACT_TABLES[study.table](**study.parameters), preserve_index=False)
    with open_store(folder, settings) as store:
        store.discard_tables()
        store.save_table("table", table)
        store.finish_tables(inputs)
    return StudyResult(study.name, folder, 1, 1)


def _found(store: Store, wanted: Collection[int] | None = None) -> dict[int, SavedPart]:
    """Return the parts on disk that are sound, see `sim.engine.store.Store.parts`."""
    return {index: SavedPart(path, runs_of(path)) for index, path in store.parts(wanted).items()}


def _save(
    results: Generator[tuple[int, bytes], None, None],
    store: Store,
    title: str,
    missing: int,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> dict[int, SavedPart]:
    """Save each result as soon as it is there, tell so, and return the parts."""
    parts: dict[int, SavedPart] = {}
    silent = True if progress else None  # None: silent where the output is no terminal
    with (
        tqdm(total=total, initial=total - missing, desc=title, unit="task", disable=silent) as bar,
        closing(results),
    ):
        for index, content in results:
            parts[index] = SavedPart(store.save_part(index, content), runs_of(content))
            bar.update()
            if progress:
                progress(total - missing + len(parts), total)
    return parts


def _collect(study: StudyConfig, tasks: Sequence[Task], parts: dict[int, SavedPart], store: Store) -> None:
    """Make the tables, unless they are there and made of the same claims by the same code."""
    judges = sources_checksum("sim/claims", "sim/statistics")
    inputs = fingerprint({"claims": [asdict(claim) for claim in study.claims], "judges": judges})
    if not store.tables_are_complete(inputs):
        store.discard_tables()
        collect(study, tasks, parts, store)
        store.finish_tables(inputs)


@contextmanager
def _told(store: Store, study: StudyConfig, profile: str, total: int) -> Iterator[None]:
    """Tell a user whose run is cut short what is saved and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as stop:
        saved = (
            f"{store.saved_parts()} of {total} tasks of {study.name} ({profile}) are saved in {store.folder}; "
            "the same command goes on from there"
        )
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(saved) from stop
        raise OSError(f"{stop}; {saved}") from stop
