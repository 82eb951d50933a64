"""In the limit RDRO gains much over supervised fine-tuning and loses up to some per cent to the Cramer-Rao bound.

(a, b) Exact efficiencies against alpha as lines, and in (a) simulated ones as points: the bound's limit of
n E[KL(p+ || policy)] over the mean that was simulated. (c) Simulated n E[KL(p+ || policy)] over its exact limit, for
each method, generator and alpha: 1 where the asymptotics hold at this n; the grey band is the margin of the study's
claim. All this is for one pair of laws with good overlap; it does not speak of small samples or of training.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, new_axes, new_figure, variant_styles
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_constants", "plot_efficiencies", "plot_generator_efficiencies"]

_EXACT = ("alpha", "method", "generator", "asymptotic_kl", "efficiency")
_SUMMARY = ("n", "alpha", "method", "metric", "replicates", "mean", "low", "high")
TABLES = {"efficiencies/table": _EXACT, "constants/summary": _SUMMARY}
"""Tables read, with the columns needed."""

_MARGIN = 0.05
_GENERATORS = {"logistic": "logistic", "least_squares": "least squares", "kl": "KL", "power": "power 1/2"}
_METHODS = {("sft", "none"): "sft", ("rdro", "logistic"): "rdro", ("ddro", "logistic"): "ddro", ("mle", "none"): "mle"}


def plot_efficiencies(table: pd.DataFrame, summary: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot the efficiencies of the methods, RDRO and DDRO with the logistic generator, against alpha.

    Parameters
    ----------
    table : DataFrame
        Table of the study efficiencies.
    summary : DataFrame
        Summary of the study constants, with the same laws.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Exact efficiencies as lines, simulated ones as points with 95 % intervals.
    """
    ax = new_axes() if ax is None else ax
    styles = {key: METHOD_STYLES[method] for key, method in _METHODS.items()}
    _plot(ax, table, summary, styles)
    ax.set(title="methods, logistic generator", ylim=(-0.35, 1.1), yticks=np.linspace(0.0, 1.0, 6))
    handles = [Line2D([], [], label=style.label, markerfacecolor="none", **style.points()) for style in styles.values()]
    ax.legend(handles=handles, loc="lower center", ncols=2)
    return ax


def plot_generator_efficiencies(table: pd.DataFrame, summary: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot the efficiencies of RDRO and DDRO with each generator against alpha, on an axis that shows small losses.

    Parameters
    ----------
    table, summary, ax
        As in `plot_efficiencies`.

    Returns
    -------
    Axes
        As in `plot_efficiencies`, exact values only: simulated intervals are wider than most of the differences.
    """
    ax = new_axes() if ax is None else ax
    _plot(ax, table, None, _generator_styles())
    ax.set(title="generators, larger scale", ylim=(0.83, 1.005))
    ax.legend(loc="lower center", ncols=2)
    return ax


def plot_constants(table: pd.DataFrame, summary: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot simulated limits of n E[KL] over the exact ones, for every method and generator side by side at each alpha.

    Parameters
    ----------
    table, summary, ax
        As in `plot_efficiencies`.

    Returns
    -------
    Axes
        Points with 95 % intervals, a line at 1 and a grey band of 5 % about it.

    Raises
    ------
    ValueError
        If the tables have no alpha in common.
    """
    ax = new_axes() if ax is None else ax
    points = _constants(table, summary)
    alphas = sorted(points["alpha"].unique())
    styles = {key: METHOD_STYLES[key[0]] for key in (("sft", "none"), ("mle", "none"))} | _generator_styles()
    ax.axhspan(1.0 - _MARGIN, 1.0 + _MARGIN, color="0.92", linewidth=0)
    ax.axhline(1.0, color="0.5", linewidth=0.6)
    for index, ((method, generator), style) in enumerate(styles.items()):
        seen = points[(points["method"] == method) & (points["generator"] == generator)]
        places = np.array([alphas.index(alpha) for alpha in seen["alpha"]]) + 0.08 * (index - (len(styles) - 1) / 2)
        spread = np.abs(seen[["ratio_low", "ratio_high"]].to_numpy().T - seen["ratio"].to_numpy())
        ax.errorbar(places, seen["ratio"], spread, elinewidth=0.9, **{**style.points(), "linestyle": "none"})
    ax.set(xticks=range(len(alphas)), title="constants, looks as in (a) and (b)", ylabel="simulated / exact n E[KL]")
    ax.set_xticklabels([f"{alpha:g}" for alpha in alphas])
    ax.set(xlabel=r"share of preferred labels, $\alpha = \pi$")
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
    table, summary = tables["efficiencies/table"], tables["constants/summary"]
    figure = new_figure(DOUBLE_COLUMN, 4.7)
    axes = figure.subplot_mosaic([["a", "b"], ["c", "c"]], height_ratios=[3, 2])
    plot_efficiencies(table, summary, ax=axes["a"])
    plot_generator_efficiencies(table, summary, ax=axes["b"])
    plot_constants(table, summary, ax=axes["c"])
    letter(np.array(list(axes.values())))
    points = _simulated(table, summary)
    figure.supxlabel(
        "efficiency: limit of n E[KL] at the Cram\N{LATIN SMALL LETTER E WITH ACUTE}r\N{EN DASH}Rao bound over that of "
        "the method; lines: exact\n"
        f"points: simulated, n = {points['n'].max():,}, {points['replicates'].max():,} data sets, 95 % intervals; "
        f"band in (c): 1 \N{PLUS-MINUS SIGN} {_MARGIN:g}",
        fontsize=7,
    )
    exact = table[list(_EXACT)]
    simulated = points.rename(columns={"estimate": "simulated", "below": "simulated_low", "above": "simulated_high"})
    both = exact.merge(simulated, on=["alpha", "method", "generator"], how="left")
    first = both[[key in _METHODS for key in zip(both["method"], both["generator"], strict=True)]]
    second = both[both["generator"].isin(_GENERATORS)]
    parts = {"a": first, "b": second, "c": _constants(table, summary)}
    return Drawing(figure, pd.concat([part.assign(panel=panel) for panel, part in parts.items()], ignore_index=True))


def _plot(
    ax: Axes, table: pd.DataFrame, summary: pd.DataFrame | None, styles: Mapping[tuple[str, str], LineStyle]
) -> None:
    """Plot exact lines, and simulated points where there is a summary."""
    points = None if summary is None else _simulated(table, summary)
    for (method, generator), style in styles.items():
        line = table[(table["method"] == method) & (table["generator"] == generator)].sort_values("alpha")
        if line.empty:
            raise ValueError(f"efficiencies must hold {method} with generator {generator}, got none")
        only_series(line, ["alpha"])
        if points is None:
            ax.plot(line["alpha"], line["efficiency"], label=style.label, **style.points())
            continue
        ax.plot(line["alpha"], line["efficiency"], **style.line())
        seen = points[(points["method"] == method) & (points["generator"] == generator)]
        spread = np.abs(seen[["below", "above"]].to_numpy().T - seen["estimate"].to_numpy())
        look = {**style.points(), "linestyle": "none", "markerfacecolor": "none"}
        ax.errorbar(seen["alpha"], seen["estimate"], spread, capsize=2.0, **look)
    ax.set(xlabel=r"share of preferred labels, $\alpha = \pi$", ylabel="efficiency")


def _generator_styles() -> dict[tuple[str, str], LineStyle]:
    """Return the look of RDRO and DDRO with each generator."""
    styles: dict[tuple[str, str], LineStyle] = {}
    for method in ("rdro", "ddro"):
        labels = [f"{METHOD_STYLES[method].label}, {name}" for name in _GENERATORS.values()]
        shades = variant_styles(method, labels[::-1])
        styles |= {(method, generator): shades[label] for generator, label in zip(_GENERATORS, labels, strict=True)}
    return styles


def _constants(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Return simulated limits over exact ones with intervals, one row for each alpha, method and generator."""
    points = _simulated(table, summary).merge(table[list(_EXACT)], on=["alpha", "method", "generator"])
    if points.empty:
        raise ValueError("efficiencies and constants must have an alpha and a method in common, got none")
    # The inverse of a simulated efficiency is the simulated limit over that of the bound.
    inverse = {"ratio": "estimate", "ratio_low": "above", "ratio_high": "below"}
    ratios = {name: points["efficiency"] / points[column] for name, column in inverse.items()}
    return points[["alpha", "method", "generator", "n", "replicates", "asymptotic_kl"]].assign(**ratios)


def _simulated(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Return simulated efficiencies with intervals, one row for each alpha, method and generator."""
    rows = summary[(summary["metric"] == "scaled_kl") & (summary["n"] == summary["n"].max())]
    if rows.empty:
        raise ValueError("constants must hold scaled_kl, got none")
    names = rows["method"].str.split(" ", expand=True).reindex(columns=[0, 1])
    rows = rows.assign(method=names[0], generator=names[1].fillna("none"))
    least = table[table["method"] == "mle"].set_index("alpha")["asymptotic_kl"].rename("least")
    rows = rows.join(least, on="alpha").dropna(subset=["least"])
    found = rows.assign(
        estimate=rows["least"] / rows["mean"], below=rows["least"] / rows["high"], above=rows["least"] / rows["low"]
    )
    keys = ["alpha", "method", "generator"]
    return only_series(found[[*keys, "n", "replicates", "estimate", "below", "above"]], keys)
