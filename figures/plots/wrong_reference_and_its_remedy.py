"""A reference other than the mixture biases RDRO, DDRO and MLE alike; calibrating it helps, and makes RDRO equal SFT.

(a) Mean errors against the sample size with errors of 0.3 nats in the logits of the reference; thin lines are the
errors of exact targets, where errors end. (b) The error at the largest sample size against the size of the errors in
the reference, their standard deviation. Calibrated methods take as their reference the law of the pooled data, which
restores their rate; but then tabular RDRO is SFT, example for example, and what it gained over SFT is gone. The figure
does not say what a calibrated reference does to policies that share parameters between responses.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.error_curves import ERROR_COLUMNS, draw_curves, draw_errors, handles_of, select_errors
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, method_shades, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_error_against_reference_error", "plot_error_under_wrong_reference"]

_COLUMNS = (*ERROR_COLUMNS, "reference_error")
TABLES = {"wrong_reference/summary": _COLUMNS}
"""Tables read, with the columns needed."""

_SHOWN = 0.3
_LINES = {
    # First, as the largest markers: it agrees with SFT.
    "rdro calibrated": LineStyle("RDRO, calibrated", method_shades("rdro", [0, 1])[0], "*", (0, (3, 1))),
    "mle": METHOD_STYLES["mle"],
    "ddro": METHOD_STYLES["ddro"],
    "rdro": METHOD_STYLES["rdro"],
    "sft": METHOD_STYLES["sft"],
}
_WORLD = {"world": "tabular"}


def plot_error_under_wrong_reference(
    summary: pd.DataFrame, reference_error: float = _SHOWN, *, ax: Axes | None = None
) -> Axes:
    """Plot mean errors against the sample size where the reference is wrong.

    Parameters
    ----------
    summary : DataFrame
        Summary of the study wrong_reference.
    reference_error : float
        Standard deviation of the errors in the logits of the reference, in nats; one of those of the study.
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
    where = _WORLD | {"reference_error": reference_error}
    draw_curves(ax, select_errors(summary, "wrong_reference", _LINES, where), _LINES)
    ax.set_title(f"reference off by {reference_error:g} nats")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 4)  # room for the legend
    ax.legend(loc="lower left", ncols=2)
    return ax


def plot_error_against_reference_error(summary: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot errors at the largest sample size against the size of the errors in the reference.

    Parameters
    ----------
    summary, ax
        As in `plot_error_under_wrong_reference`.

    Returns
    -------
    Axes
        Lines are the errors of exact targets, points means with 95 % intervals.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    rows = select_errors(summary, "wrong_reference", _LINES, _WORLD, "reference_error")
    draw_errors(ax, rows, _LINES, "reference_error")
    ax.set(xlabel="errors in the reference (nats)", title=f"n = {rows['n'].max():,}")
    ax.legend(loc="upper left")
    return ax


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
    summary = tables["wrong_reference/summary"]
    figure = new_figure(DOUBLE_COLUMN, 2.9)
    axes = figure.subplots(1, 2)
    plot_error_under_wrong_reference(summary, ax=axes[0])
    plot_error_against_reference_error(summary, ax=axes[1])
    for ax in axes:
        ax.get_legend().remove()
    axes[0].autoscale(axis="y")
    letter(axes)
    figure.legend(handles=handles_of(_LINES), loc="outside upper center", ncols=len(_LINES))
    figure.supxlabel(
        "(a) bands: 95 % intervals of the mean; thin lines: exact targets other than the preferred law itself\n"
        "(b) lines: exact targets; points: means with 95 % intervals. Errors in the reference: standard deviation in\n"
        "its logits. Calibrated: reference fitted to the pooled data, which makes tabular RDRO agree with SFT",
        fontsize=7,
    )
    first = select_errors(summary, "wrong_reference", _LINES, _WORLD | {"reference_error": _SHOWN})
    second = select_errors(summary, "wrong_reference", _LINES, _WORLD, "reference_error")
    parts = [part[list(_COLUMNS)].assign(panel=panel) for part, panel in ((first, "a"), (second, "b"))]
    return Drawing(figure, pd.concat(parts, ignore_index=True))
