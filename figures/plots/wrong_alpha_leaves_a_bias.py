"""A wrong alpha leaves an error that no sample size removes: less in RDRO than in DDRO, not always less than in MLE.

Labels are preferred with probability alpha = 0.3. (a, b) Mean errors against the sample size where the methods are told
0.15 or 0.45; thin lines are the errors of their exact targets, where errors end. Taking alpha from the class shares of
the data ("class share") removes the bias, and SFT needs no alpha. (c) The error at the largest sample size against the
alpha that is told. One pair of laws is shown: how the methods rank depends on it, and on whether alpha is understated
or overstated. Class shares are a remedy only where labels are not selected.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.error_curves import ERROR_COLUMNS, draw_curves, draw_errors, handles_of, select_errors
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, method_shades, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_error_against_told_alpha", "plot_error_under_wrong_alpha"]

TABLES = {"wrong_alpha/summary": ERROR_COLUMNS}
"""Tables read, with the columns needed."""

_TRUE, _TOLD = 0.3, ("0.15", "0.3", "0.45", "0.6")
_METHODS = ("mle", "ddro", "rdro")
_WHERE = {"world": "five_responses"}
_CLASS_SHARE = LineStyle("RDRO, class share", method_shades("rdro", [0, 1])[0], "*", (0, (3, 1)))


def plot_error_under_wrong_alpha(summary: pd.DataFrame, told: float = 0.45, *, ax: Axes | None = None) -> Axes:
    """Plot mean errors against the sample size where the methods are told a wrong alpha.

    Parameters
    ----------
    summary : DataFrame
        Summary of the study wrong_alpha.
    told : float
        The alpha that is told, one of those of the study.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One line for each method with the 95 % interval of the mean as a band, and a thin line at the error of its
        exact target where that is not 0.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    lines = _lines(told)
    draw_curves(ax, select_errors(summary, "wrong_alpha", lines, _WHERE), lines)
    ax.set_title(rf"true $\alpha$ = {_TRUE:g}, told {told:g}")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 4)  # room for the legend
    ax.legend(loc="lower left", ncols=2)
    return ax


def plot_error_against_told_alpha(summary: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot errors at the largest sample size against the alpha that the methods are told.

    Parameters
    ----------
    summary, ax
        As in `plot_error_under_wrong_alpha`.

    Returns
    -------
    Axes
        Lines are the errors of exact targets, points means with 95 % intervals; a dotted line is at the true alpha.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    lines, rows = {method: METHOD_STYLES[method] for method in _METHODS}, _by_told(summary)
    ax.axvline(_TRUE, color="0.5", linewidth=0.8, linestyle=":")
    draw_errors(ax, rows, lines, "told")
    ax.set(xlabel=r"told $\alpha$ (dotted: true $\alpha$)", title=f"n = {rows['n'].max():,}")
    ax.set_ylim(-0.02 * ax.get_ylim()[1], 1.35 * ax.get_ylim()[1])
    ax.legend(loc="upper left")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw the three panels.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    summary = tables["wrong_alpha/summary"]
    figure = new_figure(DOUBLE_COLUMN, 2.9)
    axes = figure.subplots(1, 3)
    for ax, told in zip(axes, (0.15, 0.45), strict=False):
        plot_error_under_wrong_alpha(summary, told, ax=ax)
        ax.get_legend().remove()
        ax.autoscale(axis="y")
    plot_error_against_told_alpha(summary, ax=axes[2])
    axes[2].get_legend().remove()
    letter(axes)
    axes[1].set_ylabel("")
    axes[2].set_ylabel("")
    figure.legend(handles=handles_of(_lines(0.45)), loc="outside upper center", ncols=5)
    figure.supxlabel(
        "(a, b) bands: 95 % intervals of the mean; thin lines: exact targets other than the preferred law itself\n"
        r"(c) lines: exact targets; points: means with 95 % intervals. Class share: $\alpha$ taken from the data",
        fontsize=7,
    )
    parts = [
        select_errors(summary, "wrong_alpha", _lines(told), _WHERE)[list(ERROR_COLUMNS)].assign(panel=panel)
        for told, panel in ((0.15, "a"), (0.45, "b"))
    ]
    parts.append(_by_told(summary)[[*ERROR_COLUMNS, "told"]].assign(panel="c"))
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _lines(told: float) -> dict[str, LineStyle]:
    """Return the looks of methods that are told some alpha, and of two that are told none."""
    return (
        {f"{method} told {told:g}": METHOD_STYLES[method] for method in ("mle", "ddro")}
        | {"rdro plug-in": _CLASS_SHARE, f"rdro told {told:g}": METHOD_STYLES["rdro"]}
        | {"sft": METHOD_STYLES["sft"]}
    )


def _by_told(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the errors at the largest sample size, with the alpha that was told in a column of its own."""
    looks = {f"{method} told {told}": METHOD_STYLES[method] for method in _METHODS for told in _TOLD}
    rows = select_errors(summary, "wrong_alpha", looks, _WHERE)
    rows = rows[rows["n"] == rows["n"].max()]
    told = rows["method"].str.extract(r"^(\w+) told ([\d.]+)$")
    found: pd.DataFrame = rows.assign(method=told[0], told=told[1].astype(float))
    return found.sort_values(["method", "told"])
