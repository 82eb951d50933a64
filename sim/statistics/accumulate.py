"""Statistics of one cell, gathered part by part: exact moments, quantiles, shares of statuses, a cluster bootstrap."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv, pdtr, stdtrit

from sim.preferences.arguments import check_integer, check_rng
from sim.statuses import STATUSES
from theory.checks import FloatArray

__all__ = [
    "SERIES_COLUMNS",
    "CellAccumulator",
    "Group",
    "SeriesAccumulator",
    "clopper_pearson",
    "groups_of",
    "keyed_bootstrap",
    "summary_of",
]

SERIES_COLUMNS = ("method", "replicate", "status", "metric", "value", "exact")
"""Columns of a part that its statistics need."""
# Bootstrap weights are Poisson numbers of mean 1, looked up by 16 random bits: ten times faster than NumPy's sampler,
# and each probability is right to 2^-16. Means divide by the sum of their weights.
_POISSON = np.searchsorted(pdtr(np.arange(12), 1.0), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)
# Values of a series that are kept, for its quantiles; of further ones moments and the largest are. Replicates are
# exchangeable, so the first ones tell the quantiles without bias, those of the tails within 0.1 % of the ranks.
_KEPT = 100_000
_BATCH = 1000  # replicates whose bootstrap weights are in memory at once: 4 MB at 500 draws


@dataclass(frozen=True)
class _Moments:
    """Count, mean, sum of squared deviations, largest value and number of ones of values; whether all are 0 or 1."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    largest: float = -math.inf
    ones: int = 0
    binary: bool = True

    @classmethod
    def of(cls, values: FloatArray) -> "_Moments":
        """Return those of an array."""
        if not len(values):
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(values.mean())
            squares = float(np.square(values - mean).sum())
        ones = int((values == 1.0).sum())
        return cls(
            len(values), mean, squares, float(values.max()), ones, ones + int((values == 0.0).sum()) == len(values)
        )

    def __add__(self, other: "_Moments") -> "_Moments":
        """Return those of both sets of values (Chan, Golub and LeVeque 1983)."""
        if not (self.count and other.count):
            return self if self.count else other
        count, step = self.count + other.count, other.mean - self.mean
        return _Moments(
            count,
            self.mean + step * other.count / count,
            self.squares + other.squares + step * step * self.count * other.count / count,
            max(self.largest, other.largest),
            self.ones + other.ones,
            self.binary and other.binary,
        )


class SeriesAccumulator:
    """The values of one metric of one method in one cell: the first 100,000 as they are, of the rest the moments."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(STATUSES), dtype=np.int64)
        self._values: list[FloatArray] = []
        self._kept = 0
        self._rest = _Moments()
        self._exact: float | None = None

    def add(self, group: "Group") -> None:
        """Add what one part knows of the series."""
        self._counts += group.counts
        kept, rest = np.split(group.values, [_KEPT - self._kept])
        self._values.append(kept)
        self._kept += len(kept)
        self._rest += _Moments.of(rest)
        self._exact = group.exact if self._exact is None else self._exact

    def row(self) -> dict[str, Any]:
        """Return the numbers of one row of a summary, see `sim.statistics.summary.summarise`."""
        used = np.sort(np.concatenate(self._values)) if self._values else np.empty(0)
        self._values = [used]  # sums of sorted values do not depend on the order of the parts
        moments = _Moments.of(used) + self._rest
        replicates = int(self._counts.sum())
        failed = replicates - int(self._counts[0])
        low, high = clopper_pearson(failed, replicates)
        return {
            "replicates": replicates,
            **{
                f"share_{name}": count / replicates for name, count in zip(STATUSES, self._counts.tolist(), strict=True)
            },
            "share_failed": failed / replicates,
            "share_failed_low": low,
            "share_failed_high": high,
            "finite": moments.count,
            **_mean(moments),
            **_quantiles(used),
            "max": moments.largest if moments.count else math.nan,
            "exact": pd.NA if self._exact is None else self._exact,
        }


class CellAccumulator:
    """Statistics of one cell (a world at one sample size), to which parts are added one after the other.

    Memory is 8 bytes for each value used, up to 100,000 of a series, and one byte for each replicate. Quantiles are
    those of the values kept; everything else is exact for any number of them.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the bootstrap weights; one stream for each cell, as cells hold independent data.
    draws : int
        Bootstrap draws, at least 0; none are made at 0.

    Notes
    -----
    The bootstrap is Poisson's: in every draw each replicate (data set) weighs an independent Poisson(1) number, one
    for all methods and metrics, because methods see the same data and their errors are dependent. A contrast of two
    methods, draw by draw, is therefore a paired one. The bootstrapped mean is the weighted sum over the weighted count
    of values used. Therefore all rows of a replicate must come in the same part.

    References
    ----------
    .. [1] Poisson bootstrap: Hanley and MacGibbon (2006), "Creating non-parametric bootstrap samples using Poisson
       frequencies", Computer Methods and Programs in Biomedicine 83.

    Examples
    --------
    >>> part = {"method": "m", "replicate": [0, 1], "status": "ok", "metric": "tv", "value": [1.0, 3.0], "exact": 0.0}
    >>> cell = CellAccumulator(np.random.default_rng(0), draws=100)
    >>> cell.add(pa.table(pd.DataFrame(part)))
    >>> cell.summary()[["method", "metric", "replicates", "mean", "max"]]
      method metric  replicates  mean  max
    0      m     tv           2   2.0  3.0
    >>> cell.bootstrap_means()["m", "tv"].shape
    (100,)
    """

    def __init__(self, rng: np.random.Generator, draws: int = 500) -> None:
        self._rng = check_rng(rng)
        self._draws = check_integer("draws", draws, 0)
        self._series: dict[tuple[Any, ...], SeriesAccumulator] = {}
        self._sums: dict[tuple[Any, ...], FloatArray] = {}
        self._weights: dict[tuple[Any, ...], FloatArray] = {}
        self._seen = np.zeros(0, dtype=bool)

    def add(self, part: pa.Table) -> None:
        """Add the rows of one part.

        Parameters
        ----------
        part : pyarrow.Table
            Columns method, replicate (its number, at least 0), status, metric, value and exact (NaN or null where
            there is no target); other columns are ignored.

        Raises
        ------
        ValueError
            If a column is missing, a status is unknown, or a replicate came with an earlier part.
        """
        absent = [column for column in SERIES_COLUMNS if column not in part.column_names]
        if absent:
            raise ValueError(f"a part must have the columns {', '.join(SERIES_COLUMNS)}; got none called {absent[0]}")
        replicates, position = np.unique(part["replicate"].to_numpy(), return_inverse=True)
        self._see(replicates)
        columns = []
        groups = list(groups_of(part, ["method", "metric"]))
        for group in groups:
            self._series.setdefault(group.key, SeriesAccumulator()).add(group)
            column = np.zeros((2, len(replicates)))
            column[:, position[group.used]] = group.values, np.ones(len(group.values))
            columns.append(column)
        if self._draws and groups:
            self._add_draws([group.key for group in groups], np.concatenate(columns).T)

    def _see(self, replicates: NDArray[np.int64]) -> None:
        """Note the replicates of a part, or raise if one was there before."""
        missing = max(int(replicates.max(initial=-1)) + 1 - len(self._seen), 0)
        self._seen = np.concatenate([self._seen, np.zeros(missing, dtype=bool)])
        if self._seen[replicates].any():
            twice = replicates[self._seen[replicates]][0]
            raise ValueError(f"a part must hold all rows of its replicates, got {twice} that came with an earlier part")
        self._seen[replicates] = True

    def _add_draws(self, names: list[tuple[Any, ...]], columns: FloatArray) -> None:
        """Add weighted values and weighted counts; `columns` alternate between values and indicators of use."""
        totals = np.zeros((self._draws, columns.shape[1]))
        for start in range(0, len(columns), _BATCH):
            batch = columns[start : start + _BATCH]
            bits = self._rng.integers(0, 2**16, (self._draws, len(batch)), dtype=np.uint16)
            totals += _POISSON[bits].astype(np.float64) @ batch
        for i, name in enumerate(names):
            self._sums[name] = self._sums.get(name, 0.0) + totals[:, 2 * i]
            self._weights[name] = self._weights.get(name, 0.0) + totals[:, 2 * i + 1]

    def summary(self) -> pd.DataFrame:
        """Return one row for each method and metric, in order of appearance, see `sim.statistics.summary.summarise`."""
        return summary_of(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of `summary`."""
        return [
            {"method": method, "metric": metric} | series.row() for (method, metric), series in self._series.items()
        ]

    def bootstrap_means(self) -> dict[tuple[Any, ...], FloatArray]:
        """Return the bootstrapped means of each (method, metric), shape (draws,); NaN in draws that weigh no value."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: self._sums[name] / self._weights[name] for name in self._sums}


def summary_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows of summaries as one table, in which exact values may be missing."""
    # Copied, because pandas then keeps columns of one type together, and takes rows in half the time.
    return pd.DataFrame(rows).astype({"exact": "Float64"}).copy() if rows else pd.DataFrame()


def keyed_bootstrap(
    cell: Mapping[str, Any], means: Mapping[tuple[Any, ...], FloatArray]
) -> dict[tuple[Any, ...], FloatArray]:
    """Return a cell's bootstrapped means under keys that are unique in a study.

    Parameters
    ----------
    cell : mapping
        The columns that all rows of the cell share, in the order of the summary: study, world, n, swept settings.
    means : mapping
        From `CellAccumulator.bootstrap_means`.

    Returns
    -------
    dict
        Keys (study, world, n, *swept, method, metric); the union over cells is what
        `sim.statistics.rates.fit_rates` and `sim.claims.verdicts.judge` take as `bootstrap`.

    Examples
    --------
    >>> means = {("rdro", "tv_target"): np.array([0.1, 0.2])}
    >>> list(keyed_bootstrap({"study": "s", "world": "w", "n": 100, "alpha": 0.5}, means))
    [('s', 'w', 100, 0.5, 'rdro', 'tv_target')]
    """
    return {(*cell.values(), *name): values for name, values in means.items()}


@dataclass(frozen=True, eq=False)
class Group:
    """The rows of one key of a long table.

    Attributes
    ----------
    key : tuple
        Values of the key's columns.
    counts : ndarray of int
        How often each of `STATUSES` occurs.
    used : ndarray of int
        Positions in the table of the finite values with status "ok".
    values : ndarray
        These values.
    exact : float or None
        The first exact value, None without one.
    """

    key: tuple[Any, ...]
    counts: NDArray[np.int64]
    used: NDArray[np.intp]
    values: FloatArray
    exact: float | None


def groups_of(table: pa.Table, keys: list[str]) -> Iterator[Group]:
    """Yield the groups of a long table in order of appearance, or raise if a status is unknown."""
    codes, names = _coded(table["status"])
    for name in names:
        if name not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}; got {name!r}")
    status = np.array([STATUSES.index(name) for name in names], dtype=np.int64)[codes]
    value, exact = (table[name].cast(pa.float64()).to_numpy() for name in ("value", "exact"))
    coded = [_coded(table[key]) for key in keys]
    number = np.zeros(len(table), dtype=np.intp)  # of each row's group, in order of appearance
    for codes, values in coded:
        number, _ = pd.factorize(number * len(values) + codes)
    for rows in np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number)))[:-1]:
        used = rows[(status[rows] == 0) & np.isfinite(value[rows])]
        known = exact[rows][np.isfinite(exact[rows])]
        counts = np.bincount(status[rows], minlength=len(STATUSES))
        yield Group(
            tuple(values[codes[rows[0]]] for codes, values in coded),
            counts,
            used,
            value[used],
            float(known[0]) if len(known) else None,
        )


def _coded(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[Any]]:
    """Return the different values of a column and, for each row, the place of its own among them."""
    if pa.types.is_dictionary(column.type):  # which may hold values that do not occur
        column = column.cast(column.type.value_type)
    coded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a binomial probability.

    Its ends are the probabilities under which the tail beyond the number observed is ``(1 - level) / 2``, quantiles
    of beta laws; it covers at least `level`.

    Parameters
    ----------
    successes, trials : int
        0 <= successes <= trials, trials >= 1.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    low, high : float
        Ends of the interval; 0 without a success, 1 without a failure.

    References
    ----------
    .. [1] Clopper and Pearson (1934), Biometrika 26.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 100)
    >>> low, round(high, 4)
    (0.0, 0.0362)
    """
    tail = (1.0 - level) / 2.0
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1.0 - tail)) if successes < trials else 1.0
    return low, high


def _mean(moments: _Moments) -> dict[str, float]:
    """Return mean, standard error and the 95 % interval of the mean: Clopper-Pearson's for values 0 and 1, else t's."""
    count = moments.count
    mean = moments.mean if count else math.nan
    error = math.sqrt(moments.squares / (count - 1) / count) if count > 1 else math.nan
    if count and moments.binary:
        low, high = clopper_pearson(moments.ones, count)
    else:
        half = float(stdtrit(count - 1, 0.975)) * error if count > 1 else math.nan
        low, high = mean - half, mean + half
    return {"mean": mean, "standard_error": error, "low": low, "high": high}


def _quantiles(used: FloatArray) -> dict[str, float]:
    """Return quantiles of sorted values, and order-statistic intervals of two of them."""
    if not len(used):
        return dict.fromkeys(("median", "median_low", "median_high", "q025", "q975", "q975_low", "q975_high"), math.nan)
    # As np.quantile, whose care for unsorted values takes longer than all else here.
    places = (len(used) - 1) * np.array([0.025, 0.5, 0.975])
    low, median, high = np.interp(places, np.arange(len(used)), used).tolist()
    padded = np.concatenate([[-np.inf], used, [np.inf]])
    (median_low, median_high), (high_low, high_high) = (padded[list(_ranks(len(used), q))] for q in (0.5, 0.975))
    return {
        "median": median,
        "median_low": float(median_low),
        "median_high": float(median_high),
        "q025": low,
        "q975": high,
        "q975_low": float(high_low),
        "q975_high": float(high_high),
    }


@lru_cache(maxsize=1024)
def _ranks(values: int, quantile: float) -> tuple[int, int]:
    """Return the ranks of the order statistics that hold a quantile with probability 95 %; 0 or values + 1: none do.

    The number of values below the quantile is binomial.
    """
    low, high = np.searchsorted(bdtr(np.arange(values + 1), values, quantile), (0.025, 0.975))
    return int(low), int(high) + 1
