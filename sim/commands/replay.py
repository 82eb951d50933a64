"""Running one run again: one block of one method in one cell, in this process, beside what was saved of it."""

import difflib
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from sim.commands.layout import duration
from sim.commands.results import Results, find_results
from sim.engine.run_ids import run_id
from sim.engine.study import MethodConfig
from sim.engine.tasks import Task, draw_data, estimate_method, metrics_of, runs_of
from theory.checks import check_choice

__all__ = ["Replay", "replay_run"]


@dataclass(frozen=True)
class Replay:
    """A run that was run again.

    Attributes
    ----------
    run, seed_key : str
        Readable name, see `sim.engine.run_ids.run_id`, and the key of its random streams.
    saved : dict or None
        The saved row of the table ``runs``, None where the run is not saved.
    values : int
        Number of values of metrics that the run found now.
    error : str
        The traceback of what it raised now; blank where it raised nothing.
    reproduced : bool or None
        Whether it ended as saved: with values that are equal bit for bit, or with the same error. None where nothing
        is saved, or a time limit that a replay does not have stopped the saved one.
    seconds : float
        How long it took now.
    """

    run: str
    seed_key: str
    saved: dict[str, Any] | None
    values: int
    error: str
    reproduced: bool | None
    seconds: float

    def text(self) -> str:
        """Return what happened, for a reader; the traceback comes first."""
        ended = "raised the error above" if self.error else f"{self.values:,} values"
        saved = "nothing, it has not run" if self.saved is None else self.saved["status"]
        if self.saved is not None and self.saved["message"]:
            saved += f", {self.saved['message']}"
        verdict = {True: "reproduced bit for bit", False: "NOT reproduced"}.get(
            self.reproduced, "nothing to compare with"
        )
        if self.reproduced and self.error:
            verdict = "the saved error is reproduced"
        lines = [f"run {self.run}, seed key {self.seed_key}", f"saved: {saved}"]
        lines += [f"now: {ended}, after {duration(self.seconds)}", verdict]
        return self.error + "\n".join(lines)


def replay_run(run: str, output: str | Path) -> Replay:
    """Run one block of one method in one cell again, with the settings and seeds of a result folder.

    Parameters
    ----------
    run : str
        Readable name, see `sim.engine.run_ids.run_id`, as error messages and the command ``status`` show it.
    output : str or Path
        Folder of results that holds the study; nothing in it is changed.

    Returns
    -------
    Replay
        What the run found or raised, beside what was saved.

    Raises
    ------
    ValueError
        If there is no such study or run; the nearest is named.
    FileNotFoundError
        If the folder holds no results.

    Notes
    -----
    No time limit holds, so a run that hung hangs again: Ctrl-C shows where.

    Examples
    --------
    >>> import tempfile
    >>> from sim.engine.runner import run_study
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run_study("class_weighting", folder, profile="smoke")
    ...     again = replay_run("class_weighting/three_responses/n=10000/alpha=0.2/block=0:pooled", folder)
    >>> again.saved["status"], again.reproduced
    ('ok', True)
    """
    studies = {results.study: results for results in find_results(output)}
    results = studies[check_choice("study of a run", run.partition("/")[0], studies)]
    task, method = _find(run, results)
    started, frame, error = time.perf_counter(), None, None
    try:
        with threadpool_limits(limits=1):  # as in the workers: sums depend on the number of BLAS threads
            frame = estimate_method(task, method, *draw_data(task)).to_pandas()
    except Exception as raised:  # noqa: BLE001 -- shown with its traceback, and compared with what was saved
        error = raised
    seconds = time.perf_counter() - started
    saved, rows = _saved(results, task, method)
    return Replay(
        run,
        str(task.key),
        saved,
        0 if frame is None else len(frame),
        "" if error is None else "".join(traceback.format_exception(error)),
        _reproduced(saved, rows, frame, error),
        seconds,
    )


def _find(run: str, results: Results) -> tuple[Task, MethodConfig]:
    """Return task and method of a run, or raise naming the nearest."""
    runs = {
        run_id(task.columns | {"method": method.label, "block": task.key.block}): (task, method)
        for task in results.tasks()
        for method in task.methods
    }
    if run not in runs:
        nearest = difflib.get_close_matches(run, runs, n=1, cutoff=0.4)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        raise ValueError(
            f"a run must be named as study/world/n=N/block=B:method and be in {results.folder}, got {run!r}{hint}"
        )
    return runs[run]


def _saved(results: Results, task: Task, method: MethodConfig) -> tuple[dict[str, Any] | None, pd.DataFrame | None]:
    """Return the saved row of runs and the saved metrics of a run."""
    part = results.parts().get(task.index)
    if part is None:
        return None, None
    runs = {run["method"]: run for run in runs_of(part)}
    return runs[method.label], metrics_of(part).filter(pc.field("method") == method.label).to_pandas()


def _reproduced(
    saved: dict[str, Any] | None, rows: pd.DataFrame | None, frame: pd.DataFrame | None, error: Exception | None
) -> bool | None:
    """Return whether a run ended as it was saved."""
    if saved is None or rows is None or saved["status"] == "timeout":
        return None
    if error is not None or frame is None:
        return saved["status"] == "error" and saved["message"] == " ".join(f"{type(error).__name__}: {error}".split())
    if saved["status"] != "ok" or len(rows) != len(frame):
        return False
    return all(_bits(rows[name]) == _bits(frame[name]) for name in ("replicate", "status", "metric", "value", "exact"))


def _bits(column: pd.Series) -> bytes | list[object]:
    """Return what tells columns apart: the bits of numbers, text as it is."""
    return column.to_numpy().tobytes() if pd.api.types.is_numeric_dtype(column) else column.tolist()
