"""From replicates to statements: means with Monte-Carlo errors, and rates with their lack of fit."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc, ndtri

from sim.accumulate import STATUSES, SeriesAccumulator, groups_of

__all__ = ["STATUSES", "RateFit", "fit_rate", "fit_rates", "summarise", "swept_columns"]

_METRIC_COLUMNS = ("study", "world", "n", "method", "replicate", "status", "metric", "value", "exact")
_FEWEST_POINTS = 3
# Exact targets carry solver errors near 1e-10; a metric this close to zero there tends to zero.
_ZERO = 1e-8
# Below this share of successful fits a mean tells of the data sets that could be fitted, not of the method.
_LEAST_OK = 0.99


@dataclass(frozen=True)
class RateFit:
    """A fitted power law ``mean = c n^slope``.

    Attributes
    ----------
    slope, standard_error : float
        Slope of log mean on log n, and its standard error.
    low, high : float
        Ends of the 95 % interval of the slope.
    n_min, n_max, points : int
        Smallest and largest sample size, and the number of them.
    lack_of_fit_p : float
        p-value of the chi-square test that the logarithms lie on a line; small where they do not.
    """

    slope: float
    standard_error: float
    low: float
    high: float
    n_min: int
    n_max: int
    points: int
    lack_of_fit_p: float


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
        replicates, share_ok, share_nonconverged, share_diverged, share_error, finite (values used), mean,
        standard_error, low and high (95 % t interval of the mean), median, q025, q975 and exact (missing where there
        is no target). Mean and quantiles are NaN without a finite value, the error and interval below two.

    Raises
    ------
    ValueError
        If a column is missing.

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
    ...         "value": [1.0, 2.0, np.nan],
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
    for group in groups_of(metrics, keys):
        series.setdefault(group.key, SeriesAccumulator()).add(group)
    table = pd.DataFrame([dict(zip(keys, key, strict=True)) | one.row() for key, one in series.items()])
    return table.assign(exact=table["exact"].astype("Float64"))


def fit_rate(table: pd.DataFrame) -> RateFit:
    """Fit the rate at which a mean falls with the sample size.

    Weighted least squares of ``log(mean)`` on ``log(n)``; by the delta method the weight of a point is
    ``(mean / standard_error)^2``, the inverse variance of its logarithm. The sum of weighted squared residuals is
    chi-square with ``points - 2`` degrees of freedom where the power law holds exactly.

    Parameters
    ----------
    table : DataFrame
        At least three rows with different ``n`` > 0, with columns n, mean > 0 and standard_error > 0; the rows of one
        curve of `summarise`.

    Returns
    -------
    RateFit
        The slope with its 95 % normal interval, and the p-value of the lack of fit.

    Raises
    ------
    ValueError
        If there are fewer than three sample sizes, one occurs twice, or a number is not finite and positive.

    Notes
    -----
    Biases of higher order in 1/n bend the line; with many replicates the test then rejects, and the slope is that of
    a chord. The interval takes the standard errors as known, which some hundred replicates justify.

    References
    ----------
    .. [1] Weighted least squares and the delta method: textbook; this use is derived here.

    Examples
    --------
    >>> n = np.array([100, 1000, 10000])
    >>> fit = fit_rate(pd.DataFrame({"n": n, "mean": 3 / np.sqrt(n), "standard_error": 0.01 / np.sqrt(n)}))
    >>> round(fit.slope, 6), round(fit.lack_of_fit_p, 6)
    (-0.5, 1.0)
    """
    columns = {name: table[name].to_numpy(dtype=np.float64) for name in ("n", "mean", "standard_error")}
    for name, values in columns.items():
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise ValueError(f"{name} of a rate fit must be finite and greater than 0, got {wrong[0]:g}")
    n, mean, error = columns.values()
    if len(np.unique(n)) < max(_FEWEST_POINTS, len(n)):
        raise ValueError(f"a rate fit must have at least {_FEWEST_POINTS} different sample sizes, got {n.tolist()}")
    weight = np.square(mean / error)
    x = np.log(n) - np.average(np.log(n), weights=weight)  # centred, so that slope and level are independent
    y = np.log(mean) - np.average(np.log(mean), weights=weight)
    information = float(weight @ np.square(x))
    slope = float(weight @ (x * y)) / information
    chi_square = float(weight @ np.square(y - slope * x))
    half = float(ndtri(0.975)) / math.sqrt(information)
    return RateFit(
        slope=slope,
        standard_error=1.0 / math.sqrt(information),
        low=slope - half,
        high=slope + half,
        n_min=int(n.min()),
        n_max=int(n.max()),
        points=len(n),
        lack_of_fit_p=float(chdtrc(len(n) - 2, chi_square)),
    )


def fit_rates(summary: pd.DataFrame) -> pd.DataFrame:
    """Fit the rate of every curve of a summary that tends to zero and has at least three usable points.

    These are ``tv_target``, the distance to the method's own target, and ``tv_preferred`` where that target is p+.

    Parameters
    ----------
    summary : DataFrame
        From `summarise`.

    Returns
    -------
    DataFrame
        One row a curve: study, world, swept settings, method, metric and the fields of `RateFit`. Points without two
        finite values, or with a mean or an error of zero, have no logarithm or weight; points where more than 1 % of
        the fits failed hold the survivors' mean. Both are left out, as n_min, n_max and points show.

    Examples
    --------
    >>> n = np.array([100, 1000, 10000])
    >>> curve = {"study": "s", "world": "w", "n": n, "method": "m", "metric": "tv_target", "exact": 0.0}
    >>> curve |= {"share_ok": 1.0}
    >>> fit_rates(pd.DataFrame(curve | {"mean": 1 / n, "standard_error": 0.1 / n}))[["metric", "slope", "points"]]
          metric  slope  points
    0  tv_target   -1.0       3
    """
    keys = ["study", "world", *_swept_of_summary(summary), "method", "metric"]
    usable = summary[
        summary["metric"].isin(("tv_target", "tv_preferred"))
        & (summary["exact"].astype("Float64").abs() <= _ZERO).fillna(False).astype(bool)
        & (summary["mean"] > 0)
        & (summary["standard_error"] > 0)
        & (summary["share_ok"] >= _LEAST_OK)
    ]
    rows = [
        dict(zip(keys, key, strict=True)) | asdict(fit_rate(curve))
        for key, curve in usable.groupby(keys, sort=False, observed=True)
        if len(curve) >= _FEWEST_POINTS
    ]
    return pd.DataFrame(rows, columns=[*keys, *RateFit.__dataclass_fields__])


def _swept_of_summary(summary: pd.DataFrame) -> list[str]:
    """Return the swept settings of a summary, which stand between n and method."""
    columns = list(summary.columns)
    return columns[columns.index("n") + 1 : columns.index("method")]
