"""As overlap vanishes some DDRO has no fit at all, and exactly fitted logistic DDRO has lighter tails than RDRO.

Left, the share of data sets without a finite fit; right, the median and the 97.5 % quantile of the error, at one sample
size. A mean would hide the tails and need not exist. Fits are exact minima over tabular policies; training by steps is
in training_divergence, where strict DDRO fares worse.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, new_axes, new_figure, variant_styles
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_error_quantiles", "plot_failed_fits"]

_SUMMARY = (
    *("n", "overlap", "method", "metric", "replicates", "share_failed", "share_failed_low", "share_failed_high"),
    *("median", "q975", "q975_low", "q975_high"),
)
TABLES = {"overlap/summary": _SUMMARY}
"""Tables read, with the columns needed."""

_SIZE = 1_000
_FORMS = variant_styles("ddro", ["DDRO, continued", "DDRO, KL", "DDRO, least squares", "DDRO, logistic"])
_STYLES: dict[str, LineStyle] = {
    "rdro": METHOD_STYLES["rdro"],
    "ddro": _FORMS["DDRO, logistic"],
    "ddro extend": _FORMS["DDRO, continued"],
    "ddro least_squares": _FORMS["DDRO, least squares"],
    "ddro kl": _FORMS["DDRO, KL"],
    "mle": METHOD_STYLES["mle"],
    "sft": METHOD_STYLES["sft"],
}
_FITTED = ("rdro", "ddro", "ddro extend", "ddro least_squares", "ddro kl")
_ERRORS = ("sft", "ddro extend", "rdro", "ddro", "mle")


def plot_failed_fits(table: pd.DataFrame, *, n: int = _SIZE, ax: Axes | None = None) -> Axes:
    """Plot the share of data sets without a finite fit against the overlap.

    Parameters
    ----------
    table : DataFrame
        Summary of the study overlap.
    n : int
        Sample size.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One line for each loss, with the 95 % Clopper-Pearson interval as a band.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    for index, method in enumerate(_FITTED):
        line, style = _select(table, n, method), _STYLES[method]
        points = {**style.points(), "markerfacecolor": "none", "markersize": 7.0 - 1.1 * index}
        ax.semilogx(line["overlap"], line["share_failed"], label=style.label, **points)
        ax.fill_between(
            line["overlap"], line["share_failed_low"], line["share_failed_high"], color=style.colour, alpha=0.2, lw=0
        )
    ax.set(xlabel="overlap", ylabel="share of data sets without a fit", title=f"failed fits, n = {n:,}")
    ax.set_ylim(-0.04, 1.75)
    ax.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    ax.legend(loc="upper right")
    return ax


def plot_error_quantiles(table: pd.DataFrame, *, n: int = _SIZE, ax: Axes | None = None) -> Axes:
    """Plot the median and the 97.5 % quantile of the error against the overlap.

    Parameters
    ----------
    table : DataFrame
        Summary of the study overlap.
    n : int
        Sample size.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        For each method a line with markers at the 97.5 % quantile, its 95 % interval as a band, and a thin line at the
        median.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    for index, method in enumerate(_ERRORS):
        line, style = _select(table, n, method), _STYLES[method]
        points = {**style.points(), "markerfacecolor": "none", "markersize": 6.5 - 0.9 * index}
        ax.semilogx(line["overlap"], line["q975"], label=style.label, **points)
        ax.fill_between(line["overlap"], line["q975_low"], line["q975_high"], color=style.colour, alpha=0.2, lw=0)
        ax.semilogx(line["overlap"], line["median"], **{**style.line(), "linewidth": 0.7})
    ax.set(xlabel="overlap", ylabel="TV distance to preferred law", title=f"tails of the error, n = {n:,}")
    ax.set_ylim(0.0, 1.75 * ax.get_ylim()[1])
    ax.legend(loc="upper right", title="97.5 % quantile; thin: median", alignment="left")
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
    table = tables["overlap/summary"]
    figure = new_figure(DOUBLE_COLUMN, 3.1)
    axes = figure.subplots(1, 2)
    plot_failed_fits(table, ax=axes[0])
    plot_error_quantiles(table, ax=axes[1])
    letter(axes)
    replicates = _select(table, _SIZE, "rdro")["replicates"].max()
    figure.supxlabel(
        "overlap: share of its non-preferred mass that the preferred half of the responses keeps\n"
        f"{replicates:,} data sets a point; bands: 95 % intervals; exact fits, not training",
        fontsize=7,
    )
    parts = [
        _select(table, _SIZE, method).assign(panel=panel)
        for panel, methods in (("a", _FITTED), ("b", _ERRORS))
        for method in methods
    ]
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _select(table: pd.DataFrame, n: int, method: str) -> pd.DataFrame:
    """Return the points of one line, in order of overlap."""
    rows = table[(table["n"] == n) & (table["method"] == method) & (table["metric"] == "tv_preferred")]
    if rows.empty:
        raise ValueError(f"overlap must hold tv_preferred of {method} at n = {n:,}, got none")
    return only_series(rows[list(_SUMMARY)].sort_values("overlap"), ["overlap"])
