"""What a study found, as text: means beside exact targets, failures, rates and the verdicts of its claims."""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from sim.claims.verdicts import VERDICTS
from sim.commands.layout import aligned, number
from sim.commands.results import Results
from sim.engine.run_ids import swept_of_run
from theory.checks import check_choice

__all__ = ["summary_text", "verdict_counts", "verdict_lines"]

_PREFERRED = "tv_preferred"
_EXACT_ROWS = 20
_SHOWN = 3
_EXPECTED, _NOT_RUN = "as expected", "not run"


def summary_text(
    results: Results, *, metric: str | None = None, world: str | None = None, methods: Sequence[str] = ()
) -> str:
    """Return the tables of a study for a reader.

    Parameters
    ----------
    results : Results
        A study whose tables are there.
    metric : str, optional
        Which metric; default the distance to the preferred law, or the first metric of a study without it.
    world : str, optional
        Which world; default all.
    methods : sequence of str
        Labels of methods; default all.

    Returns
    -------
    str
        For each world a table of means with 95 % intervals, exact targets and shares of failures; then the rates; then
        the verdicts.

    Raises
    ------
    ValueError
        If the study has no such metric, world or method; the nearest is named.
    FileNotFoundError
        If the tables are not there.
    """
    if results.settings["kind"] == "exact":
        return _exact_text(results)
    summary = results.table("summary")
    metrics = summary["metric"].unique().tolist()
    chosen = metric or (_PREFERRED if _PREFERRED in metrics else metrics[0])
    _check(results.study, summary, metric=chosen, world=world, method=methods)
    rows = _chosen(summary, chosen, world, methods)
    others = [name for name in metrics if name != chosen]
    heading = f"{results.study} ({results.profile}), metric {chosen}"
    blocks = [heading + (f"; others by --metric: {', '.join(others)}" if others else "")]
    blocks += [_means_text(group) for _, group in rows.groupby("world", sort=False)]
    rates = _chosen(results.table("rates"), chosen, world, methods)
    if len(rates):
        blocks.append(_rates_text(rates))
    verdicts = results.table("verdicts")
    if len(verdicts):
        blocks.append(verdict_lines(verdicts))
    return "\n\n".join(blocks)


def verdict_counts(verdicts: pd.DataFrame) -> str:
    """Return how many scenarios of claims got which verdict, and how the controls came out, in one line.

    Parameters
    ----------
    verdicts : DataFrame
        From `sim.claims.verdicts.judge`: columns claim, world, where, verdict, control ("positive", "negative" or
        "none") and as_expected, missing where a control was not run.

    Returns
    -------
    str
        The line; controls that did not come out as expected are named.

    Examples
    --------
    >>> rows = {"claim": ["a", "b"], "verdict": ["supported", "rejected"], "control": ["positive", "negative"]}
    >>> print(verdict_counts(pd.DataFrame(rows | {"as_expected": [True, True]})))
    claims: 1 supported, 1 rejected, 0 inconclusive, 0 not run; controls: 2 of 2 as expected
    """
    counts = verdicts["verdict"].value_counts()
    text = "claims: " + ", ".join(f"{counts.get(verdict, 0)} {_words(verdict)}" for verdict in VERDICTS)
    controls = verdicts[verdicts["control"] != "none"]
    if controls.empty:
        return f"{text}; no controls"
    outcomes = controls.apply(_expectation, axis=1)
    run = outcomes[outcomes != _NOT_RUN]
    text += f"; controls: {(run == _EXPECTED).sum()} of {len(run)} as expected"
    text += f", {len(outcomes) - len(run)} not run" if len(run) < len(outcomes) else ""
    others = controls.loc[run.index[run != _EXPECTED]].to_dict("records")
    named = [
        f"{row['control']} control {row['claim']!r} in {_scenario(row)}: {_words(row['verdict'])}" for row in others
    ]
    more = f"; and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return text + (f", not the {'; '.join(named[:_SHOWN])}{more}" if named else "")


def verdict_lines(verdicts: pd.DataFrame) -> str:
    """Return the verdicts as a table of text, scenario by scenario.

    Parameters
    ----------
    verdicts : DataFrame
        From `sim.claims.verdicts.judge`.

    Returns
    -------
    str
        A line of counts, and one line for each claim and scenario.
    """
    rows = [["claim", "world", "method", "metric", "verdict", "control", "estimate [90 % interval]", "p (Holm)"]]
    for row in verdicts.to_dict("records"):
        control = "-" if row["control"] == "none" else f"{row['control']}, {_expectation(row)}"
        rows.append(
            [
                *(row["claim"], _scenario(row), row["method"], row["metric"]),
                *(_words(row["verdict"]), control, _interval(row, "estimate"), number(row["p_holm"])),
            ]
        )
    return f"{verdict_counts(verdicts)}\n{aligned(rows, text_columns=6)}"


def _scenario(row: Mapping[Hashable, Any]) -> str:
    """Return world and swept settings of a verdict."""
    return ", ".join([row["world"], *(f"{name} = {value}" for name, value in json.loads(row["where"]).items())])


def _words(verdict: str) -> str:
    """Return a verdict in words."""
    return verdict.replace("_", " ")


def _expectation(row: Mapping[Hashable, Any]) -> str:
    """Return how a claim came out beside what was expected of it."""
    if pd.isna(row["as_expected"]):
        return _NOT_RUN
    return _EXPECTED if row["as_expected"] else "NOT as expected"


def _exact_text(results: Results) -> str:
    """Return the beginning of an exact table."""
    table = results.table("table")
    shown = table.head(_EXACT_ROWS).to_string(index=False)
    more = f"\n... {len(table) - _EXACT_ROWS} more rows" if len(table) > _EXACT_ROWS else ""
    return f"{results.study}: exact table of {len(table)} rows\n\n{shown}{more}"


def _check(study: str, summary: pd.DataFrame, *, metric: str, world: str | None, method: Sequence[str]) -> None:
    """Raise, naming the nearest, if a study has no such metric, world or method."""
    asked = {"metric": [metric], "world": [world] if world else [], "method": list(method)}
    for column, values in asked.items():
        for value in values:
            check_choice(f"{column} of {study}", value, summary[column].unique().tolist())


def _chosen(table: pd.DataFrame, metric: str, world: str | None, methods: Sequence[str]) -> pd.DataFrame:
    """Return the rows asked for."""
    table = table[table["metric"] == metric]
    if world:
        table = table[table["world"] == world]
    return table[table["method"].isin(methods)] if methods else table


def _means_text(group: pd.DataFrame) -> str:
    """Return the rows of one world."""
    swept = swept_of_run(list(group.columns))
    # Curve by curve: all sample sizes of a method at one swept setting stand below each other.
    group = group.sort_values(
        [*swept, "method", "n"], kind="stable", key=lambda c: c if c.name != "method" else _order(c)
    )
    rows = [["method", *swept, "n", "mean [95 % interval]", "exact", "failed"]]
    rows += [
        [
            row["method"],
            *(number(row[name]) for name in swept),
            f"{row['n']:,}",
            _interval(row, "mean"),
            number(row["exact"]),
            _failures(row),
        ]
        for row in group.to_dict("records")
    ]
    return f"world {group['world'].iloc[0]}\n{aligned(rows)}"


def _order(column: pd.Series) -> pd.Series:
    """Return the place of each value in the order of appearance."""
    return pd.Series(pd.factorize(column)[0], index=column.index)


def _rates_text(rates: pd.DataFrame) -> str:
    """Return the fitted rates."""
    swept = list(rates.columns)[list(rates.columns).index("world") + 1 : list(rates.columns).index("method")]
    rows = [["world", "method", *swept, "slope [95 % interval]", "points", "lack of fit p"]]
    rows += [
        [
            row["world"],
            row["method"],
            *(number(row[name]) for name in swept),
            _interval(row, "slope"),
            str(row["points"]),
            number(row["lack_of_fit_p"]),
        ]
        for row in rates.to_dict("records")
    ]
    return f"rates: slopes of log mean on log n\n{aligned(rows, text_columns=2)}"


def _interval(row: Mapping[Hashable, Any], name: str) -> str:
    """Return a value with its interval."""
    return f"{number(row[name])} [{number(row['low'])}, {number(row['high'])}]"


def _failures(row: Mapping[Hashable, Any]) -> str:
    """Return the shares of replicates that failed, by what became of them."""
    kinds = ("nonconverged", "diverged", "error", "timeout")
    shares = {kind: row.get(f"share_{kind}", 0.0) for kind in kinds}
    return ", ".join(f"{kind} {share:.2%}" for kind, share in shares.items() if share > 0) or "none"
