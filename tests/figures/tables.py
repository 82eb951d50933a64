"""Result tables with the columns of real ones, for the tests of figures: written by formula, not by an estimator."""

import itertools

import numpy as np
import pandas as pd

from sim.exact_tables import efficiencies, loss_shapes, ratio_shapes
from tests.figures import language_model_tables, simulation_tables
from tests.figures.rows import ALPHAS, SIZES, save_tables, summary_row

OVERLAPS = (1.0, 0.1, 0.01)
LAWS = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6]}


def write_tables(folder, *, factor=1.0):
    """Write all tables that figures read; another `factor` makes other errors and ratios."""
    exact = _efficiencies(factor)
    tables = {
        "ratio_shapes/table": ratio_shapes(alphas=ALPHAS, decades=(-3.0, 6.0 * factor)),
        "loss_shapes/table": loss_shapes(alphas=(0.2, 0.5, 0.8), log_ratios=(-4.0 * factor, 4.0)),
        "boundedness/summary": _boundedness(factor),
        "class_weighting/summary": _class_weighting(factor),
        "dynamics/summary": _dynamics(factor),
        "overlap/summary": _overlap(factor),
        "efficiencies/table": exact,
        "constants/summary": _constants(exact),
    }
    save_tables(folder, tables)
    simulation_tables.write(folder, factor)
    language_model_tables.write(folder, factor)
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


def _dynamics(factor):
    rows = []
    grid = itertools.product(("sgd", "adam", "sgd_clipped"), ("rdro", "ddro", "mle", "ddro_extend"), OVERLAPS)
    for (world, method, overlap), rate in itertools.product(grid, (0.03, 0.3, 3.0)):
        share = factor * min(rate / overlap / 300.0, 1.0) if method in ("ddro", "mle") else 0.0
        keys = {"world": world, "n": 1_000, "overlap": overlap, "learning_rate": rate, "method": method}
        keys |= {"replicates": 100}
        rows.append(summary_row(share, metric="diverged", **keys))
        rows.append(summary_row(0.1, metric="tv_preferred", share_ok=0.8, **keys))
    return pd.DataFrame(rows)


def _overlap(factor):
    rows = []
    for overlap, n in itertools.product(OVERLAPS, (300, 1_000)):
        for index, method in enumerate(("sft", "mle", "rdro", "ddro", "ddro extend", "ddro least_squares", "ddro kl")):
            share = factor * (1.0 - overlap) if index > 4 else 0.0
            failed = {
                "share_failed": share,
                "share_failed_low": 0.9 * share,
                "share_failed_high": min(1.1 * share, 1.0),
            }
            error = factor * (0.02 + 0.01 * index + 0.02 * overlap)
            row = summary_row(
                error, metric="tv_preferred", n=n, overlap=overlap, method=method, replicates=500, **failed
            )
            rows.append({**row, "q975_low": row["q975"] - 0.002, "q975_high": row["q975"] + 0.002})
    return pd.DataFrame(rows)


def _efficiencies(factor):
    table = efficiencies(alphas=ALPHAS, **LAWS)
    return table.assign(efficiency=1.0 - factor * (1.0 - table["efficiency"]))


def _constants(table):
    names = table["method"] + np.where(table["generator"] == "none", "", " " + table["generator"])
    keys = zip(table["alpha"], names, table["asymptotic_kl"], strict=True)
    rows = [
        summary_row(limit, spread=0.02, n=100_000, alpha=alpha, method=name, metric="scaled_kl", replicates=4_000)
        for alpha, name, limit in keys
    ]
    return pd.DataFrame(rows)
