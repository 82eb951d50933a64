"""What an experiment found, as text: one table for its question, with uncertainty and the runs that diverged."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lm.validation.experiments import Experiment
from lm.validation.outcome import WHOLE_RUN
from lm.validation.tables import mean_interval, share_interval

__all__ = ["READING", "answer", "chosen_settings"]

READING = {
    "error": "KL in nats and TV: mean ± half the width of t's 95 % interval over repetitions, each with languages, "
    "reference, data and order of its own; differences are paired. Rate and step are those of the method's least loss "
    "on held-out examples, among the rates at which the fewest runs diverged; the whole grid is in summary.parquet.",
    "stability": "A run diverged when a loss that is not finite stopped it, after so many steps at the median; "
    "intervals are exact (Clopper-Pearson). Gradients (before clipping) and log-ratios are the largest of each run; "
    "beyond log(1/alpha): largest share of a batch. Last weights: those before the step that diverged, or at the end.",
}
"""How to read the table of each kind of report."""

_CELL = ["world", "n"]
_SETTING = ["learning_rate", "step"]
_ROUNDING = 1e-12


def answer(experiment: Experiment, folder: Path) -> str:
    """Return the answer to an experiment's question.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    folder : Path
        Where its tables are.

    Returns
    -------
    str
        The question and a table, to be read as `READING` says.
    """
    metrics, runs = (pd.read_parquet(folder / f"{name}.parquet") for name in ("metrics", "runs"))
    heading = f"{experiment.name}: {experiment.question}"
    if (runs["status"] == "error").all():
        return f"{heading}\nno run ended without an error"
    metrics, runs = metrics[metrics["status"] != "error"], runs[runs["status"] != "error"]
    body = _errors(experiment, metrics, runs) if experiment.report == "error" else _stability(metrics)
    return f"{heading}\n{body}"


def chosen_settings(metrics: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Choose learning rate and step of each method as its user could: by its own loss on held-out examples.

    Among learning rates at which the fewest runs diverged, the rate and step of least mean held-out loss over all
    repetitions, each of which uses them. Where it is infinite throughout (mle beyond its domain, whose infinite rows
    training leaves out), the last step at the smallest rate.

    Parameters
    ----------
    metrics, runs : DataFrame
        Tables of an experiment.

    Returns
    -------
    DataFrame
        Columns world, n, method, learning_rate and step; a method whose runs all diverged is left out.
    """
    diverged = (runs["status"] == "diverged").groupby([runs[name] for name in (*_CELL, "method", "learning_rate")])
    losses = metrics[(metrics["metric"] == "held_out_loss") & (metrics["status"] == "ok")]
    # An infinite loss, of a held-out completion beyond the domain of ddro or mle, is worse than any number.
    means = losses.groupby([*_CELL, "method", *_SETTING], sort=False)["value"].mean().rename("loss").reset_index()
    means = means.merge(diverged.sum().rename("diverged").reset_index())
    means["left"] = -means["step"]
    ordered = means.sort_values(["diverged", "loss", "left", "learning_rate"], kind="stable")
    return ordered.groupby([*_CELL, "method"], sort=False).head(1)[[*_CELL, "method", *_SETTING]]


def _errors(experiment: Experiment, metrics: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Return distances from the exact laws at each method's own best learning rate and step."""
    chosen = chosen_settings(metrics, runs)
    found = metrics[metrics["status"] == "ok"].merge(chosen)
    exact = bool((metrics["metric"] == "tv_preferred").any())
    head = ["world", "n", "method", "rate", "step", "KL(p+|policy)", f"minus {experiment.baseline}"]
    head += ["at its target", "TV from p+", "KL(target|policy)"] if exact else []
    rows = [[*head, "diverged"]]
    for (world, n), cell in runs.groupby(_CELL, sort=False):
        rows.append(_reference_row(metrics, world, n, exact))
        here = found[(found["world"] == world) & (found["n"] == n)]
        base = _by_replicate(here, experiment.baseline, "kl_preferred")
        for label in [m.label for m in experiment.methods if m.label in set(cell["method"])]:
            own = cell[cell["method"] == label]
            mine = _by_replicate(here, label, "kl_preferred")
            setting = chosen[(chosen["world"] == world) & (chosen["n"] == n) & (chosen["method"] == label)]
            if not len(setting):
                blank = ["-"] * (len(rows[0]) - 4)
                rows.append([world, f"{n:,}", label, *blank, f"{len(own)}/{len(own)}"])
                continue
            rate, step = setting.iloc[0][["learning_rate", "step"]]
            own = own[own["learning_rate"] == rate]
            difference = (mine - base).dropna().to_numpy()
            line = [world, f"{n:,}", label, f"{rate:g}", f"{int(step)}", _interval(mine.to_numpy())]
            line.append("" if label == experiment.baseline else _interval(difference, signed=True))
            if exact:
                target = here[(here["method"] == label) & (here["metric"] == "kl_preferred")]["exact"]
                line.append(_number(target.mean()))
                line += [_interval(_by_replicate(here, label, m).to_numpy()) for m in ("tv_preferred", "kl_target")]
            rows.append([*line, f"{(own['status'] == 'diverged').sum()}/{len(own)}"])
    return _aligned(rows, 3)


def _reference_row(metrics: pd.DataFrame, world: str, n: int, exact: bool) -> list[str]:
    """Return the line of the reference, which has an error of its own."""
    start = metrics[(metrics["world"] == world) & (metrics["n"] == n) & (metrics["step"] == 0)]
    first = start.groupby(["metric", "replicate"])["value"].first()  # equal for all methods and rates
    own_error = _interval(first["kl_mixture"].to_numpy())
    line = [world, f"{n:,}", "(reference)", "", "0", _interval(first["kl_preferred"].to_numpy()), ""]
    if exact:
        line += ["", _interval(first["tv_preferred"].to_numpy()), ""]
    return [*line, f"KL(m|reference) {own_error}"]


def _stability(metrics: pd.DataFrame) -> str:
    """Return what happened over the whole grid of learning rates."""
    rows = [
        [
            *("world", "method", "rate", "diverged", "95 % interval", "after steps", "further than reference"),
            *("gradient: median", "largest", "largest log-ratio", "beyond log(1/alpha)", "KL(p+|policy), last weights"),
        ]
    ]
    keys = ["world", "method", "learning_rate"]
    values = metrics[metrics["metric"].isin(WHOLE_RUN)].pivot_table(
        index=[*keys, "n", "replicate"], columns="metric", values="value"
    )
    cells = [
        ((*key[:2], f"{key[2]:g}"), values.loc[key])
        for key in metrics[keys].drop_duplicates().itertuples(index=False, name=None)
    ]
    totals = [(("all", label, "all"), values.xs(label, level="method")) for label in metrics["method"].unique()]
    for place, own in [*cells, *totals]:
        count, total = int(own["diverged"].sum()), len(own)
        low, high = share_interval(count, total)
        gradients, beyond = (
            own[name].dropna() if name in own else pd.Series(dtype=float)
            for name in ("largest_grad_norm", "largest_share_over_bound")
        )
        rows.append(
            [
                *place,
                *(f"{count}/{total}", f"{low:.2f} to {high:.2f}"),
                _number(own["steps_taken"][own["diverged"] == 1.0].median()),
                f"{int(own['further_than_reference'].sum())}/{total}",
                *(_number(gradients.median()), _number(gradients.max())),
                *(_number(own["largest_log_ratio"].max()), _number(beyond.max())),
                _interval(own["last_kl_preferred"].to_numpy()) if place[0] != "all" else "",
            ]
        )
    return _aligned(rows, 2)


def _by_replicate(table: pd.DataFrame, method: str, metric: str) -> pd.Series:
    """Return a metric of a method by repetition."""
    rows = table[(table["method"] == method) & (table["metric"] == metric)]
    return rows.set_index("replicate")["value"]


def _interval(values: np.ndarray, *, signed: bool = False) -> str:
    """Return a mean with half the width of its interval."""
    mean, _, low, high = mean_interval(values)
    if math.isnan(mean):
        return "-"
    shown = f"{mean:+.4f}" if signed else f"{mean:.4f}"
    return shown if math.isnan(low) else f"{shown} ± {0.5 * (high - low):.4f}"


def _number(value: float) -> str:
    """Return a number to four significant digits, "-" where there is none."""
    return "-" if math.isnan(value) else f"{0.0 if abs(value) < _ROUNDING else value:.4g}"


def _aligned(rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """Return rows as lines of aligned columns, the first ones flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
