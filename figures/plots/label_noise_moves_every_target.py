"""Flipped labels move the targets of RDRO, DDRO, MLE and SFT away from the clean preferred law by the same amount.

(a) Mean errors against the sample size where a tenth of the thumbs is flipped; thin lines are the errors of exact
targets, where errors end. (b, c) The error at the largest sample size against the share of flipped labels, in thumbs
and in compared pairs. DPO misses the clean law without noise too; flattening its tilt, noise brings its target nearer
at first and then away again, which is an accident of these laws and no merit of noise. KTO's target does not move. No
method is told the noise, and none of these corrects for it.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.error_curves import ERROR_COLUMNS, draw_curves, draw_errors, handles_of, select_errors
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, letter, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_error_against_noise", "plot_error_under_noise"]

_COLUMNS = (*ERROR_COLUMNS, "label_noise")
TABLES = {"label_noise/summary": _COLUMNS}
"""Tables read, with the columns needed."""

_SHOWN = 0.1
_LINES = {method: METHOD_STYLES[method] for method in ("kto", "mle", "ddro", "rdro", "sft", "dpo")}
_WORLDS = {"thumbs": "thumbs", "pairs": "compared pairs"}


def plot_error_under_noise(
    summary: pd.DataFrame, world: str = "thumbs", label_noise: float = _SHOWN, *, ax: Axes | None = None
) -> Axes:
    """Plot mean errors against the sample size where a share of the labels is flipped.

    Parameters
    ----------
    summary : DataFrame
        Summary of the study label_noise.
    world : {"thumbs", "pairs"}
        Whether single responses are labelled or pairs compared.
    label_noise : float
        Share of flipped labels, one of those of the study.
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
    rows = select_errors(summary, "label_noise", _LINES, {"world": world, "label_noise": label_noise})
    draw_curves(ax, rows, _LINES)
    ax.set_title(f"{_WORLDS.get(world, world)}, {100 * label_noise:g} % flipped")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 4)  # room for the legend
    ax.legend(loc="lower left", ncols=2)
    return ax


def plot_error_against_noise(summary: pd.DataFrame, world: str = "thumbs", *, ax: Axes | None = None) -> Axes:
    """Plot errors at the largest sample size against the share of flipped labels.

    Parameters
    ----------
    summary, world, ax
        As in `plot_error_under_noise`.

    Returns
    -------
    Axes
        Lines join the errors of exact targets, points are means with 95 % intervals.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    rows = select_errors(summary, "label_noise", _LINES, {"world": world}, "label_noise")
    draw_errors(ax, rows, _LINES, "label_noise")
    ax.set(xlabel="share of flipped labels", title=_WORLDS.get(world, world))
    ax.set_ylim(-0.02 * ax.get_ylim()[1], 1.6 * ax.get_ylim()[1])  # room for the legend
    ax.legend(loc="upper left", ncols=2)
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
    summary = tables["label_noise/summary"]
    figure = new_figure(DOUBLE_COLUMN, 2.9)
    axes = figure.subplots(1, 3)
    plot_error_under_noise(summary, ax=axes[0])
    for ax, world in zip(axes[1:], _WORLDS, strict=True):
        plot_error_against_noise(summary, world, ax=ax)
        ax.set_ylabel("")
    for ax in axes:
        ax.get_legend().remove()
        ax.autoscale(axis="y")
    letter(axes)
    figure.legend(handles=handles_of(_LINES), loc="outside upper center", ncols=len(_LINES))
    figure.supxlabel(
        "(a) bands: 95 % intervals of the mean; thin lines: exact targets other than the clean preferred law itself\n"
        f"(b, c) n = {summary['n'].max():,}; lines join exact targets; points: means with 95 % intervals",
        fontsize=7,
    )
    parts = [select_errors(summary, "label_noise", _LINES, {"world": "thumbs", "label_noise": _SHOWN})]
    parts += [select_errors(summary, "label_noise", _LINES, {"world": world}, "label_noise") for world in _WORLDS]
    data = [part[list(_COLUMNS)].assign(panel=panel) for part, panel in zip(parts, "abc", strict=True)]
    return Drawing(figure, pd.concat(data, ignore_index=True))
