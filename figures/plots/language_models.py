"""What figures of language models share: looks of what `lm validate` compares, and the points that are drawn.

Experiments repeat each run with languages, reference, data and order of its own. Their summaries hold means over
repetitions with 95 % t intervals, and the distance of each method's exact target, where there is one.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures.style import METHOD_STYLES, LineStyle, method_shades
from figures.tables import only_series

__all__ = [
    "MARGIN",
    "STYLES",
    "add_reference",
    "add_targets",
    "at_last_step",
    "at_least_held_out_loss",
    "differences",
    "errors",
    "own_target",
    "plain_numbers",
    "plot_rows",
    "select",
]

MARGIN = 1e-9
"""A distance below this is the rounding of one that is 0."""

_REFERENCE: dict[str, Any] = {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (1, 2))}


def _variant(method: str, label: str, marker: str, dash: Any) -> LineStyle:
    """Return the look of a variant of a method: lighter, with a marker and a dash of its own."""
    return LineStyle(label, method_shades(method, range(2))[0], marker, dash)


def _named(method: str, label: str) -> LineStyle:
    """Return the look of a method under another name."""
    style = METHOD_STYLES[method]
    return LineStyle(label, style.colour, style.marker, style.dash)


STYLES: dict[str, LineStyle] = {
    "rdro": METHOD_STYLES["rdro"],
    "rdro, KL generator": _variant("rdro", "RDRO, KL generator", "p", (0, (3, 1, 1, 1, 1, 1))),
    "ddro": _named("ddro", "DDRO, strict"),
    "ddro, extended": _variant("ddro", "DDRO, extended", "d", (0, (2, 1))),
    "mle": METHOD_STYLES["mle"],
    "mle, rows beyond left out": _variant("mle", "MLE, rows left out", "<", (0, (5, 1))),
    "sft": METHOD_STYLES["sft"],
    "dpo, beta 1": _named("dpo", r"DPO, $\beta$ = 1"),
    "dpo, beta .1": _variant("dpo", r"DPO, $\beta$ = 0.1", ">", (0, (1, 1.5))),
    "ipo, beta 1": _named("ipo", r"IPO, $\beta$ = 1"),
    "kto, beta 1": _named("kto", r"KTO, $\beta$ = 1"),
    "kto, beta .1": _variant("kto", r"KTO, $\beta$ = 0.1", "*", (0, (3, 2, 1, 2))),
}
"""Look of each method as the experiments of `lm` label it."""


def select(summary: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """Return the rows of a metric at the largest n of a summary, one for each run and step.

    Parameters
    ----------
    summary : DataFrame
        Summary of an experiment.
    metric : str
        Metric.
    **where
        Values that columns must have; None leaves a column as it is.

    Returns
    -------
    DataFrame
        The rows, in the order of the table.

    Raises
    ------
    ValueError
        If there are none, or several at one point.

    Examples
    --------
    >>> select(pd.DataFrame({"metric": ["tv"]}), "kl")
    Traceback (most recent call last):
    ValueError: the summary must hold kl, got none
    """
    rows = summary[summary["metric"] == metric]
    for column, value in where.items():
        rows = rows if value is None else rows[rows[column] == value]
    if rows.empty:
        named = [f"{column} {value}" for column, value in where.items() if value is not None]
        raise ValueError(f"the summary must hold {' of '.join([metric, *named])}, got none")
    return only_series(rows, ["world", "n", "learning_rate", "method", "step"])


def at_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last step."""
    last: pd.DataFrame = rows[rows["step"] == rows["step"].max()]
    return last


def at_least_held_out_loss(summary: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows at each method's own choice of learning rate and step, the one that its user could make.

    Parameters
    ----------
    summary : DataFrame
        Summary of an experiment.
    rows : DataFrame
        Some of its rows.

    Returns
    -------
    DataFrame
        For each world, n and method the rows of the learning rate and step of the least mean held-out loss, among the
        learning rates at which the fewest runs diverged. Where every one is infinite, the last step at the smallest
        rate. `lm validate` chooses alike.
    """
    losses = summary[summary["metric"] == "held_out_loss"]
    ended = (losses["replicates"] * (1.0 - losses["share_diverged"] - losses["share_error"])).round()
    losses = losses[ended > 0]
    # Means are over finite values: a loss that is infinite in some repetitions is worse than any number.
    losses = losses.assign(
        loss=losses["mean"].where(losses["finite"] == ended[ended > 0], np.inf), left=-losses["step"]
    )
    best = losses.sort_values(["share_diverged", "loss", "left", "learning_rate"], kind="stable")
    best = best.groupby(["world", "n", "method"], sort=False).head(1)
    return rows.merge(best[["world", "n", "method", "learning_rate", "step"]])


def differences(metrics: pd.DataFrame, rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return how much larger a value is than that of another method in the same repetition.

    Parameters
    ----------
    metrics : DataFrame
        Metrics of an experiment.
    rows : DataFrame
        Rows of its summary, one for each world, n and method.
    baseline : str
        The other method.

    Returns
    -------
    DataFrame
        World, n, method, replicate and difference, of runs that ended well, without the baseline itself.
    """
    keys = ["world", "n", "learning_rate", "method", "step", "metric"]
    runs = metrics[metrics["status"] == "ok"].merge(rows[keys])
    base = runs.loc[runs["method"] == baseline, ["world", "n", "replicate", "value"]]
    pairs = runs[runs["method"] != baseline].merge(base, on=["world", "n", "replicate"], suffixes=("", "_of_baseline"))
    pairs = pairs.assign(difference=pairs["value"] - pairs["value_of_baseline"])
    return only_series(
        pairs[["world", "n", "method", "replicate", "difference"]], ["world", "n", "method", "replicate"]
    )


def errors(rows: pd.DataFrame) -> np.ndarray:
    """Return the arms of the 95 % intervals, (2, rows)."""
    ends = rows[["low", "high"]].to_numpy(float).T
    return np.asarray(np.abs(ends - rows["mean"].to_numpy(float)))


def own_target(exact: float) -> str:
    """Return how far an exact target is, as legends say it.

    Examples
    --------
    >>> [own_target(value) for value in (0.00368, 1e-17, float("inf"), float("nan"))]
    ['0.0037', '0', '∞', 'unknown']
    """
    if np.isnan(exact):
        return "unknown"
    return "\N{INFINITY}" if np.isinf(exact) else f"{exact if abs(exact) > MARGIN else 0.0:.2g}"


def add_targets(ax: Axes, rows: pd.DataFrame, styles: dict[str, LineStyle], highest: float) -> None:
    """Add a thin line at the distance of each method's exact target, where it is not 0 and not above `highest`."""
    for method, style in styles.items():
        exact = rows.loc[rows["method"] == method, "exact"].max()
        if MARGIN < exact <= highest:
            ax.axhline(exact, **{**style.line(), "linewidth": 0.7})


def add_reference(ax: Axes, start: pd.DataFrame, *, vertical: bool = False) -> float:
    """Add a dotted line at the mean distance of the reference, where training starts, and return it.

    Parameters
    ----------
    ax : Axes
        Where to.
    start : DataFrame
        Rows of a metric at step 0; all methods of a world start alike.
    vertical : bool
        Whether distances are on the x axis.
    """
    mean = float(start.loc[start["step"] == 0, "mean"].dropna().iloc[0])
    (ax.axvline if vertical else ax.axhline)(mean, **_REFERENCE)
    return mean


def plain_numbers(axis: Axis) -> None:
    """Write 1, 2, 5, 10, ... at a logarithmic axis of a decade or two, where powers of ten would leave one number."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def plot_rows(ax: Axes, rows: pd.DataFrame, styles: dict[str, LineStyle], start: pd.DataFrame) -> Axes:
    """Plot one row for each method: its mean distance with the interval, and a cross at its exact target.

    Parameters
    ----------
    ax : Axes
        Where to plot.
    rows : DataFrame
        One row for each method.
    styles : dict of str to LineStyle
        Looks of the methods, from top to bottom; their labels stand at the axis.
    start : DataFrame
        Rows of the same metric that hold step 0, for a dotted line at the reference.

    Returns
    -------
    Axes
        With a logarithmic axis of KL divergences from the preferred law.
    """
    for place, (method, style) in enumerate(styles.items()):
        row = rows[rows["method"] == method]
        look = {**style.points(), "linestyle": "none", "label": "mean of runs" if place == 0 else None}
        ax.errorbar(row["mean"], [place], xerr=errors(row), capsize=1.5, **look)
        shown = row.loc[row["exact"] > MARGIN, "exact"]
        cross: dict[str, Any] = {"marker": "x", "markersize": 5, "linestyle": "none", "color": style.colour}
        ax.plot(shown, [place] * len(shown), label="exact target" if place == 0 else None, **cross)
    reference = add_reference(ax, start, vertical=True)
    values = np.concatenate([rows["mean"], rows["high"], rows.loc[rows["exact"] > 1e-6, "exact"], [reference]])
    ax.set(xscale="log", xlim=(values.min() / 1.5, values.max() * 1.3), xlabel="KL from preferred law (nats)")
    ax.set_yticks(range(len(styles)), [style.label for style in styles.values()])
    ax.set_ylim(len(styles) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    return ax
