"""Balanced class weights reach the preferred law at every label share; pooled ones only at one half.

Total variation of RDRO's policy to the preferred law against alpha, which here equals pi, the share of preferred
examples. Lines are exact targets, points are means over samples. Pooled weights are those of a plain mean over a mixed
batch, not what RDRO's authors define; balanced ones are. One world of three responses is shown: how far pooled weights
lead away depends on the laws, and at alpha = 1/2 both are the same.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures.save import Drawing
from figures.style import SINGLE_COLUMN, WEIGHTING_STYLES, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_balanced_and_pooled_error"]

_SUMMARY = ("world", "n", "alpha", "method", "metric", "share_ok", "mean", "low", "high", "exact")
TABLES = {"class_weighting/summary": _SUMMARY}
"""Tables read, with the columns needed."""

_WEIGHTINGS = ("balanced", "pooled")


def plot_balanced_and_pooled_error(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot errors against alpha for balanced and pooled class weights, at the largest sample size of the table.

    Parameters
    ----------
    table : DataFrame
        Summary of the study class_weighting.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Exact targets as lines, Monte-Carlo means as points with 95 % intervals.
    """
    ax = new_axes() if ax is None else ax
    rows = _select(table)
    handles = []
    for weighting in _WEIGHTINGS:
        style, series = WEIGHTING_STYLES[weighting], rows[rows["method"] == weighting]
        ax.plot(series["alpha"], series["exact"], **style.line())
        spread = np.abs(series[["low", "high"]].to_numpy().T - series["mean"].to_numpy())
        ax.errorbar(series["alpha"], series["mean"], spread, capsize=1.5, **{**style.points(), "linestyle": "none"})
        handles.append(Line2D([], [], label=weighting, **style.points()))
    ax.set_ylim(-0.02, 1.4 * rows[["exact", "high"]].max(axis=None))
    ax.set(xlabel=r"share of preferred labels, $\alpha = \pi$", ylabel="TV distance to preferred law")
    title = f"RDRO at n = {rows['n'].iloc[0]:,}; lines: exact targets,\npoints: means with 95 % intervals"
    ax.legend(handles=handles, loc="upper center", ncols=2, title=title, alignment="left")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw the one panel.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    figure = new_figure(SINGLE_COLUMN, 2.4)
    plot_balanced_and_pooled_error(tables["class_weighting/summary"], ax=figure.subplots())
    return Drawing(figure, _select(tables["class_weighting/summary"]).assign(panel="a"))


def _select(table: pd.DataFrame) -> pd.DataFrame:
    """Return the points at the largest sample size, in order of alpha."""
    rows = table[table["method"].isin(_WEIGHTINGS) & (table["metric"] == "tv_preferred")]
    absent = [label for label in _WEIGHTINGS if label not in set(rows["method"])]
    if absent:
        raise ValueError(f"class_weighting must hold tv_preferred of {absent[0]}, got none")
    rows = rows.loc[rows["n"] == rows["n"].max(), list(_SUMMARY)].astype({"exact": np.float64})
    return only_series(rows.sort_values(["method", "alpha"]), ["method", "alpha"])
