"""Evidence: what a summary tells about one claim in one scenario, kind by kind."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr, bdtrc, ndtr, ndtri

from sim.claims.claim import Claim
from sim.statistics.accumulate import clopper_pearson
from sim.statistics.equivalence import equivalence_p
from sim.statistics.floors import fit_floor
from sim.statistics.rates import Bootstrap, asymptotic_sizes, bootstrapped, complete, curve_rate

__all__ = ["EVIDENCE", "Evidence"]

_HALF = float(ndtri(0.95))  # half width of a 90 % interval in standard errors
_AGREEING = 4.0  # standard errors: of a thousand means that agree, one is farther off in 16 tables of means


@dataclass(frozen=True)
class Evidence:
    """What is known of a claim in one scenario.

    Attributes
    ----------
    estimate, low, high : float
        Estimate and the ends of its 90 % interval.
    exact : float
        What it is held against.
    p, p_opposite : float
        p-values of the test that supports the claim and of the one that rejects it; 1 where they say nothing.
    lack_of_fit_p : float
        Of a fitted law, NaN without one.
    n_min, n_max : int or None
        Sample sizes used.
    run : bool
        Whether there are results to judge.
    note : str
        What a reader should know.
    """

    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    exact: float = math.nan
    p: float = 1.0
    p_opposite: float = 1.0
    lack_of_fit_p: float = math.nan
    n_min: int | None = None
    n_max: int | None = None
    run: bool = True
    note: str = ""

    def columns(self) -> dict[str, Any]:
        """Return the columns of a table of verdicts; p-values are missing where nothing was run."""
        names = ("n_min", "n_max", "estimate", "low", "high", "exact", "note")
        p, opposite = (self.p, self.p_opposite) if self.run else (math.nan, math.nan)
        return {name: getattr(self, name) for name in names} | {"p": p, "p_opposite": opposite}


def rate(claim: Claim, curve: pd.DataFrame, _: pd.DataFrame, bootstrap: Bootstrap) -> Evidence:
    """Return the slope of log mean on log n, held against a declared one."""
    rows = _large(curve, claim.settings["n_min"])
    if len(rows) < 3:
        return _not_run("fewer than three sample sizes")
    fit = curve_rate(curve, bootstrap, n_min=claim.settings["n_min"])
    sizes = {"exact": claim.settings["slope"]} | _sizes(rows)
    if fit is None or fit["unusable"]:
        note = _missing(rows, 0.01) or "a mean or its error is zero"
        return Evidence(**sizes, note=note, **({"estimate": fit["slope"]} if fit else {}))
    p, opposite = _within(fit["slope"], fit["standard_error"], claim.settings["slope"], claim.settings["margin"])
    return Evidence(
        estimate=fit["slope"],
        low=fit["low90"],
        high=fit["high90"],
        p=p,
        p_opposite=opposite,
        lack_of_fit_p=fit["lack_of_fit_p"],
        **sizes,
    )


def target(claim: Claim, curve: pd.DataFrame, _: pd.DataFrame, __: Bootstrap) -> Evidence:
    """Return the mean at one sample size, held against the exact value."""
    rows = _at(curve, claim.settings["at_n"])
    if not len(rows):
        return _not_run(f"no results at n = {claim.settings['at_n']}")
    row = rows.iloc[0]
    exact, mean, error = _number(row["exact"]), row["mean"], row["standard_error"]
    p, opposite = _within(mean, error, exact, claim.settings["margin"])
    held = Evidence(mean, mean - _HALF * error, mean + _HALF * error, exact, p, opposite, **_sizes(rows))
    return _guarded(held, rows, claim.settings["max_failed"])


def floor(claim: Claim, curve: pd.DataFrame, _: pd.DataFrame, __: Bootstrap) -> Evidence:
    """Return the floor of a curve, held against the exact value."""
    rows = _large(curve, claim.settings["n_min"])
    exponent = None if claim.settings["exponent"] == "free" else claim.settings["exponent"]
    fewest = 4 if exponent is None else 3
    if len(rows) < fewest:
        return _not_run(f"fewer than {fewest} sample sizes")
    exact, margin = _number(rows["exact"].iloc[-1]), claim.settings["margin"]
    usable = rows[(rows["mean"] > 0) & (rows["standard_error"] > 0)]
    if len(usable) < len(rows) or math.isnan(exact):
        return _guarded(
            Evidence(exact=exact, **_sizes(rows), note="a mean or its error is zero or missing"),
            rows,
            claim.settings["max_failed"],
        )
    fit = fit_floor(usable, exponent)
    # A floor is at least 0, so that "no less than exact - margin" says nothing where that is negative.
    least = (exact - margin) ** 2 if exact > margin else -math.inf
    p, opposite = equivalence_p(fit.square, fit.square_error, least, (exact + margin) ** 2)
    low, high = (math.sqrt(max(fit.square + side * _HALF * fit.square_error, 0.0)) for side in (-1, 1))
    distance = abs(fit.floor**2 - exact**2) / fit.square_error
    p = 1.0 if distance > _AGREEING else p
    note = f"{distance:.1f} standard errors from exact; floor = 0 has p = {fit.p_zero:.2g}"
    held = Evidence(fit.floor, low, high, exact, p, opposite, fit.lack_of_fit_p, **_sizes(rows), note=note)
    return _guarded(held, rows, claim.settings["max_failed"])


def constant(claim: Claim, curve: pd.DataFrame, _: pd.DataFrame, __: Bootstrap) -> Evidence:
    """Return the mean over exact value, pooled over sample sizes, held against 1."""
    rows = _large(curve, claim.settings["n_min"])
    if not len(rows):
        return _not_run("no sample size that is large enough")
    columns = rows[["exact", "mean", "standard_error"]]
    exact, mean, error = columns.to_numpy(dtype=np.float64, na_value=np.nan).T
    sizes = _sizes(rows)
    if not np.all(np.isfinite(exact) & (exact != 0.0)):
        return Evidence(**sizes, note="no exact value other than zero")
    if not np.all(error > 0.0):
        return _guarded(
            Evidence(**sizes, exact=1.0, note="an error is zero or missing"), rows, claim.settings["max_failed"]
        )
    ratio, spread = mean / exact, error / np.abs(exact)
    weight = 1.0 / np.square(spread)
    estimate, pooled = float(np.average(ratio, weights=weight)), 1.0 / math.sqrt(weight.sum())
    p, opposite = _within(estimate, pooled, 1.0, claim.settings["margin"])
    farthest = int(np.argmax(np.abs(ratio - 1.0) / spread))
    distance = abs(ratio[farthest] - 1.0) / spread[farthest]
    note = f"at most {distance:.1f} standard errors from exact, at n = {rows['n'].iloc[farthest]}"
    p = 1.0 if distance > _AGREEING else p
    held = Evidence(
        estimate, estimate - _HALF * pooled, estimate + _HALF * pooled, 1.0, p, opposite, **sizes, note=note
    )
    return _guarded(held, rows, claim.settings["max_failed"])


def failures(claim: Claim, curve: pd.DataFrame, _: pd.DataFrame, __: Bootstrap) -> Evidence:
    """Return the share of failed fits, or of ones in a metric, held against a threshold."""
    rows = _at(curve, claim.settings["at_n"])
    if not len(rows):
        return _not_run(f"no results at n = {claim.settings['at_n']}")
    row, sizes = rows.iloc[0], _sizes(rows)
    least = claim.settings["least"] is not None
    threshold = claim.settings["least"] if least else claim.settings["most"]
    if claim.metric:
        if not set(row[["q025", "median", "max"]]) <= {0.0, 1.0}:
            return Evidence(**sizes, exact=threshold, note="values other than 0 and 1, or none")
        share, trials = row["mean"], int(row["finite"])
    else:
        share, trials = row["share_failed"], int(row["replicates"])
    count = round(share * trials)
    low, high = clopper_pearson(count, trials, 0.9)
    below, above = float(bdtr(count, trials, threshold)), float(bdtrc(count - 1, trials, threshold))
    p, opposite = (above, below) if least else (below, above)
    return Evidence(share, low, high, threshold, p, opposite, **sizes, note=f"{count} of {trials} replicates")


def contrast(claim: Claim, curve: pd.DataFrame, other: pd.DataFrame, bootstrap: Bootstrap) -> Evidence:
    """Return the ratio of a statistic of two methods, held against a factor."""
    own, rival = _at(curve, claim.settings["at_n"]), _at(other, claim.settings["at_n"])
    if not len(own) or not len(rival) or own["n"].iloc[0] != rival["n"].iloc[0]:
        return _not_run("no results of both methods at the same sample size")
    rows, statistic, factor = pd.concat([own, rival]), claim.settings["statistic"], claim.settings["factor"]
    first, second = rows[statistic].to_numpy(dtype=np.float64)
    spread = _spread(rows, statistic, bootstrap)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.divide(first, second))
        half = _HALF * float(np.divide(spread(ratio), abs(second)))
        z = float(np.divide(factor * second - first, spread(factor)))
    p, opposite = (1.0, 1.0) if math.isnan(z) else (float(ndtr(-z)), float(ndtr(z)))
    held = Evidence(ratio, ratio - half, ratio + half, factor, p, opposite, **_sizes(own))
    return _guarded(held, rows, claim.settings["max_failed"])


def _spread(rows: pd.DataFrame, statistic: str, bootstrap: Bootstrap) -> Callable[[float], float]:
    """Return the standard error of first - factor * second as a function of the factor."""
    draws = bootstrapped(rows, bootstrap) if statistic == "mean" else []
    if draws:
        return lambda factor: float(np.nanstd(draws[0] - factor * draws[1], ddof=1))
    if statistic == "mean":
        first, second = rows["standard_error"].to_numpy(dtype=np.float64)
    else:  # the interval between order statistics as that of a normal estimate
        width = (rows[f"{statistic}_high"] - rows[f"{statistic}_low"]).to_numpy(dtype=np.float64)
        first, second = width / (2.0 * float(ndtri(0.975)))
    return lambda factor: math.hypot(first, factor * second)


def _within(estimate: float, error: float, centre: float, margin: float) -> tuple[float, float]:
    """Return the p-values of the tests that an estimate lies within a margin, and that it does not."""
    if math.isnan(centre):
        return 1.0, 1.0
    return equivalence_p(estimate, error, centre - margin, centre + margin)


def _guarded(evidence: Evidence, rows: pd.DataFrame, max_failed: float) -> Evidence:
    """Return evidence that says nothing where replicates have no value, or there is nothing to hold against."""
    note = _missing(rows, max_failed) or ("no exact value" if math.isnan(evidence.exact) else "")
    return replace(evidence, p=1.0, p_opposite=1.0, note=note) if note else evidence


def _missing(rows: pd.DataFrame, max_failed: float) -> str:
    """Return where more than a share of the replicates have no finite value; empty if nowhere."""
    wrong = rows[~complete(rows, max_failed)]
    if not len(wrong):
        return ""
    worst = wrong.iloc[0]
    share = 1.0 - worst["finite"] / worst["replicates"]
    return f"{share:.1%} of the replicates of {worst['method']} have no value at n = {worst['n']}"


def _large(curve: pd.DataFrame, n_min: int | None) -> pd.DataFrame:
    """Return the rows of a curve at large sample sizes, in ascending order."""
    sizes = curve["n"].to_numpy()
    order = np.argsort(sizes, kind="stable")
    return curve.iloc[order[np.isin(sizes[order], asymptotic_sizes(sizes, n_min))]]


def _at(curve: pd.DataFrame, n: int | None) -> pd.DataFrame:
    """Return the row of a curve at one sample size, the largest unless it is given."""
    return curve[curve["n"] == (curve["n"].max() if n is None else n)]


def _sizes(rows: pd.DataFrame) -> dict[str, int]:
    """Return the smallest and the largest sample size."""
    return {"n_min": int(rows["n"].min()), "n_max": int(rows["n"].max())}


def _number(value: Any) -> float:
    """Return a number, NaN where it is missing."""
    return math.nan if pd.isna(value) else float(value)


def _not_run(note: str) -> Evidence:
    """Return that there are no results to judge."""
    return Evidence(run=False, note=note)


EVIDENCE: dict[str, Callable[[Claim, pd.DataFrame, pd.DataFrame, Bootstrap], Evidence]] = {
    "rate": rate,
    "target": target,
    "floor": floor,
    "constant": constant,
    "failures": failures,
    "contrast": contrast,
}
"""How the evidence for each kind of claim is found, from the claim, its curve, the other method's and bootstrap."""
