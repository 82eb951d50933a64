"""Tables of language models and of benchmarks with the columns of real ones, written by formula."""

import itertools

import numpy as np
import pandas as pd

# How far each method's exact target is from the preferred law.
METHODS = {
    "rdro": 0.004,
    "rdro, KL generator": 0.004,
    "ddro, extended": np.nan,
    "mle, rows beyond left out": 0.004,
    "sft": 0.0,
    "kto, beta .1": np.inf,
    "kto, beta 1": np.inf,
    "dpo, beta .1": 28.0,
    "dpo, beta 1": 0.5,
    "ipo, beta 1": 0.09,
}
ALPHA = {
    "true alpha .5": (
        *("rdro, told the truth", "rdro, told .2", "rdro, told .8"),
        *("ddro, extended, told .2", "ddro, extended, told .5", "ddro, extended, told .8", "sft"),
    ),
    "true alpha .2": ("rdro, told the truth", "sft"),
    "true alpha .8": ("rdro, told the truth", "sft"),
}
RATES_BY_PROMPT = (
    *("rdro, one alpha", "rdro, alpha(x)", "rdro, alpha(x), weights by prompt"),
    *("rdro, counted alpha(x), weights by prompt", "mle, alpha(x), rows beyond left out", "sft"),
)
REFERENCES = ("trained briefly", "trained well", "trained briefly, exact log-probabilities")
THREE = ("rdro", "ddro, extended", "sft")
STABILITY = ("rdro", "ddro", "ddro, extended", "mle", "sft")
STEPS = (0, 20, 40)
REPLICATES = 3


def write(folder, factor):
    """Write the tables of experiments and benchmarks; another `factor` makes other errors and costs."""
    stability = _stability(factor)
    experiments = {
        "methods": _training(factor, [("good overlap", METHODS)], rates=(3e-4, 1e-3)),
        "sample_size": _training(factor, [("good overlap", THREE)], sizes=(256, 1024, 4096)),
        "weighting": _training(
            factor, [(world, ("balanced", "pooled")) for world in ("alpha .5, labels .2", "alpha .2, labels .2")]
        ),
        "alpha": _training(factor, list(ALPHA.items())),
        "rates_by_prompt": _training(factor, [("rates .1 to .9", RATES_BY_PROMPT)]),
        "reference_error": _training(factor, [(world, THREE) for world in REFERENCES]),
        "stability": stability,
    }
    for name, metrics in experiments.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        metrics = metrics.assign(study=name)
        metrics.to_parquet(folder / name / "metrics.parquet")
        summarise(metrics).to_parquet(folder / name / "summary.parquet")
    (folder / "benchmarks").mkdir(exist_ok=True)
    _benchmarks(factor).to_csv(folder / "benchmarks" / "published.csv", index=False)


def summarise(metrics):
    """Return the summary of metrics, with intervals that reach from the least to the largest value."""
    keys = ["study", "world", "n", "learning_rate", "method", "step", "metric"]
    diverged = metrics["status"] == "diverged"
    grouped = metrics.assign(diverged=diverged, finite=np.isfinite(metrics["value"])).groupby(keys, sort=False)
    table = grouped.agg(
        replicates=("replicate", "nunique"),
        share_diverged=("diverged", "mean"),
        finite=("finite", "sum"),
        mean=("value", "mean"),
        low=("value", "min"),
        high=("value", "max"),
        exact=("exact", "mean"),
    ).reset_index()
    shares = {"share_diverged_low": 0.6 * table["share_diverged"], "share_error": 0.0}
    return table.assign(share_diverged_high=0.5 + 0.5 * table["share_diverged"], **shares)


def _training(factor, worlds, *, sizes=(2048,), rates=(3e-4,)):
    """Return metrics of runs that end well, nearer to the preferred law the more steps and examples they had."""
    rows = []
    runs = [(world, method) for world, methods in worlds for method in methods]
    cells = itertools.product(runs, sizes, rates, range(REPLICATES))
    for (world, method), n, rate, replicate in cells:
        keys = {"world": world, "n": n, "learning_rate": rate, "method": method, "replicate": replicate}
        keys |= {"status": "ok"}
        place = [own for own, _ in runs].index(world) + list(dict(worlds)[world]).index(method)
        exact = METHODS.get(method, 0.02 * (place + 1))
        for step in STEPS:
            own = 0.2 if step == 0 else factor * (0.1 + 0.02 * place) * (1.0 + 20.0 / step) * n**-0.1
            own *= 1.0 + 0.1 * replicate
            rows.append({**keys, "step": step, "metric": "kl_preferred", "value": own, "exact": exact})
            rows.append({**keys, "step": step, "metric": "kl_target", "value": 0.8 * own, "exact": 0.0})
            if step:
                rows.append({**keys, "step": step, "metric": "held_out_loss", "value": own + 0.01, "exact": np.nan})
    return pd.DataFrame(rows)


def _stability(factor):
    """Return metrics of runs of which those of strict losses stop after two steps."""
    rows = []
    worlds = ("good overlap", "poor overlap", "long completions")
    cells = itertools.product(worlds, (1e-4, 1e-3), enumerate(STABILITY), range(REPLICATES))
    for world, rate, (place, method), replicate in cells:
        stopped = method in ("ddro", "mle") and (rate > 5e-4 or replicate > 0)
        keys = {"world": world, "n": 2048, "learning_rate": rate, "method": method, "replicate": replicate}
        keys |= {"status": "diverged" if stopped else "ok", "exact": np.nan}
        values = {
            "diverged": float(stopped),
            "steps_taken": 2.0 if stopped else 40.0,
            "largest_grad_norm": factor * (1.0 + place) * (1.0 + replicate),
            "last_kl_preferred": factor * 0.1 * (1.0 + place) * (1.0 + 0.1 * replicate),
        }
        rows += [{**keys, "step": 40, "metric": metric, "value": value} for metric, value in values.items()]
        rows.append({**keys, "step": 0, "metric": "kl_preferred", "value": 0.3 + 0.1 * worlds.index(world)})
    return pd.DataFrame(rows)


def _benchmarks(factor):
    """Return costs that grow with the size of the problem, more so for peers."""
    rows = []
    curves = (
        ("sample_size", "examples", (10**3, 10**6, 10**9), ("time a replicate",)),
        ("tabular_fit", "responses", (20, 200), ("time a fit",)),
        ("lm_head", "width", (128, 896), ("time a pass", "CPU time a pass", "peak memory")),
        ("lm_head", "vocabulary", (32_000, 151_936), ("time a pass", "peak memory")),
    )
    for question, name, sizes, quantities in curves:
        for size, quantity, role in itertools.product(sizes, quantities, ("ours", "peer")):
            cost = factor * (1.0 if role == "ours" else 10.0) * size**0.3
            rows.append(_cost(question, role, role, name, size, quantity, cost))
    trainers = {"relratio": "ours", "relratio, full": "ours", "trl": "peer", "trl, lean": "peer"}
    for (place, (trainer, role)), quantity in itertools.product(
        enumerate(trainers.items()), ("time a step", "CPU time a step", "peak memory")
    ):
        rows.append(_cost("lm_step", trainer, role, "vocabulary", 32_000, quantity, factor * (1.0 + place)))
    return pd.DataFrame(rows)


def _cost(question, contender, role, size_name, size, quantity, cost):
    """Return one row of published measurements."""
    named = {"question": question, "contender": contender, "role": role, "size_name": size_name, "size": size}
    spread = {"median": cost, "low": 0.9 * cost, "high": 1.2 * cost, "repetitions": 3}
    about = {"processor": "CPU", "cores": 2, "threads": 1, "load": 0.1, "versions": "python 3.11"}
    return {**named, "quantity": quantity, "unit": "MiB" if "memory" in quantity else "s", **spread, **about}
