"""Result tables for one rule of a claim, that speak for it or against it: written by formula, not by an estimator."""

import itertools

import numpy as np
import pandas as pd

from figures.judging.rules import Compare, Extreme, Paired, Share, StudyClaim, StudyInterval

OPPOSITE = {"supported": "rejected", "rejected": "supported"}
SETTINGS = {
    "alpha": 0.2,
    "preferred": True,
    "largest_ratio": 10.0,
}  # values of columns that make scenarios, where a rule names none


def write_rules(folder, rules, *, holds):
    """Write the tables of some rules so that all of them hold, or that none does."""
    rows = {}
    for rule in rules:
        keyed = rows.setdefault(rule.table, {})
        for row in rule_rows(rule, holds=holds):
            key = tuple(sorted((name, str(row[name])) for name in _identity(rule, row)))
            keyed[key] = keyed.get(key, {}) | row  # rules about the same rows share them
    for table, keyed in rows.items():
        path = folder / f"{table}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(list(keyed.values())).to_parquet(path)
    return folder


def _identity(rule, row):
    match rule:
        case Extreme():
            return {*rule.by, *rule.where} & set(row)
        case Compare():
            return {*rule.by, *rule.first, *rule.second} & set(row)
    return set(row)


def rule_rows(rule, *, holds):
    """Return rows that speak for a rule, or against it."""
    match rule:
        case StudyClaim() | StudyInterval():
            return _study_rows(rule, holds)
        case Extreme():
            return _extreme_rows(rule, holds)
        case Compare():
            return _compare_rows(rule, holds)
        case Paired():
            return _paired_rows(rule, holds)
        case Share():
            return _share_rows(rule, holds)


def _study_rows(rule, holds):
    # A control with the opposite verdict stands beside each row: it must not count.
    verdict = "supported" if holds == getattr(rule, "holds", True) else "rejected"
    middle = getattr(rule, "above", 0.0) + (0.5 if holds else -0.5)
    rows = []
    for method, world in itertools.product(rule.methods or ("some",), rule.worlds or ("some",)):
        row = {"claim": rule.claim, "kind": "rate", "world": world, "where": '{"alpha": 0.2}', "method": method}
        row |= {"metric": "tv_preferred", "estimate": middle, "low": middle - 0.1, "high": middle + 0.1}
        row |= {"exact": -0.5, "verdict": verdict, "control": "none", "note": ""}
        control = {"verdict": OPPOSITE[verdict], "control": "positive", "low": -middle - 0.1, "high": -middle + 0.1}
        rows += [row, row | control]
    return rows


def _extreme_rows(rule, holds):
    row = {key: values[0] for key, values in rule.where.items()}
    row |= {key: SETTINGS[key] for key in (*rule.by, *rule.unless) if key not in row}
    bound = rule.bound
    if isinstance(bound, str):
        bound = 1.0 / row[bound[2:]] if bound.startswith("1/") else row.setdefault(bound, 5.0)
    step = 0.0 if holds and "=" in rule.relation else 0.05
    return [row | {rule.column: bound + (step if (">" in rule.relation) == holds else -step)}]


def _compare_rows(rule, holds):
    first, second = (1.1, 1.0) if (rule.relation == ">") == holds else (1.0, 1.1)
    keys = {key: SETTINGS[key] for key in rule.by}
    sides = zip((rule.first, rule.second), (first, second), strict=True)
    return [keys | {key: values[0] for key, values in side.items()} | {rule.column: value} for side, value in sides]


def _paired_rows(rule, holds):
    rows = []
    for world, (replicate, noise) in itertools.product(rule.worlds or ("some",), enumerate((0.0, 0.02, -0.01, 0.01))):
        values = {rule.first: 1.0 + noise, rule.second: (2.0 if holds else 0.5) + replicate}
        values[rule.first] += replicate  # repetitions differ by far more than methods do
        for method, value in values.items():
            keys = {"world": world, "n": 10, "learning_rate": 1e-3, "method": method, "replicate": replicate}
            keys |= {"status": "ok", "step": 5}
            rows.append(keys | {"metric": rule.metric, "value": value})
            rows.append(keys | {"metric": "held_out_loss", "value": 1.0})
    return rows


def _share_rows(rule, holds):
    diverged = float((rule.relation == ">") == holds)
    keys = {"world": "some", "n": 10, "learning_rate": 1e-3, "method": rule.method, "status": "ok", "step": 5}
    return [keys | {"replicate": index, "metric": "diverged", "value": diverged} for index in range(20)]


def metrics(differences, *, first="a", second="b", step=5, metric="kl_preferred", **keys):
    """Return rows of two methods with given paired differences, and held-out losses that prefer the step."""
    rows = []
    for replicate, difference in enumerate(np.atleast_1d(differences)):
        for method, value in ((first, replicate + difference), (second, float(replicate))):
            row = {"world": "w", "n": 10, "learning_rate": 1e-3, "method": method, "replicate": replicate}
            row |= {"status": "ok", "step": step, **keys}
            rows += [row | {"metric": metric, "value": value}, row | {"metric": "held_out_loss", "value": 1.0}]
    return pd.DataFrame(rows)
