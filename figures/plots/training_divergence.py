"""Strict DDRO and the likelihood diverge in training as overlap vanishes; RDRO and continued DDRO do not.

Share of training runs that diverged, for each learning rate and each overlap, under three optimisers. A run diverges
when a loss, a gradient or a parameter is not finite; the losses of strict DDRO and of the likelihood are infinite from
the edge of their domain on. Whether a run that did not diverge came near its minimum is another question: the note
says how many did.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, letter, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_divergence"]

_KEYS = ("world", "n", "overlap", "learning_rate", "method", "metric")
_SUMMARY = (*_KEYS, "replicates", "share_ok", "mean", "low", "high")
TABLES = {"dynamics/summary": _SUMMARY}
"""Tables read, with the columns needed."""

_WORLDS = {"sgd": "SGD", "adam": "Adam", "sgd_clipped": "SGD, clipped gradients"}
_METHODS = {"rdro": "RDRO", "ddro": "DDRO strict", "mle": "MLE", "ddro_extend": "DDRO continued"}
_PALETTE = "rocket_r"
_LEGEND = (0.0, 0.25, 0.5, 0.75, 1.0)


def plot_divergence(table: pd.DataFrame, world: str = "sgd", method: str = "rdro", *, ax: Axes | None = None) -> Axes:
    """Plot the share of diverged runs as a map of learning rate and overlap, at the largest sample size of the table.

    Parameters
    ----------
    table : DataFrame
        Summary of the study dynamics.
    world : {"sgd", "adam", "sgd_clipped"}
        Optimiser.
    method : {"rdro", "ddro", "mle", "ddro_extend"}
        Loss.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One cell for each learning rate and overlap on logarithmic axes, darker for a larger share, with the share as
        text. "0" and "1" mean none and all of the runs: other shares are not rounded to them.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    rows = _select(table)
    rows = rows[(rows["world"] == world) & (rows["method"] == method)]
    if rows.empty:
        raise ValueError(f"dynamics must hold diverged of {method} in the world {world}, got none")
    shares = rows.pivot(index="overlap", columns="learning_rate", values="mean")
    rates, overlaps = shares.columns.to_numpy(), shares.index.to_numpy()
    palette = sns.color_palette(_PALETTE, as_cmap=True)
    # White lines keep the cells apart; a missing share leaves its cell empty.
    ax.pcolormesh(
        _edges(rates), _edges(overlaps), shares, cmap=palette, vmin=0.0, vmax=1.0, edgecolors="white", linewidth=0.6
    )
    for row in rows.dropna(subset=["mean"]).itertuples():
        colour = "black" if row.mean < 0.5 else "white"
        ax.text(row.learning_rate, row.overlap, _share(row.mean), color=colour, ha="center", va="center", fontsize=7)
    ax.set(xscale="log", yscale="log", title=_METHODS.get(method, method))
    ax.set(xlabel="learning rate", ylabel=f"{_WORLDS.get(world, world)}\noverlap")
    # Many rates only fit when they are turned.
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=90 if len(rates) > 4 else 0)
    ax.set_yticks(overlaps, [f"{overlap:g}" for overlap in overlaps])
    ax.minorticks_off()
    ax.tick_params(length=0)
    ax.grid(visible=False)
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a row of maps for each optimiser, a column for each loss.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers, with the 95 % interval of each share.
    """
    table = tables["dynamics/summary"]
    figure = new_figure(DOUBLE_COLUMN, 5.4)
    axes = figure.subplots(len(_WORLDS), len(_METHODS), sharex=True, sharey=True)
    panels = {}
    for row, world in zip(axes, _WORLDS, strict=True):
        for ax, method in zip(row, _METHODS, strict=True):
            plot_divergence(table, world, method, ax=ax)
            panels[world, method] = "abcdefghijkl"[len(panels)]
            ax.label_outer()
    letter(axes)
    figure.align_ylabels(axes[:, 0])
    rows = _select(table)
    palette = sns.color_palette(_PALETTE, as_cmap=True)
    handles = [Patch(facecolor=palette(share), edgecolor="0.6", label=f"{share:g}") for share in _LEGEND]
    title = "share of runs that diverged (0: none, 1: all)"
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), title=title)
    figure.supxlabel(_note(table, rows), fontsize=7)
    return Drawing(figure, rows.assign(panel=[panels[key] for key in zip(rows["world"], rows["method"], strict=True)]))


def _note(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Return what the axes mean, how sure the shares are, and what they do not say."""
    widest = rows.loc[(rows["high"] - rows["low"]).idxmax()]
    n = rows["n"].iloc[0]
    policies = table[(table["n"] == n) & (table["metric"] == "tv_preferred") & table["world"].isin(_WORLDS)]
    converged = policies.groupby("method")["share_ok"].mean().reindex(list(_METHODS))
    shares = ", ".join(f"{_METHODS[method]} {share:.0%}".replace("%", " %") for method, share in converged.items())
    return (
        "overlap: share of its non-preferred mass that the preferred half of the responses keeps; diverged: a loss, "
        "gradient or parameter\nis not finite (for strict DDRO and MLE: beyond their domain). "
        f"n = {n:,}, {_counts(rows['replicates'])} runs a cell; 95 % Clopper\N{EN DASH}Pearson\nintervals of the "
        f"shares: the widest is {widest['mean']:.2g} [{widest['low']:.2f}, {widest['high']:.2f}]; all are in the CSV. "
        "Not diverged does not mean converged:\n"
        f"of all runs, these had converged at the end: {shares}"
    )


def _counts(replicates: pd.Series) -> str:
    """Return a number, or the range of several."""
    low, high = replicates.min(), replicates.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _share(value: float) -> str:
    """Return a share in at most three characters; only exact 0 and 1 are written so."""
    if value in (0.0, 1.0):
        return f"{value:.0f}"
    return f"{min(max(value, 0.01), 0.99):.2f}".removeprefix("0")


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the edges of cells around values on a logarithmic axis."""
    logs = np.log(values)
    halves = np.diff(logs) / 2 if len(logs) > 1 else np.array([0.5])
    return np.exp([logs[0] - halves[0], *(logs[1:] + logs[:-1]) / 2, logs[-1] + halves[-1]])


def _select(table: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of diverged runs at the largest sample size, in the order of the panels."""
    rows = table[(table["metric"] == "diverged") & table["world"].isin(_WORLDS) & table["method"].isin(_METHODS)]
    if rows.empty:
        raise ValueError("dynamics must hold the metric diverged, got none")
    rows = rows.loc[rows["n"] == rows["n"].max(), list(_SUMMARY)]
    keys = ["world", "method", "overlap", "learning_rate"]
    return only_series(rows.sort_values(keys), keys)
