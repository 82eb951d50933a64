"""Errors with their exact targets, against the sample size or a setting, as several figures draw them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from figures.style import LineStyle
from figures.tables import only_series

__all__ = ["ERROR_COLUMNS", "draw_curves", "draw_errors", "handles_of", "pick", "select_errors"]

# Total variation between a policy and the preferred law.
_METRIC = "tv_preferred"

ERROR_COLUMNS = ("world", "n", "method", "metric", "share_ok", "mean", "low", "high", "exact")
"""Columns of a study's summary that these figures need."""

# A total variation below this is the rounding of an exact target that is the preferred law itself.
_ZERO = 1e-8


def pick(summary: pd.DataFrame, where: Mapping[str, object]) -> pd.DataFrame:
    """Return the rows that have the values of `where`; numbers agree up to rounding.

    Examples
    --------
    >>> pick(pd.DataFrame({"world": ["a", "b"], "noise": [0.1, 0.2]}), {"noise": 0.2})["world"].tolist()
    ['b']
    """
    chosen = np.ones(len(summary), dtype=bool)
    for key, value in where.items():
        chosen &= np.isclose(summary[key], value) if isinstance(value, float) else (summary[key] == value)
    return summary[chosen]


def select_errors(
    summary: pd.DataFrame, study: str, methods: Mapping[str, LineStyle], where: Mapping[str, object], by: str = "n"
) -> pd.DataFrame:
    """Return the errors of some methods, one row for each method and each value on the horizontal axis.

    Parameters
    ----------
    summary : DataFrame
        Summary of a study.
    study : str
        Its name, for messages.
    methods : mapping of str to LineStyle
        The methods to show, by their labels in the table.
    where : mapping
        Values that other columns must have.
    by : str
        Column of the horizontal axis; if it is not "n", rows are those of the largest sample size.

    Returns
    -------
    DataFrame
        The rows in order, with exact targets as float64.

    Raises
    ------
    ValueError
        If a method has no row, or several for one point.

    Examples
    --------
    >>> row = {"world": "toy", "n": 100, "method": "rdro", "metric": "tv_preferred", "exact": 0.0}
    >>> select_errors(pd.DataFrame([row]), "toys", {"sft": LineStyle("SFT", "k", "o", "-")}, {"world": "toy"})
    Traceback (most recent call last):
    ValueError: toys must hold tv_preferred of sft where world = toy, got none
    """
    rows = pick(summary[(summary["metric"] == _METRIC) & summary["method"].isin(methods)], where)
    for method in methods:
        if method not in set(rows["method"]):
            place = ", ".join(f"{key} = {value}" for key, value in where.items())
            raise ValueError(f"{study} must hold {_METRIC} of {method} where {place}, got none")
    if by != "n":
        rows = rows[rows["n"] == rows["n"].max()]
    return only_series(rows.astype({"exact": np.float64}).sort_values(["method", by]), ["method", by])


def draw_curves(ax: Axes, rows: pd.DataFrame, methods: Mapping[str, LineStyle]) -> None:
    """Draw mean errors against n on logarithmic axes: bands are 95 % intervals, thin lines the errors of exact targets.

    Markers are open and lie inside each other, as some methods agree to the width of a line. Crosses are means over
    the rest where some fits failed.
    """
    for index, (method, style) in enumerate(methods.items()):
        line = rows[rows["method"] == method]
        failed = line[line["share_ok"] < 1]
        ax.loglog(line["n"], line["mean"], label=style.label, **_nested(style, index))
        ax.plot(failed["n"], failed["mean"], color=style.colour, linestyle="none", marker="x", markersize=7)
        ax.fill_between(line["n"], line["low"], line["high"], color=style.colour, alpha=0.25, linewidth=0)
        if line["exact"].max() > _ZERO:
            ax.axhline(line["exact"].max(), **{**style.line(), "linewidth": 0.7})
    ax.set(xlabel="labelled examples n", ylabel="TV distance to preferred law")
    ax.yaxis.set_minor_formatter(NullFormatter())


def draw_errors(ax: Axes, rows: pd.DataFrame, methods: Mapping[str, LineStyle], by: str) -> None:
    """Draw errors at one sample size against a setting: lines are exact targets, points means with 95 % intervals."""
    for index, (method, style) in enumerate(methods.items()):
        line = rows[rows["method"] == method]
        ax.plot(line[by], line["exact"], **style.line())
        spread = np.abs(line[["low", "high"]].to_numpy().T - line["mean"].to_numpy())
        look = {**_nested(style, index), "linestyle": "none", "label": style.label}
        ax.errorbar(line[by], line["mean"], spread, capsize=1.5, elinewidth=0.7, **look)
    ax.set_ylabel("TV distance to preferred law")


def handles_of(methods: Mapping[str, LineStyle]) -> list[Line2D]:
    """Return one handle for each method, for the legend of several panels."""
    return [Line2D([], [], label=style.label, markerfacecolor="none", **style.points()) for style in methods.values()]


def _nested(style: LineStyle, index: int) -> dict[str, Any]:
    """Return the look of open markers that get smaller from line to line."""
    return {**style.points(), "markerfacecolor": "none", "markersize": max(6.5 - 1.0 * index, 2.5)}
