"""Told a wrong alpha, language models of RDRO and extended DDRO end further from the preferred law than told the truth.

KL divergence of the policy from the preferred law in the experiment alpha, at the step of each method's own least
held-out loss. Left: what methods are told where .5 is true, beside SFT, which is told nothing. Right: RDRO that is told
the truth, beside SFT, for several true alphas. Crosses are exact targets of RDRO; that of extended DDRO is not known.
Intervals hold differences between languages, which paired comparisons do not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.plots.language_models import STYLES, at_least_held_out_loss, errors, select
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, letter, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_told_alpha", "plot_true_alpha"]

_COLUMNS = ("world", "n", "learning_rate", "method", "step", "metric", "replicates", "mean", "low", "high", "exact")
TABLES = {"alpha/summary": (*_COLUMNS, "finite", "share_diverged", "share_error")}
"""Tables read, with the columns needed."""

_WORLDS = {"true alpha .2": 0.2, "true alpha .5": 0.5, "true alpha .8": 0.8}
_TRUTH = "rdro, told the truth"
# Methods by what they are told where .5 is true.
_TOLD = {
    "rdro": {0.2: "rdro, told .2", 0.5: _TRUTH, 0.8: "rdro, told .8"},
    "ddro, extended": {told: f"ddro, extended, told {text}" for told, text in ((0.2, ".2"), (0.5, ".5"), (0.8, ".8"))},
}
_TARGET = "exact target of RDRO"
_LEGEND = ("RDRO", _TARGET, "DDRO, extended", "SFT")
_APART = 0.012


def plot_told_alpha(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot mean distances against the alpha that RDRO and extended DDRO are told, where .5 is true.

    Parameters
    ----------
    table : DataFrame
        Summary of the experiment alpha.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Points with 95 % intervals, crosses at exact targets of RDRO, and SFT as a line with its interval as a band.

    Raises
    ------
    ValueError
        If the table lacks a method.
    """
    ax = new_axes() if ax is None else ax
    rows = _told(table)
    for side, (method, labels) in zip((-1, 1), _TOLD.items(), strict=True):
        line = rows[rows["method"].isin(labels.values())]
        _points(ax, method, line["told"], line, side)
    style, sft = STYLES["sft"], rows[rows["method"] == "sft"].iloc[0]
    ax.axhline(sft["mean"], label=style.label, **style.line())
    ax.axhspan(sft["low"], sft["high"], color=style.colour, alpha=0.15, linewidth=0)
    ax.set(xlabel=r"told $\alpha$", title=r"true $\alpha$ = 0.5")
    return _finish(ax, rows)


def plot_true_alpha(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot mean distances of RDRO, told the truth, and of SFT against the true alpha.

    Parameters
    ----------
    table : DataFrame
        Summary of the experiment alpha.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Points with 95 % intervals, and crosses at exact targets of RDRO.

    Raises
    ------
    ValueError
        If the table lacks a method.
    """
    ax = new_axes() if ax is None else ax
    rows = _true(table)
    for side, (method, label) in zip((-1, 1), {"rdro": _TRUTH, "sft": "sft"}.items(), strict=True):
        line = rows[rows["method"] == label]
        _points(ax, method, line["world"].map(_WORLDS), line, side)
    ax.set(xlabel=r"true $\alpha$", title="RDRO told the truth")
    return _finish(ax, rows)


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw both panels.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    table = tables["alpha/summary"]
    figure = new_figure(DOUBLE_COLUMN, 3.1)
    axes = figure.subplots(1, 2, sharey=True, squeeze=False)
    plot_told_alpha(table, ax=axes[0, 0])
    plot_true_alpha(table, ax=axes[0, 1])
    limits = [_limits(rows) for rows in (_told(table), _true(table))]
    axes[0, 0].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[0, 1].set_ylabel("")
    letter(axes)
    handles = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend([handles[label] for label in _LEGEND], _LEGEND, loc="outside upper center", ncols=len(_LEGEND))
    rows = _told(table)
    figure.supxlabel(
        f"n = {rows['n'].iloc[0]:,} completions; bars and band: 95 % t intervals over {rows['replicates'].max()} "
        "repetitions; the exact target of SFT is 0,\nthat of extended DDRO is not known; at the step of the least "
        "held-out loss",
        fontsize=7,
    )
    return Drawing(figure, pd.concat([rows.assign(panel="a"), _true(table).assign(panel="b")], ignore_index=True))


def _points(ax: Axes, method: str, x: pd.Series, line: pd.DataFrame, side: int) -> None:
    """Add points with intervals a little to one side, and crosses at the exact targets of RDRO."""
    style = STYLES[method]
    beside = x.to_numpy(float) + side * _APART
    ax.errorbar(beside, line["mean"], errors(line), label=style.label, capsize=1.5, **style.points())
    if method == "rdro":
        cross: dict[str, Any] = {"marker": "x", "markersize": 5, "linestyle": "none", "color": style.colour}
        ax.plot(x, line["exact"], label=_TARGET, **cross)


def _finish(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Set the axes that both panels have."""
    ax.set(yscale="log", ylabel="KL from preferred law (nats)", xlim=(0.1, 0.9), ylim=_limits(rows))
    ax.set_xticks(list(_WORLDS.values()))
    return ax


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold all means, upper ends and targets."""
    values = np.concatenate([rows["mean"], rows["high"], rows.loc[rows["exact"] > 1e-6, "exact"]])
    return float(values.min()) / 1.5, float(values.max()) * 1.3


def _chosen(table: pd.DataFrame, world: str, method: str) -> pd.DataFrame:
    """Return the row of a method in a world at its own choice of a step."""
    rows = select(table, "kl_preferred", world=world, method=method)
    chosen = at_least_held_out_loss(table, rows[rows["n"] == rows["n"].max()])
    if chosen.empty:
        raise ValueError(f"alpha must hold held_out_loss of {method} in the world {world}, got none")
    return chosen[list(_COLUMNS)]


def _told(table: pd.DataFrame) -> pd.DataFrame:
    """Return the points of the left panel, with what was told."""
    pairs = [(label, told) for labels in _TOLD.values() for told, label in labels.items()] + [("sft", np.nan)]
    return pd.concat([_chosen(table, "true alpha .5", label).assign(told=told) for label, told in pairs])


def _true(table: pd.DataFrame) -> pd.DataFrame:
    """Return the points of the right panel, with what was told."""
    pairs = [(world, label) for label in (_TRUTH, "sft") for world in _WORLDS]
    return pd.concat(
        [_chosen(table, w, label).assign(told=_WORLDS[w] if label == _TRUTH else np.nan) for w, label in pairs]
    )
