"""Language models of strict DDRO and the likelihood stop at an infinite loss within some steps; those of RDRO train on.

The experiment stability trains tiny Qwen2 models without warm-up, gradients clipped at norm 1, for each world and
learning rate. Top: share of runs stopped by a loss that is not finite, with exact (Clopper-Pearson) 95 % intervals for
each cell; runs of different cells share languages and data, so that cells may not be added up. Middle: the largest
gradient norm of each run before clipping, steps before a stop included. Bottom: how far each run's last weights are
from the preferred law, those before the stop where it stopped; not to diverge is not to end nearer.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.plots.language_models import STYLES, plain_numbers, select
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, letter, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_diverged_share", "plot_run_values"]

_SHARES = ("share_diverged", "share_diverged_low", "share_diverged_high")
_KEYS = ("world", "n", "learning_rate", "method", "step", "metric")
TABLES = {
    "stability/summary": (*_KEYS, "replicates", "mean", *_SHARES),
    "stability/metrics": (*_KEYS, "replicate", "value"),
}
"""Tables read, with the columns needed."""

_METHODS = ("rdro", "ddro", "ddro, extended", "mle", "sft")
_VALUES = {
    "largest_grad_norm": "largest gradient norm",
    "last_kl_preferred": "KL from preferred law (nats),\nlast weights",
}
# Methods stand beside each other at each learning rate: this much apart, where learning rates are 1 apart.
_APART = 0.15


def plot_diverged_share(summary: pd.DataFrame, world: str = "good overlap", *, ax: Axes | None = None) -> Axes:
    """Plot the share of diverged runs at each learning rate, methods side by side.

    Parameters
    ----------
    summary : DataFrame
        Summary of the experiment stability.
    world : str
        World, as the table names it.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One labelled point for each method and learning rate with its exact (Clopper-Pearson) 95 % interval.

    Raises
    ------
    ValueError
        If the table lacks the world or a method.
    """
    ax = new_axes() if ax is None else ax
    rows = _shares(summary, world)
    for index, method in enumerate(_METHODS):
        style, line = STYLES[method], rows[rows["method"] == method]
        shares = line[list(_SHARES)].to_numpy(float).T
        arms = np.abs(shares[1:] - shares[0])
        look = {**style.points(), "linestyle": "none", "label": style.label}
        ax.errorbar(_places(line, rows, index), shares[0], arms, capsize=1.5, **look)
    _label_rates(ax, rows)
    ax.set(ylim=(-0.05, 1.05), ylabel="share of runs\nthat diverged", title=world)
    return ax


def plot_run_values(
    metrics: pd.DataFrame, world: str = "good overlap", metric: str = "largest_grad_norm", *, ax: Axes | None = None
) -> Axes:
    """Plot a value of every run at each learning rate, methods side by side.

    Parameters
    ----------
    metrics : DataFrame
        Metrics of the experiment stability.
    world : str
        World, as the table names it.
    metric : {"largest_grad_norm", "last_kl_preferred"}
        What to plot: the largest gradient norm before clipping, or the KL divergence of the last weights from the
        preferred law, in nats.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One point for each run on a logarithmic axis, and a short line at the median of each group.

    Raises
    ------
    ValueError
        If the table lacks the world or a method.
    """
    ax = new_axes() if ax is None else ax
    rows = _values(metrics, world, metric)
    for index, method in enumerate(_METHODS):
        style, line = STYLES[method], rows[rows["method"] == method]
        look = {**style.points(), "linestyle": "none", "markerfacecolor": "none"}
        ax.semilogy(_places(line, rows, index), line["value"], label=style.label, **look)
        middle = line.groupby("learning_rate")[["value"]].median().reset_index()
        place = _places(middle, rows, index)
        ax.hlines(middle["value"], place - _APART / 3, place + _APART / 3, color=style.colour, linewidth=1.4)
    _label_rates(ax, rows)
    plain_numbers(ax.yaxis)
    ax.set(ylabel=_VALUES.get(metric, metric))
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a column for each world, and rows of diverged shares, gradient norms and distances.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    summary, metrics = tables["stability/summary"], tables["stability/metrics"]
    worlds = list(dict.fromkeys(summary["world"]))
    figure = new_figure(DOUBLE_COLUMN, 6.0)
    axes = figure.subplots(1 + len(_VALUES), len(worlds), sharex=True, sharey="row", squeeze=False)
    parts: list[pd.DataFrame] = []
    for ax, world in zip(axes[0], worlds, strict=True):
        plot_diverged_share(summary, world, ax=ax)
        parts.append(_shares(summary, world))
    for row, metric in zip(axes[1:], _VALUES, strict=True):
        for ax, world in zip(row, worlds, strict=True):
            plot_run_values(metrics, world, metric, ax=ax)
            parts.append(_values(metrics, world, metric))
    for ax, world in zip(axes[-1], worlds, strict=True):
        start = select(summary, "kl_preferred", world=world, method="rdro", step=0)["mean"].iloc[0]
        ax.axhline(start, color="0.45", linewidth=0.8, linestyle=(0, (1, 2)))
    for ax in axes.flat:
        ax.label_outer()
    letter(axes)
    figure.align_ylabels(axes[:, 0])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(_METHODS))
    figure.supxlabel(_note(metrics, parts[0]), fontsize=7)
    data = [rows.assign(panel="abcdefghijkl"[index]) for index, rows in enumerate(parts)]
    return Drawing(figure, pd.concat(data, ignore_index=True))


def _note(metrics: pd.DataFrame, shares: pd.DataFrame) -> str:
    """Return how to read the figure, and after how many steps runs stopped."""
    runs = metrics[metrics["metric"].isin(["diverged", "steps_taken"]) & metrics["method"].isin(_METHODS)]
    runs = runs.pivot_table(index=[*_KEYS[:4], "replicate"], columns="metric", values="value")
    stopped = runs.loc[runs["diverged"] == 1.0, "steps_taken"]
    told = f"; diverged runs stopped after {stopped.min():.0f} to {stopped.max():.0f} steps" if len(stopped) else ""
    return (
        f"n = {shares['n'].iloc[0]:,}, {shares['replicates'].max()} runs of {shares['step'].max()} steps for each "
        f"method and learning rate{told}\nbars: exact (Clopper\N{EN DASH}Pearson) 95 % intervals; open points: single "
        "runs, short lines: their medians;\ndotted: the reference, before training; gradients are those before "
        "clipping at norm 1,\nand those of diverged runs, like their KL, are from before the stop"
    )


def _places(line: pd.DataFrame, rows: pd.DataFrame, index: int) -> np.ndarray:
    """Return where points of a method stand: at the number of their learning rate, beside the other methods."""
    rates = sorted(rows["learning_rate"].unique())
    return line["learning_rate"].map(rates.index).to_numpy(float) + _APART * (index - (len(_METHODS) - 1) / 2)


def _label_rates(ax: Axes, rows: pd.DataFrame) -> None:
    """Write learning rates at the x axis."""
    rates = sorted(rows["learning_rate"].unique())
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    ax.set(xlim=(-0.5, len(rates) - 0.5), xlabel="learning rate")
    ax.grid(visible=False, axis="x")


def _shares(summary: pd.DataFrame, world: str) -> pd.DataFrame:
    """Return the shares of diverged runs of a world."""
    # Every run has this metric, those that diverged too.
    rows = pd.concat([select(summary, "diverged", world=world, method=method) for method in _METHODS])
    return rows[[*_KEYS, "replicates", *_SHARES]]


def _values(metrics: pd.DataFrame, world: str, metric: str) -> pd.DataFrame:
    """Return a value of every run of a world."""
    rows = metrics[(metrics["metric"] == metric) & (metrics["world"] == world) & metrics["method"].isin(_METHODS)]
    absent = [method for method in _METHODS if method not in set(rows["method"])]
    if absent:
        raise ValueError(f"stability must hold {metric} of {absent[0]} in the world {world}, got none")
    return only_series(rows[[*_KEYS, "replicate", "value"]], [*_KEYS, "replicate"])
