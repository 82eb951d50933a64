"""Result tables with the columns of real ones, for the tests of figures: written by formula, not by an estimator."""

import itertools

import numpy as np
import pandas as pd

from sim.exact_tables import loss_shapes, ratio_shapes

ALPHAS = (0.1, 0.2, 0.5, 0.8)
SIZES = (100, 1_000, 10_000, 100_000)
METHODS = ("sft", "rdro", "ddro", "mle", "dpo")


def summary_row(value, *, exact=None, spread=0.1, share_ok=1.0, **keys):
    """Return one row of a summary around a value."""
    spread = spread * abs(value)
    interval = {"low": value - spread, "high": value + spread}
    quantiles = {"median": value, "q025": value - 2 * spread, "q975": value + 2 * spread}
    return {**keys, "share_ok": share_ok, "mean": value, **interval, **quantiles, "exact": exact}


def write_tables(folder, *, factor=1.0):
    """Write all tables that figures read; another `factor` makes other errors and ratios."""
    tables = {
        "ratio_shapes/table": ratio_shapes(alphas=ALPHAS, decades=(-3.0, 6.0 * factor)),
        "loss_shapes/table": loss_shapes(alphas=(0.2, 0.5, 0.8), log_ratios=(-4.0 * factor, 4.0)),
        "boundedness/summary": _boundedness(factor),
        "class_weighting/summary": _class_weighting(factor),
        "consistency/summary": _consistency(factor),
        "consistency/rates": _rates(factor),
        "arena/summary": _consistency(factor),
        "arena/rates": _rates(factor),
    }
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        if "exact" in table:
            table = table.astype({"exact": "Float64"})  # pandas' NA where a method has no target
        table.to_parquet(path)
    return folder


def _boundedness(factor):
    rows = []
    for alpha, n in itertools.product(ALPHAS, SIZES):
        keys = {"world": "little_overlap", "n": n, "alpha": alpha, "method": "rdro"}
        values = {
            "direct_infinite": np.exp(-factor * n * (1 - alpha) / 3_000),
            "max_relative_estimate": 1 / alpha / (1 + factor * n / 1e5),
            "max_ratio": 1.5 / alpha / (1 + factor * n / 1e5),
            "tv_preferred": 1.0,
        }
        rows += [summary_row(value, metric=metric, **keys) for metric, value in values.items()]
    return pd.DataFrame(rows)


def _class_weighting(factor):
    rows = []
    for alpha, n in itertools.product((0.1, 0.3, 0.5, 0.7, 0.9), SIZES[:3]):
        for method, exact in {"balanced": 0.0, "pooled": factor * abs(alpha - 0.5)}.items():
            keys = {"world": "three_responses", "n": n, "alpha": alpha, "method": method, "metric": "tv_preferred"}
            rows.append(summary_row(exact + n**-0.5, exact=exact, **keys))
    return pd.DataFrame(rows)


def _consistency(factor):
    rows = []
    for world, n, (index, method) in itertools.product(("bradley_terry", "hodge", "arena"), SIZES, enumerate(METHODS)):
        floor, keys = 0.2 * (method == "dpo"), {"world": world, "n": n, "regime": "paired", "method": method}
        error = factor * (1 + index / 5) * n**-0.5
        share = 0.9 if method == "dpo" and n == SIZES[0] else 1.0
        rows.append(summary_row(floor + error, exact=floor, share_ok=share, metric="tv_preferred", **keys))
        rows.append(summary_row(error, exact=0.0, share_ok=share, metric="tv_target", **keys))
    return pd.DataFrame(rows)


def _rates(factor):
    keys = itertools.product(("bradley_terry", "hodge", "arena"), METHODS, ("tv_preferred", "tv_target"))
    slopes = {"slope": -0.5 * factor, "low": -0.5 * factor - 0.01, "high": -0.5 * factor + 0.01}
    rows = [
        {"world": w, "regime": "paired", "method": m, "metric": t, **slopes, "lack_of_fit_p": 0.3} for w, m, t in keys
    ]
    return pd.DataFrame([row for row in rows if (row["method"], row["metric"]) != ("dpo", "tv_preferred")])
