"""From replicates to summaries; the names that make up the statistics of a study."""

from typing import Any

import pandas as pd
import pyarrow as pa

from sim.statistics.accumulate import SeriesAccumulator, groups_of
from sim.statistics.rates import fit_rate, fit_rates
from sim.statuses import STATUSES

__all__ = ["STATUSES", "fit_rate", "fit_rates", "summarise", "swept_columns"]

_METRIC_COLUMNS = ("study", "world", "n", "method", "replicate", "status", "metric", "value", "exact")


def swept_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a metrics table that hold swept settings.

    Examples
    --------
    >>> swept_columns(pd.DataFrame(columns=["study", "world", "n", "alpha", "method", "metric", "value"]))
    ['alpha']
    """
    return [column for column in table.columns if column not in _METRIC_COLUMNS]


def summarise(metrics: pd.DataFrame) -> pd.DataFrame:
    """Summarise replicates: means with Monte-Carlo standard errors, quantiles, and shares of every status.

    Mean, interval and quantiles are over the finite values of replicates with status "ok"; the shares are over all
    replicates, so no failure is dropped unseen.

    Parameters
    ----------
    metrics : DataFrame
        Columns study, world, n, any swept settings, method, replicate, status, metric, value and exact (the value at
        the method's exact target; NaN where it has none).

    Returns
    -------
    DataFrame
        One row for each study, world, n, swept setting, method and metric, in order of appearance, with the columns
        replicates; share_ok, share_nonconverged, share_diverged, share_error, share_timeout; share_failed = 1 -
        share_ok with its exact (Clopper-Pearson) 95 % interval share_failed_low, share_failed_high; finite (values
        used), mean, standard_error, low and high (95 % interval of the mean: t's, and Clopper-Pearson's where all
        values are 0 or 1); median and q975 with intervals median_low, median_high, q975_low, q975_high; q025, max;
        and exact (missing where there is no target). A replicate that was not run has no row, and counts nowhere.

    Raises
    ------
    ValueError
        If a column is missing or a status is unknown.

    Notes
    -----
    Mean and quantiles are NaN without a finite value, the error and the t interval below two. The intervals of
    quantiles lie between order statistics and cover at least 95 % whatever the law, even without a variance; their
    ends are infinite where so few values cannot bound the quantile.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "study": "s",
    ...         "world": "w",
    ...         "n": 10,
    ...         "method": "m",
    ...         "replicate": [0, 1, 2],
    ...         "status": ["ok", "ok", "diverged"],
    ...         "metric": "tv",
    ...         "value": [1.0, 2.0, float("nan")],
    ...         "exact": 0.0,
    ...     }
    ... )
    >>> summarise(table)[["replicates", "share_diverged", "finite", "mean", "standard_error"]].round(3)
       replicates  share_diverged  finite  mean  standard_error
    0           3           0.333       2   1.5             0.5
    """
    absent = [column for column in _METRIC_COLUMNS if column not in metrics]
    if absent:
        raise ValueError(f"metrics must have the columns {', '.join(_METRIC_COLUMNS)}; got none called {absent[0]}")
    keys = ["study", "world", "n", *swept_columns(metrics), "method", "metric"]
    series: dict[tuple[Any, ...], SeriesAccumulator] = {}
    for group in groups_of(
        pa.Table.from_pandas(metrics[[*keys, "status", "value", "exact"]], preserve_index=False), keys
    ):
        series.setdefault(group.key, SeriesAccumulator()).add(group)
    table = pd.DataFrame([dict(zip(keys, key, strict=True)) | one.row() for key, one in series.items()])
    return table.assign(exact=table["exact"].astype("Float64"))
