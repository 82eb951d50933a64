"""Two sets of results side by side: settings, runs, metrics and values that differ."""

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sim.commands.layout import number
from sim.commands.results import Results, find_results
from sim.engine.run_ids import run_id, swept_of_run
from sim.statistics.accumulate import STATUSES
from theory.checks import FloatArray

__all__ = ["Comparison", "MeanDifference", "ValueDifference", "compare"]

_SHOWN = 5
_ROW = ["method", "metric", "replicate"]


@dataclass(frozen=True)
class ValueDifference:
    """How the values of a metric, or of a column of an exact table, differ between equal seeds.

    Attributes
    ----------
    name : str
        The metric or column.
    values, differing : int
        Values that are in both, and how many of them are not equal; NaN equals NaN.
    absolute, relative : float
        Largest difference, and largest difference over the larger magnitude; inf where only one value is a finite
        number, or where text differs.
    where : str
        Where the largest absolute difference is.
    """

    name: str
    values: int
    differing: int
    absolute: float
    relative: float
    where: str


@dataclass(frozen=True)
class MeanDifference:
    """How a mean differs between independent runs.

    Attributes
    ----------
    where : str
        Cell, method and metric.
    first, second : float
        The two means.
    standard_errors : float
        Their difference over its standard error, ``(second - first) / (e_1^2 + e_2^2)^(1/2)``.
    """

    where: str
    first: float
    second: float
    standard_errors: float


@dataclass(frozen=True)
class Comparison:
    """What differs between two results of one study.

    Attributes
    ----------
    study : str
        Name of the study.
    settings : tuple of str
        Settings that differ, as ``place: first -> second``.
    only_first, only_second : tuple of str
        Runs and metrics that only one has.
    outcomes : tuple of str
        Runs that ended differently, as ``run: first -> second``.
    values : tuple of ValueDifference
        Metrics whose values differ; empty between different seeds, whose values are meant to.
    means : tuple of MeanDifference
        Between different seeds, all means of both, the largest difference in standard errors first.
    """

    study: str
    settings: tuple[str, ...]
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    values: tuple[ValueDifference, ...] = ()
    means: tuple[MeanDifference, ...] = ()

    @property
    def equal(self) -> bool:
        """Return whether settings, runs, metrics and values are the same."""
        return not (self.settings or self.only_first or self.only_second or self.outcomes or self.values or self.means)

    def text(self) -> str:
        """Return the comparison for a reader."""
        if self.equal:
            return f"{self.study}: equal"
        sections = {
            "settings that differ": self.settings,
            "only in the first": self.only_first,
            "only in the second": self.only_second,
            "runs that ended differently": self.outcomes,
            "values that differ": [
                f"{d.name}: {d.differing:,} of {d.values:,}, by at most {number(d.absolute)} (relatively "
                f"{number(d.relative)}), at {d.where}"
                for d in self.values
            ],
        }
        lines = [f"{self.study}: different"]
        for title, entries in sections.items():
            if entries:
                lines += [f"  {title}: {len(entries)}", *_cut(entries)]
        if self.means:
            beyond = sum(abs(mean.standard_errors) > 4 for mean in self.means)
            lines.append(
                f"  different seeds, so {len(self.means)} means are compared: {beyond} differ by more than 4 standard "
                "errors; the largest differences:"
            )
            lines += [
                f"    {m.where}: {number(m.first)} -> {number(m.second)}, {m.standard_errors:+.1f} standard errors"
                for m in self.means[:_SHOWN]
            ]
        return "\n".join(lines)


def compare(first: str | Path, second: str | Path) -> tuple[Comparison, ...]:
    """Compare two folders of results.

    Parameters
    ----------
    first, second : str or Path
        Folders of one study each, or of several studies each.

    Returns
    -------
    tuple of Comparison
        One for each study that either folder has. How long runs took is left out.

    Raises
    ------
    FileNotFoundError
        If a folder holds no results, or a study's tables are not collected yet.
    """
    sides = [{results.study: results for results in find_results(folder)} for folder in (first, second)]
    if all(len(side) == 1 for side in sides):  # two folders of one study each may have different names
        return (_compare_study(*(next(iter(side.values())) for side in sides)),)
    return tuple(
        _compare_study(sides[0][name], sides[1][name])
        if all(name in side for side in sides)
        else Comparison(
            name, (), ("the study",) if name in sides[0] else (), ("the study",) if name in sides[1] else ()
        )
        for name in sides[0] | sides[1]
    )


def _cut(entries: Sequence[str]) -> list[str]:
    """Return the first entries, indented, and how many more there are."""
    more = len(entries) - _SHOWN
    return [f"    {entry}" for entry in entries[:_SHOWN]] + ([f"    and {more} more"] if more > 0 else [])


def _compare_study(first: Results, second: Results) -> Comparison:
    """Compare two results of one study."""
    old, new = _flat(first.settings), _flat(second.settings)
    settings = tuple(
        f"{place}: {old.get(place, 'nothing')} -> {new.get(place, 'nothing')}"
        for place in old | new
        if old.get(place, "nothing") != new.get(place, "nothing")
    )
    kinds = {results.settings["kind"] for results in (first, second)}
    if kinds == {"exact"}:
        return Comparison(
            first.study, settings, values=tuple(_compare_tables(first.table("table"), second.table("table")))
        )
    if "exact" in kinds:
        return Comparison(first.study, settings)
    runs = [{run_id(run): run for run in results.table("runs").to_dict("records")} for results in (first, second)]
    summaries = [
        {_series(row): row for row in results.table("summary").to_dict("records")} for results in (first, second)
    ]
    only = [tuple(name for kind in (runs, summaries) for name in kind[i] if name not in kind[1 - i]) for i in range(2)]
    independent = first.settings["seed"] != second.settings["seed"]
    # Between different seeds, counts of failed replicates are random; how a run as a whole ended is not.
    outcome = _ending if independent else _outcome
    outcomes = tuple(
        f"{name}: {outcome(run)} -> {outcome(runs[1][name])}"
        for name, run in runs[0].items()
        if name in runs[1] and outcome(run) != outcome(runs[1][name])
    )
    if independent:
        means = tuple(_mean_differences(*summaries))
        return Comparison(first.study, settings, *only, outcomes, means=means)
    cells = [{_cell(run): run for run in side.values()} for side in runs]
    shared = [run for name, run in cells[0].items() if name in cells[1]]
    return Comparison(first.study, settings, *only, outcomes, values=tuple(_value_differences(first, second, shared)))


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    """Return the leaves of nested settings by their place; lists of numbers or strings are leaves."""
    if isinstance(value, dict):
        items = {f"{place}.{key}".lstrip("."): entry for key, entry in value.items()}
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        items = {f"{place}[{i}]": entry for i, entry in enumerate(value)}
    else:
        return {place: value}
    return {where: leaf for name, entry in items.items() for where, leaf in _flat(entry, name).items()}


def _cell(run: dict[str, Any]) -> str:
    """Return the readable name of a row's cell."""
    return "/".join([str(run["world"]), *(f"{name}={run[name]}" for name in ("n", *swept_of_run(run)))])


def _series(row: dict[str, Any]) -> str:
    """Return the readable name of a row of a summary."""
    return f"{_cell(row)}:{row['method']}, {row['metric']}"


def _ending(run: dict[str, Any]) -> str:
    """Return how a run as a whole ended, in words."""
    return f"{run['status']} {run['message']}".rstrip()


def _outcome(run: dict[str, Any]) -> str:
    """Return how a run and its replicates ended, in words."""
    counts = ", ".join(f"{run[name]} {name}" for name in STATUSES if run[name])
    return f"{_ending(run)} ({counts})"


def _mean_differences(first: dict[str, Any], second: dict[str, Any]) -> list[MeanDifference]:
    """Return the differences of all means that both have with standard errors, the largest first."""
    found = []
    for name, row in first.items():
        other = second.get(name, row)
        error = np.hypot(row["standard_error"], other["standard_error"])
        if name in second and error > 0:
            found.append(MeanDifference(name, row["mean"], other["mean"], (other["mean"] - row["mean"]) / error))
    return sorted(found, key=lambda difference: -abs(difference.standard_errors))


def _value_differences(first: Results, second: Results, cells: Sequence[dict[str, Any]]) -> list[ValueDifference]:
    """Compare metrics cell by cell, as all of them might not fit into memory."""
    found: dict[str, list[ValueDifference]] = {}
    paths = [results.folder / "metrics.parquet" for results in (first, second)]
    if filecmp.cmp(*paths, shallow=False):
        return []
    for run in cells:
        where = [(name, "==", run[name]) for name in ("world", "n", *swept_of_run(run))]
        columns = [*_ROW, "status", "value", "exact"]
        tables = [pq.read_table(path, columns=columns, filters=where).to_pandas() for path in paths]
        joined = tables[0].merge(tables[1], on=_ROW, suffixes=("_first", "_second"))
        for metric, rows in joined.groupby("metric", sort=False):
            for name in ("value", "exact", "status"):
                label = str(metric) if name == "value" else f"{name} of {metric}"
                places = rows["method"] + ", replicate " + rows["replicate"].astype(str)
                difference = _difference(
                    label, rows[f"{name}_first"], rows[f"{name}_second"], _cell(run) + ":" + places
                )
                found.setdefault(label, []).append(difference)
    merged = [_merged(differences) for differences in found.values()]
    return [difference for difference in merged if difference.differing]


def _compare_tables(first: pd.DataFrame, second: pd.DataFrame) -> list[ValueDifference]:
    """Compare exact tables, column by column and row by row."""
    if list(first.columns) != list(second.columns) or len(first) != len(second):
        shapes = [f"{len(table)} rows of {', '.join(table.columns)}" for table in (first, second)]
        return [ValueDifference("shape", 1, 1, np.inf, np.inf, " -> ".join(shapes))]
    rows = "row " + first.index.to_series().astype(str)
    differences = [_difference(str(name), first[name], second[name], rows) for name in first.columns]
    return [difference for difference in differences if difference.differing]


def _difference(name: str, first: pd.Series, second: pd.Series, places: pd.Series) -> ValueDifference:
    """Compare two columns of equal length."""
    if pd.api.types.is_numeric_dtype(first) and pd.api.types.is_numeric_dtype(second):
        a, b = (column.to_numpy(dtype=np.float64, na_value=np.nan) for column in (first, second))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            absolute = _filled(np.abs(a - b), same)
            relative = _filled(np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)), same)
    else:
        same = (first.astype(str).to_numpy() == second.astype(str).to_numpy()).astype(bool)
        absolute = relative = np.where(same, 0.0, np.inf)
    worst = int(absolute.argmax()) if len(absolute) else 0
    return ValueDifference(
        name,
        len(same),
        int((~same).sum()),
        float(absolute.max(initial=0.0)),
        float(relative.max(initial=0.0)),
        str(places.iloc[worst]) if len(places) else "",
    )


def _filled(difference: FloatArray, same: NDArray[np.bool_]) -> FloatArray:
    """Return differences that are 0 between equal entries, and inf where only one of two is a finite number."""
    return np.where(same, 0.0, np.where(np.isfinite(difference), difference, np.inf))


def _merged(parts: Sequence[ValueDifference]) -> ValueDifference:
    """Return the difference of a metric over several cells."""
    worst = max(parts, key=lambda part: part.absolute)
    return ValueDifference(
        worst.name,
        sum(part.values for part in parts),
        sum(part.differing for part in parts),
        worst.absolute,
        max(part.relative for part in parts),
        worst.where,
    )
