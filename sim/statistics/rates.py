"""Rates: power laws fitted to means over sample sizes, with lack of fit and a bootstrap over replicates."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, ndtri

from theory.checks import FloatArray

__all__ = [
    "Bootstrap",
    "RateFit",
    "asymptotic_sizes",
    "complete",
    "curve_rate",
    "fit_rate",
    "fit_rates",
    "scenario_keys",
]

Bootstrap = Mapping[tuple[Any, ...], FloatArray]
"""Bootstrapped means by (study, world, n, *swept, method, metric), see `sim.statistics.accumulate.keyed_bootstrap`."""

_FEWEST_POINTS = 3
_FEWEST_KEPT = 4
# Exact targets carry solver errors near 1e-10; a metric this close to zero there tends to zero.
_ZERO = 1e-8
# Below this share of replicates with a value a mean tells of the data sets that could be fitted, not of the method.
_LEAST_COMPLETE = 0.99


@dataclass(frozen=True)
class RateFit:
    """A fitted power law ``mean = c n^slope``.

    Attributes
    ----------
    slope, standard_error : float
        Slope of log mean on log n, and its standard error.
    low, high : float
        Ends of the 95 % interval of the slope.
    low90, high90 : float
        Ends of its 90 % interval, which equivalence at 5 % asks for.
    n_min, n_max, points : int
        Smallest and largest sample size, and the number of them.
    lack_of_fit_p : float
        p-value of the chi-square test that the logarithms lie on a line; small where they do not.
    """

    slope: float
    standard_error: float
    low: float
    high: float
    low90: float
    high90: float
    n_min: int
    n_max: int
    points: int
    lack_of_fit_p: float


def asymptotic_sizes(sizes: ArrayLike, n_min: int | None = None) -> NDArray[np.int64]:
    """Return the sample sizes at which a law for large n is fitted.

    A rate is a statement on large n; at small n, terms of higher order in 1/n bend the line. The rule is the upper
    half of the logarithmic range, ``n >= sqrt(min n * max n)``, but no fewer than the four largest sizes. It depends
    on the design alone. A rule that looks for the sizes at which the line fits would choose by the outcome, and the
    test of fit after it would not keep its level.

    Parameters
    ----------
    sizes : array_like of int
        Sample sizes of a curve.
    n_min : int, optional
        Declared smallest size, in place of the rule.

    Returns
    -------
    ndarray of int
        Sizes in ascending order.

    Examples
    --------
    >>> asymptotic_sizes([100, 1_000, 10_000, 100_000, 1_000_000]).tolist()
    [1000, 10000, 100000, 1000000]
    >>> asymptotic_sizes([100, 1_000, 10_000, 100_000, 1_000_000], n_min=10_000).tolist()
    [10000, 100000, 1000000]
    """
    ordered = np.unique(np.asarray(sizes, dtype=np.int64))
    if n_min is not None or not len(ordered):
        return ordered[ordered >= (n_min or 0)]
    middle = math.sqrt(float(ordered[0]) * float(ordered[-1]))
    kept = max(int((ordered >= middle).sum()), _FEWEST_KEPT)
    return ordered[-kept:]


def complete(summary: pd.DataFrame, max_failed: float = 1.0 - _LEAST_COMPLETE) -> NDArray[np.bool_]:
    """Return for each row of a summary whether all but a share of its replicates have a finite value.

    Examples
    --------
    >>> complete(pd.DataFrame({"finite": [99, 98], "replicates": 100})).tolist()
    [True, False]
    """
    # A hundredth of a replicate: 1 - .99 is not .01 in floating point.
    return summary["finite"].to_numpy() >= (1.0 - max_failed) * summary["replicates"].to_numpy() - 0.01


def fit_rate(table: pd.DataFrame) -> RateFit:
    """Fit the rate at which a mean falls with the sample size.

    Weighted least squares of ``log(mean)`` on ``log(n)``; by the delta method the weight of a point is
    ``(mean / standard_error)^2``, the inverse variance of its logarithm. The sum of weighted squared residuals is
    chi-square with ``points - 2`` degrees of freedom where the power law holds exactly.

    Parameters
    ----------
    table : DataFrame
        At least three rows with different ``n`` > 0, with columns n, mean > 0 and standard_error > 0; the rows of one
        curve of `sim.statistics.summary.summarise`.

    Returns
    -------
    RateFit
        The slope with its 95 % and 90 % normal intervals, and the p-value of the lack of fit.

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
    return _fit(*(table[name].to_numpy(dtype=np.float64) for name in _POINT))


def _fit(n: FloatArray, mean: FloatArray, error: FloatArray) -> RateFit:
    """Fit the rate of a curve, see `fit_rate`."""
    for name, values in zip(_POINT, (n, mean, error), strict=True):
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise ValueError(f"{name} of a rate fit must be finite and greater than 0, got {wrong[0]:g}")
    if len(np.unique(n)) < max(_FEWEST_POINTS, len(n)):
        raise ValueError(f"a rate fit must have at least {_FEWEST_POINTS} different sample sizes, got {n.tolist()}")
    weight, x = _centred(n, mean, error)
    y = np.log(mean) - np.average(np.log(mean), weights=weight)
    information = float(weight @ np.square(x))
    slope = float(weight @ (x * y)) / information
    chi_square = float(weight @ np.square(y - slope * x))
    half, half90 = (float(ndtri(level)) / math.sqrt(information) for level in (0.975, 0.95))
    return RateFit(
        slope=slope,
        standard_error=1.0 / math.sqrt(information),
        low=slope - half,
        high=slope + half,
        low90=slope - half90,
        high90=slope + half90,
        n_min=int(n.min()),
        n_max=int(n.max()),
        points=len(n),
        lack_of_fit_p=float(chdtrc(len(n) - 2, chi_square)),
    )


def fit_rates(summary: pd.DataFrame, bootstrap: Bootstrap | None = None, *, n_min: int | None = None) -> pd.DataFrame:
    """Fit the rate of every curve of a summary whose exact value is zero and that has at least three usable points.

    These are distances that tend to zero, such as ``tv_target``, the distance to the method's own target, and
    ``tv_preferred`` where that target is p+.

    Parameters
    ----------
    summary : DataFrame
        From `sim.statistics.summary.summarise`.
    bootstrap : mapping, optional
        Bootstrapped means, see `sim.statistics.accumulate.keyed_bootstrap`.
    n_min : int, optional
        Smallest sample size used; default by the rule of `asymptotic_sizes`.

    Returns
    -------
    DataFrame
        One row a curve: study, world, swept settings, method, metric and what `curve_rate` tells.

    Examples
    --------
    >>> n = np.array([100, 1000, 10000])
    >>> curve = {"study": "s", "world": "w", "n": n, "method": "m", "metric": "tv_target", "exact": 0.0}
    >>> curve |= {"replicates": 50, "finite": 50}
    >>> fit_rates(pd.DataFrame(curve | {"mean": 1 / n, "standard_error": 0.1 / n}))[["metric", "slope", "points"]]
          metric  slope  points
    0  tv_target   -1.0       3
    """
    keys = scenario_keys(summary)
    to_zero = (summary["exact"].astype("Float64").abs() <= _ZERO).fillna(False).astype(bool)
    rows = []
    needed = [*_keys_of(summary), "mean", "standard_error", "finite", "replicates"]
    for key, curve in summary.loc[to_zero, needed].groupby(keys, sort=False, observed=True):
        rate = curve_rate(curve, bootstrap, n_min=n_min)
        if rate is not None:
            rows.append(dict(zip(keys, key, strict=True)) | rate)
    return pd.DataFrame(rows, columns=[*keys, *RateFit.__dataclass_fields__, *_MORE])


_POINT = ("n", "mean", "standard_error")
_MORE = ("left_out", "unusable", "boot_low", "boot_high")


def curve_rate(
    curve: pd.DataFrame, bootstrap: Bootstrap | None = None, *, n_min: int | None = None
) -> dict[str, Any] | None:
    """Fit the rate of one curve of a summary at its large sample sizes.

    Parameters
    ----------
    curve : DataFrame
        The rows of one method and metric in one world and setting.
    bootstrap, n_min
        See `fit_rates`.

    Returns
    -------
    dict or None
        The fields of `RateFit`; ``left_out``, the number of sizes below `n_min` or the rule's; ``unusable``, the
        number of larger ones without a mean and an error above zero, or where more than 1 % of the replicates have no
        finite value, so that the mean is the survivors'; ``boot_low`` and ``boot_high``, the 2.5 % and 97.5 % points
        of the slope over bootstrap draws at the same weights (NaN without bootstrap). None where fewer than three
        points are usable.
    """
    points = np.stack([curve[name].to_numpy(dtype=np.float64) for name in _POINT])
    kept = np.isin(curve["n"].to_numpy(), asymptotic_sizes(curve["n"], n_min))
    usable = kept & (points > 0).all(axis=0) & complete(curve)
    if usable.sum() < _FEWEST_POINTS:
        return None
    draws = list(itertools.compress(bootstrapped(curve, bootstrap), usable)) if bootstrap else []
    low, high = _bootstrap_interval(*points[:, usable], draws)
    sizes = {"left_out": len(curve) - int(kept.sum()), "unusable": int(kept.sum() - usable.sum())}
    return asdict(_fit(*points[:, usable])) | sizes | {"boot_low": low, "boot_high": high}


def scenario_keys(summary: pd.DataFrame) -> list[str]:
    """Return the columns that tell the curves of a summary apart: study, world, swept settings, method, metric.

    Examples
    --------
    >>> scenario_keys(pd.DataFrame(columns=["study", "world", "n", "alpha", "method", "metric", "mean"]))
    ['study', 'world', 'alpha', 'method', 'metric']
    """
    return [name for name in _keys_of(summary) if name != "n"]


def _keys_of(summary: pd.DataFrame) -> list[str]:
    """Return the columns that tell the rows of a summary apart."""
    columns = list(summary.columns)
    return columns[: columns.index("metric") + 1]


def bootstrapped(rows: pd.DataFrame, bootstrap: Bootstrap) -> list[FloatArray]:
    """Return the bootstrapped means of each row of a summary; empty unless all have them."""
    columns = (rows[name].tolist() for name in ("study", "world", "n", *scenario_keys(rows)[2:]))
    found = [bootstrap.get(key) for key in zip(*columns, strict=True)]
    return [] if any(draws is None for draws in found) else found


def _bootstrap_interval(
    n: FloatArray, mean: FloatArray, error: FloatArray, draws: list[FloatArray]
) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % points of the bootstrapped slope."""
    if not draws:
        return math.nan, math.nan
    weight, x = _centred(n, mean, error)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = (weight * x) @ np.log(np.stack(draws)) / (weight @ np.square(x))
    slopes = slopes[np.isfinite(slopes)]
    return tuple(np.quantile(slopes, [0.025, 0.975]).tolist()) if len(slopes) else (math.nan, math.nan)


def _centred(n: FloatArray, mean: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weights of log means, and log n centred so that slope and level are independent."""
    weight = np.square(mean / error)
    return weight, np.log(n) - np.average(np.log(n), weights=weight)
