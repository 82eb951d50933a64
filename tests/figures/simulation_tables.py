"""Tables of the studies of errors, rates and wrong assumptions, written by formula; few worlds, to be quick to draw."""

import itertools

import numpy as np
import pandas as pd

from tests.figures.rows import METHODS, SIZES, save_tables, summary_row

TOLD = tuple(f"{method} told {told}" for told in ("0.15", "0.3", "0.45", "0.6") for method in ("rdro", "ddro", "mle"))
WRONG_REFERENCE = ("rdro", "ddro", "mle", "rdro calibrated", "sft")
PROMPT_RATES = (
    *("rdro, one alpha", "rdro, alpha(x)", "ddro, one alpha", "mle, one alpha"),
    *("rdro, alpha(x), weights(x)", "ddro, alpha(x), weights(x)", "mle, alpha(x)", "sft"),
)
NOISY = ("dpo", "kto", "sft", "rdro", "ddro", "mle")


def write(folder, factor):
    """Write the tables; another `factor` makes other errors, slopes and distances."""
    worlds = ("bradley_terry", "hodge")
    tables = {
        "consistency/summary": _consistency(factor, worlds),
        "consistency/rates": _rates(factor, worlds, regime="paired"),
        "arena/summary": _consistency(factor, ("arena", "arena, Bradley-Terry")),
        "arena/rates": _rates(factor, ("arena",), regime="unpaired"),
        "wrong_alpha/summary": _assumption(factor, (*TOLD, "rdro plug-in", "sft"), world="five_responses"),
        "wrong_reference/summary": pd.concat(
            _assumption(factor, WRONG_REFERENCE, world="tabular", reference_error=size) for size in (0.0, 0.3)
        ),
        "label_noise/summary": pd.concat(
            _assumption(factor, NOISY, world=world, label_noise=noise)
            for world, noise in itertools.product(("thumbs", "pairs"), (0.0, 0.1))
        ),
        "label_noise/rates": _rates(factor, ("thumbs", "pairs"), label_noise=0.0),
        "prompt_rates/summary": _assumption(factor, PROMPT_RATES, world="unequal rates"),
        "bt_distance/table": _distances(factor),
    }
    save_tables(folder, tables)


def _consistency(factor, worlds):
    rows = []
    for world, n, (index, method) in itertools.product(worlds, SIZES, enumerate(METHODS)):
        floor, keys = 0.2 * (method == "dpo"), {"world": world, "n": n, "regime": "paired", "method": method}
        error = factor * (1 + index / 5) * n**-0.5
        share = 0.9 if method == "dpo" and n == SIZES[0] else 1.0
        rows.append(summary_row(floor + error, exact=floor, share_ok=share, metric="tv_preferred", **keys))
        rows.append(summary_row(floor + error, exact=floor, metric="tv_preferred", **keys | {"regime": "unpaired"}))
    return pd.DataFrame(rows)


def _rates(factor, worlds, **keys):
    slope = -0.5 + 0.02 * factor
    fitted = {"slope": slope, "low90": slope - 0.01, "high90": slope + 0.01, "points": 4}
    fitted |= {"low": slope - 0.012, "high": slope + 0.012}
    return pd.DataFrame(
        {"world": w, "method": m, "metric": t, **keys, **fitted, "lack_of_fit_p": 0.001 if m == "sft" else 0.3}
        for w, m, t in itertools.product(worlds, METHODS, ("tv_preferred", "tv_target"))
    )


def _assumption(factor, methods, **keys):
    rows = []
    for n, (index, method) in itertools.product(SIZES, enumerate(methods)):
        floor = 0.05 * (index + 1) * (index < len(methods) // 2)
        row = summary_row(floor + factor * n**-0.5, exact=floor, n=n, method=method, metric="tv_preferred", **keys)
        rows.append(row)
    return pd.DataFrame(rows)


def _distances(factor):
    rows = []
    for index, world in enumerate(("bradley_terry", "votes", "hodge", "hodge, 0.1 cyclic")):
        votes = world == "votes"
        null = {"null_mean": 0.005 * votes, "null_low": 0.004 * votes, "null_high": 0.006 * votes}
        evidence = {"replicates": 100 * votes, "p_value": 0.01 if votes else np.nan}
        for quantity in ("size", "shape", "weak", "moderate", "strong"):
            value = factor * 0.1 * index * (0.1 if quantity == "size" else 1.0)
            keys = {"world": world, "preference": world.split(",")[0], "items": 5, "comparisons": 1_000 * votes}
            rows.append({**keys, "quantity": quantity, "value": value, **null, **evidence})
    return pd.DataFrame(rows)
