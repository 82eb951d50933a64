"""The direct density ratio diverges while the relative one stays under 1/alpha.

(a) Exactly: the relative ratio against the direct one. (b) In samples: how often the direct tabular estimate is
infinite, because some response has preferred but no non-preferred examples. (c) In samples: the largest unnormalised
relative estimate obeys the bound in every sample (proposition P2); the largest ratio of the normalised policy that
RDRO fits need not in small samples (P3), and is shown beside it. A bound on the ratio is no bound on the error of a
policy: how errors compare where the direct ratio is large is in tails_as_overlap_vanishes.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, LineStyle, alpha_styles, letter, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_direct_infinite_share", "plot_largest_ratios", "plot_ratio_curves"]

_SUMMARY = ("world", "n", "alpha", "method", "metric", "mean", "low", "high", "median", "q025", "q975")
TABLES = {
    "ratio_shapes/table": ("alpha", "direct_ratio", "relative_ratio", "relative_ratio_bound"),
    "boundedness/summary": _SUMMARY,
}
"""Tables read, with the columns needed."""

_NOTE = r"dotted: bound $1/\alpha$; (b) bands: 95 % intervals; (c) points: medians, bars: the central 95 % of samples"
_LARGEST = {"max_relative_estimate": "unnormalised estimate", "max_ratio": "normalised policy"}


def plot_ratio_curves(
    table: pd.DataFrame, *, ax: Axes | None = None, styles: Mapping[float, LineStyle] | None = None
) -> Axes:
    """Plot relative ratios and their bounds against the direct ratio, on logarithmic axes.

    Parameters
    ----------
    table : DataFrame
        As made by the study ratio_shapes.
    ax : Axes, optional
        Where to plot; default new axes.
    styles : mapping of float to LineStyle, optional
        Look of each alpha; default `alpha_styles` of the alphas in the table.

    Returns
    -------
    Axes
        With one curve and one dotted bound for each alpha, and the direct ratio in grey.
    """
    ax = new_axes() if ax is None else ax
    direct = np.sort(table["direct_ratio"].unique())
    ax.loglog(direct, direct, color="0.45", linewidth=0.9, label="direct ratio")
    for alpha, style in _looks(table, styles):
        curve = table[table["alpha"] == alpha].sort_values("direct_ratio")
        ax.loglog(curve["direct_ratio"], curve["relative_ratio"], label=style.label, **style.line())
        ax.axhline(curve["relative_ratio_bound"].iloc[0], color=style.colour, linewidth=0.6, linestyle=":")
    ax.set_ylim(table["relative_ratio"].min(), 1e3 * table["relative_ratio_bound"].max())
    ax.set(xlabel=r"direct ratio $p_+/p_-$", ylabel="ratio", title="exact ratios")
    ax.legend(loc="lower right")
    return ax


def plot_direct_infinite_share(
    table: pd.DataFrame, *, ax: Axes | None = None, styles: Mapping[float, LineStyle] | None = None
) -> Axes:
    """Plot the share of samples in which the direct estimate is infinite, with its 95 % interval.

    Parameters
    ----------
    table : DataFrame
        Summary of the study boundedness.
    ax : Axes, optional
        Where to plot; default new axes.
    styles : mapping of float to LineStyle, optional
        Look of each alpha; default `alpha_styles` of the alphas in the table.

    Returns
    -------
    Axes
        With one line for each alpha.
    """
    ax = new_axes() if ax is None else ax
    shares = _select(table, ["direct_infinite"])
    for alpha, style in _looks(shares, styles):
        line = shares[shares["alpha"] == alpha]
        ax.semilogx(line["n"], line["mean"], label=style.label, **style.points())
        ax.fill_between(line["n"], line["low"], line["high"], color=style.colour, alpha=0.2, linewidth=0)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.set(xlabel="labelled examples n", title="direct estimate is infinite")
    ax.set(ylabel="share of samples", ylim=(-0.04, 1.04))
    ax.legend(loc="best")
    return ax


def plot_largest_ratios(
    table: pd.DataFrame, *, ax: Axes | None = None, styles: Mapping[float, LineStyle] | None = None
) -> Axes:
    """Plot the largest estimated ratios under their bounds: medians over samples, with the central 95 %.

    Parameters
    ----------
    table : DataFrame
        Summary of the study boundedness.
    ax : Axes, optional
        Where to plot; default new axes.
    styles : mapping of float to LineStyle, optional
        Look of each alpha; default `alpha_styles` of the alphas in the table.

    Returns
    -------
    Axes
        With filled markers for the unnormalised estimate and open ones for the normalised policy.
    """
    ax = new_axes() if ax is None else ax
    ratios = _select(table, list(_LARGEST))
    for alpha, style in _looks(ratios, styles):
        for metric, (fill, line, shift) in {
            "max_relative_estimate": (style.colour, "-", 0.92),
            "max_ratio": ("white", "--", 1.08),
        }.items():
            series = ratios[(ratios["alpha"] == alpha) & (ratios["metric"] == metric)]
            spread = np.abs(series[["q025", "q975"]].to_numpy().T - series["median"].to_numpy())
            ax.errorbar(
                shift * series["n"],  # side by side, so that no bar hides another
                series["median"],
                spread,
                elinewidth=0.7,
                **{**style.points(), "markerfacecolor": fill, "linestyle": line, "linewidth": 0.9},
            )
        ax.axhline(1.0 / alpha, color=style.colour, linewidth=0.6, linestyle=":")
    ax.set(xscale="log", yscale="log")
    ax.set_ylim(top=6.0 * ratios["q975"].max())  # room for the legend above every bar
    ax.set(xlabel="labelled examples n", ylabel="ratio", title="largest relative ratio")
    handles = [
        Line2D([], [], color="0.3", marker="o", markerfacecolor=fill, linestyle=line, label=_LARGEST[metric])
        for metric, fill, line in (("max_relative_estimate", "0.3", "-"), ("max_ratio", "white", "--"))
    ]
    ax.legend(handles=handles, loc="upper right")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw the three panels side by side.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    curves, summary = tables["ratio_shapes/table"], tables["boundedness/summary"]
    figure = new_figure(DOUBLE_COLUMN, 2.7)
    axes = figure.subplots(1, 3)
    styles = alpha_styles([*curves["alpha"], *summary["alpha"]])
    plot_ratio_curves(curves, ax=axes[0], styles=styles)
    plot_direct_infinite_share(summary, ax=axes[1], styles=styles)
    plot_largest_ratios(summary, ax=axes[2], styles=styles)
    letter(axes)
    # One legend for the alphas of all panels.
    axes[0].legend(handles=axes[0].get_lines()[:1], loc="lower right")
    axes[1].get_legend().remove()
    handles = [Line2D([], [], label=style.label, **style.points()) for style in styles.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    figure.supxlabel(_NOTE, fontsize=7)
    panels = {"a": curves, "b": _select(summary, ["direct_infinite"]), "c": _select(summary, list(_LARGEST))}
    return Drawing(figure, pd.concat([part.assign(panel=panel) for panel, part in panels.items()], ignore_index=True))


def _looks(table: pd.DataFrame, styles: Mapping[float, LineStyle] | None) -> list[tuple[float, LineStyle]]:
    """Return the alphas of a table in increasing order, each with its look."""
    styles = alpha_styles(table["alpha"]) if styles is None else styles
    return [(alpha, styles[alpha]) for alpha in sorted(table["alpha"].unique())]


def _select(summary: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Return the rows of some metrics of the rdro estimates, in order."""
    rows = summary.loc[(summary["method"] == "rdro") & summary["metric"].isin(metrics), list(_SUMMARY)]
    absent = [metric for metric in metrics if metric not in set(rows["metric"])]
    if absent:
        raise ValueError(f"boundedness must hold the metric {absent[0]} of rdro, got none")
    return only_series(rows.sort_values(["metric", "alpha", "n"]), ["metric", "alpha", "n"])
