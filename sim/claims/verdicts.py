"""Verdicts: each claim of a study judged in each of its scenarios."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sim.claims.claim import Claim
from sim.claims.evidence import EVIDENCE, Evidence
from sim.statistics.equivalence import holm
from sim.statistics.rates import Bootstrap
from theory.checks import check_choice

__all__ = ["VERDICTS", "judge"]

VERDICTS = ("supported", "rejected", "inconclusive", "not_run")
_LEVEL = 0.05
_LACK_OF_FIT = 0.01


@dataclass(frozen=True)
class _Scenario:
    """A world, swept settings and a method, with its rows of the summary and those of the method it is held against."""

    world: str
    where: dict[str, Any]
    method: str
    curve: pd.DataFrame
    other: pd.DataFrame


def judge(claims: Sequence[Claim], summary: pd.DataFrame, bootstrap: Bootstrap | None = None) -> pd.DataFrame:
    """Judge claims in every scenario they are about.

    Each kind tests "the claim holds" against "it does not" and the reverse, so that too few replicates support
    nothing and reject nothing:

    rate
        The slope of log mean on log n lies within `margin` of `slope`: two one-sided tests on
        `sim.statistics.rates.curve_rate`.
    target
        The mean at `at_n` lies within `margin` of the exact value, in units of the metric. To ask for agreement within
        some standard errors instead would be met the more easily, the fewer the replicates.
    floor
        The floor of `sim.statistics.floors.fit_floor` lies within `margin` of the exact value; supported only if it is
        also within 4 of its standard errors of it, as a margin says little about a floor that is smaller. The note
        tells whether the floor is zero.
    constant
        The mean over exact value, pooled over sizes with inverse variances, lies within `margin` of 1; supported only
        if at each size the mean is within 4 standard errors of the exact value, too.
    failures
        The share of failed fits at `at_n`, or of ones in a metric of zeros and ones, is less than `most`, or more
        than `least`: exact binomial tests.
    contrast
        The statistic at `at_n` is less than `factor` times that of the method `other`. Means are paired by the
        bootstrap, without which they count as independent, as do quantiles; for estimates whose errors go together
        this is on the safe side.

    A row is supported, or rejected, where the p-value of the one, or other, test is at most 5 % after Holm's
    correction over the rows of the claim; else it is inconclusive. A row is not supported where the law that was
    fitted does not fit (at 1 %, Holm's correction likewise), and gets no verdict but inconclusive where more than 1 %
    (`max_failed`) of the replicates have no finite value, as the others' mean is that of survivors. A row is "not_run"
    where the summary lacks a world or method that the claim names, or sample sizes: that is neither success nor
    failure. A method that a study runs in some worlds only is judged in these, unless the claim names others.

    Parameters
    ----------
    claims : sequence of Claim
        From `sim.claims.claim.parse_claim`.
    summary : DataFrame
        From `sim.statistics.summary.summarise`, of one study.
    bootstrap : mapping, optional
        Bootstrapped means, see `sim.statistics.accumulate.keyed_bootstrap`.

    Returns
    -------
    DataFrame
        One row for each claim and scenario: claim, kind, world, where (swept settings as JSON), method, metric, n_min
        and n_max (sizes used), estimate, low and high (its 90 % interval), exact (what it is held against), p and
        p_holm (of the test that supports), p_opposite and p_opposite_holm (of the test that rejects), verdict,
        control, expected, as_expected (missing where not run) and note.

    Raises
    ------
    ValueError
        If a claim restricts a setting that was not swept.

    Examples
    --------
    >>> n = np.array([100, 1_000, 10_000, 100_000])
    >>> curve = {"study": "s", "world": "w", "n": n, "method": "m", "metric": "tv_target", "replicates": 50}
    >>> numbers = {"finite": 50, "mean": n**-0.5, "standard_error": 0.01 * n**-0.5, "exact": 0.0}
    >>> claim = Claim("the rate is 1/2", "rate", "tv_target", settings={"slope": -0.5, "margin": 0.05, "n_min": None})
    >>> judge([claim], pd.DataFrame(curve | numbers))[["estimate", "verdict"]].round(3).to_dict("records")
    [{'estimate': -0.5, 'verdict': 'supported'}]
    """
    rows = [row for claim in claims for row in _rows(claim, summary, bootstrap or {})]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.astype({"n_min": "Int64", "n_max": "Int64", "as_expected": "boolean"})


_COLUMNS = [
    *("claim", "kind", "world", "where", "method", "metric", "n_min", "n_max", "estimate", "low", "high", "exact"),
    *("p", "p_holm", "p_opposite", "p_opposite_holm", "verdict", "control", "expected", "as_expected", "note"),
]


def _rows(claim: Claim, summary: pd.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Return the verdicts on one claim."""
    scenarios = list(_scenarios(claim, summary))
    found = [
        EVIDENCE[claim.kind](claim, scenario.curve, scenario.other, bootstrap)
        if len(scenario.curve)
        else Evidence(run=False, note="no results of this world, method and metric")
        for scenario in scenarios
    ]
    found = _held_to_their_fit(found)
    run = [i for i, evidence in enumerate(found) if evidence.run]
    adjusted, opposite = (np.full(len(found), np.nan) for _ in range(2))
    adjusted[run] = holm([found[i].p for i in run])
    opposite[run] = holm([found[i].p_opposite for i in run])
    rows = []
    for scenario, evidence, p_holm, p_opposite_holm in zip(scenarios, found, adjusted, opposite, strict=True):
        verdict = _verdict(evidence.run, p_holm, p_opposite_holm)
        rows.append(
            {
                "claim": claim.claim,
                "kind": claim.kind,
                "world": scenario.world,
                "where": json.dumps(scenario.where, sort_keys=True),
                "method": scenario.method,
                "metric": claim.metric or "failed",
                **evidence.columns(),
                "p_holm": p_holm,
                "p_opposite_holm": p_opposite_holm,
                "verdict": verdict,
                "control": claim.control,
                "expected": claim.expect,
                "as_expected": verdict == claim.expect if evidence.run else pd.NA,
            }
        )
    return rows


def _held_to_their_fit(found: Sequence[Evidence]) -> list[Evidence]:
    """Return evidence that supports nothing where the law that was fitted does not fit."""
    fit = holm([1.0 if math.isnan(evidence.lack_of_fit_p) else evidence.lack_of_fit_p for evidence in found])
    return [
        replace(evidence, p=1.0, note=f"lack of fit, p = {evidence.lack_of_fit_p:.2g}; {evidence.note}".rstrip("; "))
        if adjusted < _LACK_OF_FIT
        else evidence
        for evidence, adjusted in zip(found, fit, strict=True)
    ]


def _verdict(run: bool, p_holm: float, p_opposite_holm: float) -> str:
    """Return the verdict on one row."""
    if not run:
        return "not_run"
    if p_holm <= _LEVEL:
        return "supported"
    return "rejected" if p_opposite_holm <= _LEVEL else "inconclusive"


def _scenarios(claim: Claim, summary: pd.DataFrame) -> Iterator[_Scenario]:
    """Yield the scenarios of a claim, also those that it names and the summary lacks."""
    columns = list(summary.columns)
    swept = columns[columns.index("n") + 1 : columns.index("method")]
    rows = summary
    for key, values in claim.where.items():
        check_choice("key of where", key, swept)
        named = [entry for entry in rows[key].unique() if any(_equal(entry, value) for value in values)]
        rows = rows[rows[key].isin(named)]
    settings = ["world", *swept]
    rows = rows[rows["world"].isin(claim.worlds or rows["world"].unique())]
    cells = [dict(zip(settings, cell, strict=True)) for cell in _distinct(rows, settings)]
    cells += [{"world": name} for name in claim.worlds if name not in set(rows["world"])]
    # Each metric of a method tells the same shares of failed fits.
    some = rows["metric"] == claim.metric if claim.metric else ~rows.duplicated([*settings, "n", "method"])
    curves = dict(iter(rows[some].groupby([*settings, "method"], sort=False, observed=True)))
    rival = claim.settings.get("other")
    known = {key[-1] for key in curves}
    for cell in cells:
        place = tuple(cell.values())
        here = [key[-1] for key in curves if key[:-1] == place]
        named = [m for m in claim.methods if m in here or cell["world"] in claim.worlds or m not in known]
        for method in named or [m for m in here if m != rival and not claim.methods]:
            curve = curves.get((*place, method), rows.iloc[:0])
            other = curves.get((*place, rival), rows.iloc[:0])
            yield _Scenario(cell["world"], {key: cell[key] for key in swept if key in cell}, method, curve, other)


def _distinct(rows: pd.DataFrame, columns: list[str]) -> list[tuple[Any, ...]]:
    """Return the different rows of some columns, as Python values, in order of appearance."""
    distinct = rows[columns].drop_duplicates()
    return list(zip(*(distinct[column].tolist() for column in columns), strict=True))


def _equal(entry: Any, value: Any) -> bool:
    """Return whether a setting equals a declared value, numbers up to rounding."""
    if isinstance(entry, str) or isinstance(value, str):
        return bool(entry == value)
    return math.isclose(entry, value, rel_tol=1e-12)
