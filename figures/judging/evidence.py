"""Evidence: the rules of claims applied to result tables, one row for each scenario."""

import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from figures.judging.rules import Compare, Extreme, Paired, Rule, Share, StudyClaim, StudyInterval, Values

__all__ = ["Evidence", "find_evidence"]

LEVEL = 0.05
"""Level of each one-sided test; intervals hold 90 %, so that their ends agree with the tests of one scenario."""

_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ROUNDING = 1e-9
_DIGITS = 6
_ZERO = 1e-12
_JUDGED = {"supported": "supported", "rejected": "refuted", "inconclusive": "inconclusive", "not_run": "not run"}
_OPPOSITE = {"supported": "refuted", "refuted": "supported"}
_KINDS = {
    "rate": "slope of log {} on log n",
    "target": "mean {}",
    "floor": "{} as n grows",
    "constant": "mean {} over its limit",
    "failures": "share of {}",
    "contrast": "{} over the other method's",
}
_METRICS = {
    "tv_preferred": "TV from p+",
    "kl_preferred": "KL(p+ to policy)",
    "tv_target": "TV from own target",
    "scaled_kl": "n KL(p+ to policy)",
    "ratio_error": "error of the relative ratio",
    "direct_infinite": "data sets with an infinite direct estimate",
    "failed": "failed fits",
    "diverged": "diverged runs",
    "largest_gradient_norm": "largest gradient norm",
}


@dataclass(frozen=True)
class Evidence:
    """What one scenario says about a rule.

    Attributes
    ----------
    study : str
        Study or experiment.
    scenario : str
        World, settings and method.
    quantity : str
        What was estimated.
    estimate, low, high : float or None
        Estimate and its interval; None where there is none.
    level : float or None
        Level of the interval; None for exact numbers.
    compared_with : float or None
        What the estimate is held against.
    verdict : str
        One of `figures.judging.rules.VERDICTS`.
    note : str
        What else must be known.
    """

    study: str
    scenario: str
    quantity: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    compared_with: float | None = None
    verdict: str = "not run"
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        return asdict(self)


def find_evidence(rule: Rule, table: pd.DataFrame | None) -> list[Evidence]:
    """Apply a rule to the table that it reads.

    Parameters
    ----------
    rule : Rule
        The rule.
    table : DataFrame or None
        Its table; None where there is none.

    Returns
    -------
    list of Evidence
        One for each scenario, at least one: what was not run is evidence that says so.

    Raises
    ------
    ValueError
        If a scenario of `Compare` has several rows where it must have one.

    Examples
    --------
    >>> rule = Extreme("shapes/table", "ratio", "max", "<=", 2.0, "ratio")
    >>> [row.verdict for row in find_evidence(rule, pd.DataFrame({"ratio": [1.0, 2.0]}))]
    ['supported']
    >>> [row.verdict for row in find_evidence(rule, pd.DataFrame({"ratio": [1.0, 2.1]}))]
    ['refuted']
    >>> [row.verdict for row in find_evidence(rule, None)]
    ['not run']
    """
    if table is None:
        return [_absent(rule, f"{rule.table}.parquet is missing")]
    return _FINDERS[type(rule)](rule, table) or [_absent(rule, f"no such rows in {rule.table}.parquet")]


def _absent(rule: Rule, note: str, scenario: str = "") -> Evidence:
    """Return evidence that says that something was not run."""
    quantity = rule.claim if isinstance(rule, StudyClaim | StudyInterval) else getattr(rule, "quantity", "share")
    return Evidence(rule.table.partition("/")[0], scenario, quantity, note=note)


def _study_claim(rule: StudyClaim, table: pd.DataFrame) -> list[Evidence]:
    """Take over a study's verdicts, turned round where its rejection supports the claim."""
    found = []
    for row in _judged_rows(rule, table):
        verdict = _JUDGED[row["verdict"]]
        verdict = verdict if rule.holds else _OPPOSITE.get(verdict, verdict)
        found.append(_of_study(rule, row, _number(row["exact"]), verdict))
    return found + _lacking(rule, table)


def _study_interval(rule: StudyInterval, table: pd.DataFrame) -> list[Evidence]:
    """Hold the intervals of a study's claim against a number."""
    found = []
    for row in _judged_rows(rule, table):
        verdict = "inconclusive"
        if row["verdict"] == "not_run":
            verdict = "not run"
        elif row["low"] > rule.above:
            verdict = "supported"
        elif row["high"] <= rule.above:
            verdict = "refuted"
        found.append(_of_study(rule, row, rule.above, verdict))
    return found + _lacking(rule, table)


def _judged_rows(rule: StudyClaim | StudyInterval, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a study's verdicts that a rule asks for, no controls."""
    wanted = {"claim": (rule.claim,), "control": ("none",), "method": rule.methods, "world": rule.worlds}
    rows = _select(table, {key: values for key, values in wanted.items() if values}, {})
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def _of_study(
    rule: StudyClaim | StudyInterval, row: dict[str, Any], compared_with: float | None, verdict: str
) -> Evidence:
    """Return the evidence of one row of a study's verdicts."""
    settings = [f"{key} = {value}" for key, value in json.loads(row["where"]).items()]
    return Evidence(
        study=rule.study,
        scenario=", ".join([row["world"], *settings, row["method"]]),
        quantity=_KINDS.get(row["kind"], "{}").format(_METRICS.get(row["metric"], row["metric"])),
        estimate=_number(row["estimate"]),
        low=_number(row["low"]),
        high=_number(row["high"]),
        level=0.9,
        compared_with=compared_with,
        verdict=verdict,
        note=row["note"] if isinstance(row["note"], str) else "",
    )


def _lacking(rule: StudyClaim | StudyInterval, table: pd.DataFrame) -> list[Evidence]:
    """Return a row for each method or world that a rule asks for and the study's verdicts on the claim lack."""
    rows = _select(table, {"claim": (rule.claim,), "control": ("none",)}, {})
    asked = {"method": rule.methods, "world": rule.worlds}
    lacking = [name for key, names in asked.items() for name in names if name not in set(rows[key])]
    return [_absent(rule, f"no verdict on {name}", name) for name in lacking]


def _extreme(rule: Extreme, table: pd.DataFrame) -> list[Evidence]:
    """Hold the largest or smallest number of each scenario against its bound."""
    found = []
    for scenario, rows in _scenarios(_select(table, rule.where, rule.unless), rule.by):
        values = rows[rule.column].astype("float64")
        values = values.abs() if rule.of == "max_abs" else values
        if values.isna().any():
            found.append(Evidence(rule.table.partition("/")[0], scenario, rule.quantity, verdict="inconclusive"))
            continue
        place = values.argmin() if rule.of == "min" else values.argmax()
        estimate, bound = float(values.iloc[place]), _bound(rule.bound, rows.iloc[place])
        found.append(_exact(rule, scenario, estimate, bound))
    return found


def _bound(bound: float | str, row: pd.Series) -> float:
    """Return the bound at one row."""
    if not isinstance(bound, str):
        return bound
    return 1.0 / float(row[bound[2:]]) if bound.startswith("1/") else float(row[bound])


def _compare(rule: Compare, table: pd.DataFrame) -> list[Evidence]:
    """Hold one exact number against another one in each scenario."""
    first, second = (dict(_scenarios(_select(table, side, {}), rule.by)) for side in (rule.first, rule.second))
    found = []
    for scenario in dict.fromkeys([*first, *second]):
        if scenario not in first or scenario not in second:
            found.append(_absent(rule, "no rows of both", scenario))
            continue
        for rows in (first[scenario], second[scenario]):
            if len(rows) != 1:
                raise ValueError(f"{rule.table} must have one row at {scenario}, got {len(rows)}")
        found.append(_exact(rule, scenario, *(float(side[scenario][rule.column].iloc[0]) for side in (first, second))))
    return found


def _exact(rule: Extreme | Compare, scenario: str, estimate: float, bound: float) -> Evidence:
    """Return the evidence of two exact numbers."""
    holds = _RELATIONS[rule.relation](estimate, bound)
    if rule.relation in ("<=", ">="):
        holds = holds or math.isclose(estimate, bound, rel_tol=_ROUNDING)
    known = not (math.isnan(estimate) or math.isnan(bound))
    verdict = ("supported" if holds else "refuted") if known else "inconclusive"
    note = "infinite" if math.isinf(estimate) else ""
    return Evidence(
        rule.table.partition("/")[0],
        scenario,
        rule.quantity,
        _number(estimate),
        compared_with=_number(bound),
        verdict=verdict,
        note=note,
    )


def _paired(rule: Paired, table: pd.DataFrame) -> list[Evidence]:
    """Test paired differences over repetitions, one-sided t tests with Holm's correction over the scenarios."""
    rows = table[table["method"].isin([rule.first, rule.second]) & (table["status"] != "error")]
    rows = rows[rows["world"].isin(rule.worlds)] if rule.worlds else rows
    found, tests = [], []
    for scenario, cell in _scenarios(rows, ("world", "n", "learning_rate")):
        if cell["method"].nunique() < 2:
            continue
        first, second = (_by_repetition(cell[cell["method"] == label], rule) for label in (rule.first, rule.second))
        lost = max(cell["replicate"].nunique() - len(first), cell["replicate"].nunique() - len(second))
        evidence, test = _t_test(rule, scenario, (first - second).dropna().to_numpy(), lost)
        found.append(evidence)
        tests.append(test)
    return _held(found, tests)


def _by_repetition(rows: pd.DataFrame, rule: Paired) -> pd.Series:
    """Return a metric by repetition, at the step where a user would stop unless it is one of whole runs."""
    values = rows[rows["metric"] == rule.metric]
    if not rule.whole_run:
        values = values[(values["status"] == "ok") & (values["step"] == _stop(rows))]
    return values.set_index("replicate")["value"]


def _stop(rows: pd.DataFrame) -> int:
    """Return the step of the least mean loss on held-out examples, the last one where none is finite or some agree."""
    losses = rows[(rows["metric"] == "held_out_loss") & (rows["status"] == "ok")]
    means = losses.groupby("step")["value"].mean()[::-1]
    return int(means.index[int(means.argmin())]) if len(means) else int(rows["step"].max())


def _t_test(rule: Paired, scenario: str, values: np.ndarray, lost: int) -> tuple[Evidence, tuple[float, float]]:
    """Return the evidence of paired differences, and the p-values for and against a mean below zero."""
    evidence = Evidence(rule.experiment, scenario, f"{rule.quantity}: {rule.first} less {rule.second}")
    shown = asdict(evidence) | {"compared_with": 0.0, "note": f"{len(values)} repetitions"}
    if lost or len(values) < 2 or not np.isfinite(values).all():
        note = f"{lost} runs ended without a value" if lost else f"{len(values)} repetitions, or infinite values"
        return Evidence(**shown | {"verdict": "inconclusive", "note": note}), (1.0, 1.0)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if error == 0.0:
        held = (float(mean >= 0.0), float(mean <= 0.0))
    else:
        held = (float(stats.t.cdf(mean / error, len(values) - 1)), float(stats.t.sf(mean / error, len(values) - 1)))
    half = float(stats.t.ppf(1.0 - LEVEL, len(values) - 1)) * error
    shown |= {"estimate": _number(mean), "low": _number(mean - half), "high": _number(mean + half), "level": 0.9}
    return Evidence(**shown), held


def _share(rule: Share, table: pd.DataFrame) -> list[Evidence]:
    """Test the share of data sets on which training diverged by exact binomial tests.

    Learning rates share their data, so that those of one data set count once: as diverged if any did, or all must have
    where divergence is what is claimed.
    """
    rows = table[(table["method"] == rule.method) & (table["metric"] == "diverged") & (table["status"] != "error")]
    if rows.empty:
        return []
    runs = rows.groupby(["world", "n", "replicate"])["value"]
    diverged = runs.max() if rule.relation == "<" else runs.min()
    count, total = int(diverged.sum()), len(diverged)
    low = float(stats.beta.ppf(LEVEL, count, total - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1.0 - LEVEL, count + 1, total - count)) if count < total else 1.0
    below, above = float(stats.binom.cdf(count, total, rule.limit)), float(stats.binom.sf(count - 1, total, rule.limit))
    which = "any" if rule.relation == "<" else "every"
    evidence = Evidence(
        study=rule.experiment,
        scenario=f"{', '.join(dict.fromkeys(rows['world']))}; {rule.method}",
        quantity=f"share of data sets with divergence at {which} learning rate",
        estimate=_number(count / total),
        low=_number(low),
        high=_number(high),
        level=0.9,
        compared_with=rule.limit,
        note=f"{count} of {total} data sets, {int(rows['value'].sum())} of {len(rows)} runs",
    )
    return _held([evidence], [(below, above) if rule.relation == "<" else (above, below)])


def _held(found: Sequence[Evidence], tests: Sequence[tuple[float, float]]) -> list[Evidence]:
    """Return evidence with the verdicts of its tests after Holm's correction."""
    for_it, against = (_holm([test[side] for test in tests]) for side in (0, 1))
    held = []
    for evidence, support, opposition in zip(found, for_it, against, strict=True):
        verdict = "supported" if support <= LEVEL else "refuted" if opposition <= LEVEL else "inconclusive"
        p = f"p = {min(support, opposition):.2g} after Holm's correction" if evidence.estimate is not None else ""
        held.append(
            Evidence(**evidence.as_dict() | {"verdict": verdict, "note": "; ".join(filter(None, [evidence.note, p]))})
        )
    return held


def _holm(values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's correction."""
    order = np.argsort(values)
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(np.asarray(values)[order] * (len(values) - np.arange(len(values))))
    return [float(value) for value in np.minimum(adjusted, 1.0)]


def _select(table: pd.DataFrame, where: Values, unless: Values) -> pd.DataFrame:
    """Return the rows of a table with some values and without others."""
    for key, values in where.items():
        table = table[_among(table[key], values)]
    for key, values in unless.items():
        table = table[~_among(table[key], values)]
    return table


def _among(column: pd.Series, values: tuple[Any, ...]) -> np.ndarray:
    """Say which entries of a column are among some values, numbers up to rounding."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        close = np.isclose(column.to_numpy("float64")[:, None], np.asarray(values, dtype="float64"), rtol=1e-12)
        return np.asarray(close.any(axis=1))
    return column.isin(list(values)).to_numpy()


def _scenarios(table: pd.DataFrame, by: tuple[str, ...]) -> list[tuple[str, pd.DataFrame]]:
    """Return the scenarios of a table with their rows, in order of appearance."""
    if table.empty or not by:
        return [] if table.empty else [("", table)]
    groups = table.groupby(list(by), sort=False, observed=True)
    return [(_place(by, key), rows) for key, rows in groups]


def _place(by: tuple[str, ...], values: tuple[Any, ...]) -> str:
    """Return the name of a scenario."""
    return ", ".join(str(v) if k == "world" else f"{k} = {v}" for k, v in zip(by, values, strict=True))


def _number(value: Any) -> float | None:
    """Return a number to six digits, None where it is missing or infinite: results compare equal on any machine."""
    if value is None or pd.isna(value) or math.isinf(value):
        return None
    return 0.0 if abs(value) < _ZERO else float(f"{float(value):.{_DIGITS}g}")


_FINDERS: dict[type, Callable[[Any, pd.DataFrame], list[Evidence]]] = {
    StudyClaim: _study_claim,
    StudyInterval: _study_interval,
    Extreme: _extreme,
    Compare: _compare,
    Paired: _paired,
    Share: _share,
}
