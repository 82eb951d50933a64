"""Reading result tables: the only input that figures have.

A table is called ``study/table``. Studies of `sim` and experiments of `lm` keep theirs as Parquet files in a folder of
results. The measurements of ``make bench`` are in the table ``benchmarks/published``, a CSV file of the repository; one
of the same name in the folder of results comes first.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from figures.sources import MEASUREMENTS, result_path

__all__ = ["EXPERIMENTS", "PUBLISHED", "check_columns", "only_series", "read_tables", "table_file", "table_path"]

EXPERIMENTS = ("alpha", "methods", "rates_by_prompt", "reference_error", "sample_size", "stability", "weighting")
"""Names that are experiments of `lm`, made by its command; all others are studies of `sim`."""

PUBLISHED = MEASUREMENTS.removesuffix(".csv")
"""Name of the table of measurements."""


def table_file(name: str) -> str:
    """Return the file name of a table in a folder of results.

    Examples
    --------
    >>> table_file("consistency/summary"), table_file("benchmarks/published")
    ('consistency/summary.parquet', 'benchmarks/published.csv')
    """
    return f"{name}.csv" if name == PUBLISHED else f"{name}.parquet"


def table_path(results: Path, name: str) -> Path:
    """Return the file of a table ``study/table``.

    Examples
    --------
    >>> table_path(Path("results"), "consistency/summary").as_posix()
    'results/consistency/summary.parquet'
    """
    return result_path(results, table_file(name))


def read_tables(
    results: Path, columns: Mapping[str, Sequence[str]], *, profile: str = "quick"
) -> dict[str, pd.DataFrame]:
    """Read tables and check that they have the columns that a figure needs.

    Parameters
    ----------
    results : Path
        Folder of results.
    columns : mapping of str to sequence of str
        Needed columns of each table ``study/table``.
    profile : str
        Profile that the command in a message names.

    Returns
    -------
    dict of str to DataFrame
        The tables by name.

    Raises
    ------
    ValueError
        If a table is missing, cannot be read, is empty, or lacks a column; the command that makes it is named.

    Examples
    --------
    >>> read_tables(Path("nowhere"), {"consistency/summary": ["n"]})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: nowhere must hold consistency/summary.parquet, got none; make it with: python -m sim run consistency ...
    """
    absent = [name for name in columns if not table_path(results, name).is_file()]
    if absent:
        files = ", ".join(table_file(name) for name in absent)
        raise ValueError(f"{results} must hold {files}, got none; {_remedy(results, absent, profile)}")
    return {name: _read(results, name, needed, profile) for name, needed in columns.items()}


def check_columns(name: str, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return `table`, or raise if it is empty or lacks a column.

    Examples
    --------
    >>> check_columns("rates", pd.DataFrame({"slope": [-0.5]}), ["slope", "low"])
    Traceback (most recent call last):
    ValueError: rates must have the columns slope, low; got none called low
    """
    lacking = [column for column in columns if column not in table.columns]
    if lacking:
        raise ValueError(f"{name} must have the columns {', '.join(columns)}; got none called {', '.join(lacking)}")
    if table.empty:
        raise ValueError(f"{name} must have at least one row, got none")
    return table


def only_series(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return `table`, or raise if several rows share one point: two series would be drawn as one.

    Examples
    --------
    >>> only_series(pd.DataFrame({"n": [10, 10], "mean": [0.1, 0.2]}), ["n"])
    Traceback (most recent call last):
    ValueError: a point must have one row for each n, got 2 rows for n = 10
    """
    sizes = table.groupby(list(keys), sort=False).size()
    if (sizes > 1).any():
        values = sizes.idxmax()
        values = values if isinstance(values, tuple) else (values,)
        where = ", ".join(f"{key} = {value}" for key, value in zip(keys, values, strict=True))
        raise ValueError(f"a point must have one row for each {', '.join(keys)}, got {sizes.max()} rows for {where}")
    return table


def _read(results: Path, name: str, columns: Sequence[str], profile: str) -> pd.DataFrame:
    """Read one table that exists."""
    path = table_path(results, name)
    kind, read = ("CSV", pd.read_csv) if name == PUBLISHED else ("Parquet", pd.read_parquet)
    try:
        table = read(path)
    except (AttributeError, LookupError, OSError, TypeError, ValueError, pa.ArrowException) as error:
        # Damaged metadata of pandas raises anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path} must be a {kind} table, got {reason}; {_remedy(results, [name], profile)}") from error
    return check_columns(str(path), table, columns)


def _remedy(results: Path, names: Sequence[str], profile: str) -> str:
    """Return the commands that make tables."""
    owners = list(dict.fromkeys(name.split("/")[0] for name in names if name != PUBLISHED))
    makers = {
        "python -m sim run": [owner for owner in owners if owner not in EXPERIMENTS],
        "python -m lm validate": [owner for owner in owners if owner in EXPERIMENTS],
    }
    where = f"--profile {profile} --output {shlex.quote(str(results))}"
    commands = [f"{maker} {' '.join(made)} {where}" for maker, made in makers.items() if made]
    return f"make it with: {' && '.join([*commands, *(['make bench'] if PUBLISHED in names else [])])}"
