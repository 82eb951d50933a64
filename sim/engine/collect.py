"""From parts to tables: parts are read a few at a time, so that memory does not grow with the replicates."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from sim.claims.verdicts import judge
from sim.engine.store import Store
from sim.engine.study import StudyConfig
from sim.engine.tasks import SavedPart, Task, metrics_of, metrics_schema
from sim.statistics.accumulate import CellAccumulator, keyed_bootstrap, summary_of
from sim.statistics.summary import fit_rates
from theory.checks import FloatArray

__all__ = ["collect"]

_AT_ONCE = 100_000  # rows in memory, and in a row group of the metrics, or those of one task where these are more
_UNSAVED = ["metrics", "seconds"]  # of a run: the names of its metrics, and its time, which has a table of its own


def collect(study: StudyConfig, tasks: Sequence[Task], parts: Mapping[int, SavedPart], store: Store) -> None:
    """Write the tables of a study: metrics, runs, timing, summary, rates and verdicts.

    Parameters
    ----------
    study : StudyConfig
        The study, for its claims.
    tasks : sequence of Task
        All its tasks, in order.
    parts : mapping
        The part of each task, by index.
    store : Store
        Where the tables go; the caller declares them complete.
    """
    runs = pd.DataFrame([run for task in tasks for run in parts[task.index].runs])
    known = _metrics_of_methods(runs, tasks[0].kind.metric)
    cells = [list(cell) for _, cell in itertools.groupby(tasks, lambda task: task.columns)]
    rows_of_summary: list[dict[str, Any]] = []
    bootstrap: dict[tuple[Any, ...], FloatArray] = {}
    with (
        store.write_table("metrics", metrics_schema(tasks[0])) as writer,
        tqdm(total=len(tasks), desc=f"{study.name}: tables", unit="part", disable=None) as bar,
    ):
        for cell in cells:
            statistics = CellAccumulator(cell[0].key.stream("bootstrap"))
            for rows in _joined(_rows(task, parts[task.index], known) for task in cell):
                statistics.add(rows)
                writer.write_table(_complete(cell[0], rows))
            bar.update(len(cell))
            rows_of_summary += [cell[0].columns | row for row in statistics.rows()]
            bootstrap |= keyed_bootstrap(cell[0].columns, statistics.bootstrap_means())
    summary = summary_of(rows_of_summary)
    shared = [*cells[0][0].columns, "method", "block", "replicates"]
    tables = {
        "runs": runs.drop(columns=_UNSAVED),
        "timing": runs[[*shared, "seconds"]],
        "summary": summary,
        "rates": fit_rates(summary, bootstrap),
        "verdicts": judge(study.claims, summary, bootstrap),
    }
    for name, table in tables.items():
        store.save_table(name, pa.Table.from_pandas(table, preserve_index=False))


def _joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables one below the other, as many at once as make up the rows of a row group."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        if rows >= _AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _complete(task: Task, rows: pa.Table) -> pa.Table:
    """Return rows of a cell with the columns that all of them share."""
    schema = metrics_schema(task)
    shared = [pa.repeat(pa.scalar(value, schema.field(name).type), len(rows)) for name, value in task.columns.items()]
    return pa.Table.from_arrays([*shared, *rows.columns], schema=schema)


def _metrics_of_methods(runs: pd.DataFrame, fallback: str) -> dict[str, list[str]]:
    """Return the metrics of each method, in the order of appearance; a method that failed everywhere told none."""
    known: dict[str, dict[str, None]] = {}
    for method, names in zip(runs["method"], runs["metrics"], strict=True):
        known.setdefault(method, {}).update(dict.fromkeys(names))
    return {method: list(names) or [fallback] for method, names in known.items()}


def _rows(task: Task, part: SavedPart, known: Mapping[str, Sequence[str]]) -> pa.Table:
    """Return the metrics of a part; each replicate of a method that failed is a failure in all its metrics."""
    saved = metrics_of(part.path)
    frames = [
        pd.DataFrame(
            {
                "method": run["method"],
                "replicate": np.arange(task.first, task.first + task.replicates),
                "status": run["status"],
                "metric": metric,
                "value": np.nan,
                "exact": np.nan,
            }
        )
        for run in part.runs
        if run["status"] != "ok"
        for metric in known[run["method"]]
    ]
    failed = [pa.Table.from_pandas(frame, schema=saved.schema, preserve_index=False) for frame in frames]
    return pa.concat_tables([saved, *failed])
