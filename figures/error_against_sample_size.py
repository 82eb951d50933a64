"""Errors fall like one over the square root of n: to zero where the target is the preferred law, to a floor elsewhere.

Total variation of each method's policy to the preferred law and to the method's own exact target, with fitted slopes,
in a world with cyclic preferences ("hodge") and in that of real votes ("arena").
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, letter, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_error_against_n"]

_SUMMARY = ("world", "n", "regime", "method", "metric", "share_ok", "mean", "low", "high", "exact")
_RATES = ("world", "regime", "method", "metric", "slope", "low", "high", "lack_of_fit_p")
TABLES = {
    "consistency/summary": _SUMMARY,
    "consistency/rates": _RATES,
    "arena/summary": _SUMMARY,
    "arena/rates": _RATES,
}
"""Tables read, with the columns needed."""

# The study that each world is taken from.
_STUDIES = {"hodge": "consistency", "arena": "arena"}
_WORLDS = {"hodge": "cyclic preferences (hodge)", "arena": "real votes (arena)"}
# The negative control of the studies, which is no method.
_CONTROL = "rdro unequal"
_METRICS = {"tv_preferred": "TV distance to preferred law", "tv_target": "TV distance to own exact target"}
_FAILED, _NOT_STRAIGHT = "†", "*"
_LEAST_P = 0.01
# A total variation below this is the rounding of an exact target that is the preferred law itself.
_ZERO = 1e-8


def plot_error_against_n(
    summary: pd.DataFrame,
    rates: pd.DataFrame,
    world: str = "hodge",
    metric: str = "tv_preferred",
    *,
    regime: str = "paired",
    ax: Axes | None = None,
) -> Axes:
    """Plot mean errors against the sample size on logarithmic axes, with bands, exact targets and fitted slopes.

    Parameters
    ----------
    summary, rates : DataFrame
        Tables of the study consistency or arena.
    world : str
        World to plot.
    metric : str
        Error to plot.
    regime : {"paired", "unpaired"}
        Whether examples came as compared pairs or one by one.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One line for each method with the 95 % interval of the mean as a band, and a thin line at the error of its
        exact target where that is not 0. Crosses are means over the rest where some fits failed. The legend holds
        slopes of log error on log n with 95 % intervals, a star where a straight line does not fit, and, after a
        dagger, the largest share of failed fits at one sample size.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    rows, slopes = _select(summary, world, metric, regime), _slopes(rates, world, metric, regime)
    for index, method in enumerate(name for name in METHOD_STYLES if name in set(rows["method"])):
        style, line = METHOD_STYLES[method], rows[rows["method"] == method]
        failed = line[line["share_ok"] < 1]
        mark = f" ({_FAILED}{100 * (1 - failed['share_ok'].min()):.3g} %)" if len(failed) else ""
        floor = line["exact"].max()
        without = f"tends to {floor:.2g}" if floor > _ZERO else "no slope"
        label = f"{style.label}{mark}  {slopes.get(method, without)}"
        # Open markers inside each other: some methods agree to the width of a line.
        points = {**style.points(), "markerfacecolor": "none", "markersize": max(6.5 - 1.2 * index, 2.5)}
        ax.loglog(line["n"], line["mean"], label=label, **points)
        ax.plot(failed["n"], failed["mean"], color=style.colour, linestyle="none", marker="x", markersize=7)
        ax.fill_between(line["n"], line["low"], line["high"], color=style.colour, alpha=0.25, linewidth=0)
        if floor > _ZERO:
            ax.axhline(floor, linewidth=0.7, **style.line())
    ax.set(xlabel="labelled examples n", ylabel=_METRICS.get(metric, metric), title=_WORLDS.get(world, world))
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = rows["mean"].min(), rows["mean"].max()
    # The lower left corner is empty as errors fall: lower the axis until the legend fits there.
    ax.set_ylim(low * (low / high) ** 0.9, high * 1.6)
    ax.legend(loc="lower left", title="slope [95 % interval]", alignment="left")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a row of panels for each world, a column for each error.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    figure = new_figure(DOUBLE_COLUMN, 6.6)
    axes = figure.subplots(len(_WORLDS), len(_METRICS))
    parts = []
    for i, (world, study) in enumerate(_STUDIES.items()):
        summary, rates = tables[f"{study}/summary"], tables[f"{study}/rates"]
        for j, metric in enumerate(_METRICS):
            plot_error_against_n(summary, rates, world, metric, ax=axes[i, j])
            points = _select(summary, world, metric, "paired")
            fitted = _curves(rates, world, metric, "paired")
            fitted = fitted.set_index("method")[["slope", "low", "high", "lack_of_fit_p"]].add_prefix("fitted_")
            parts.append(points.join(fitted, on="method").assign(panel="abcd"[len(_METRICS) * i + j]))
    letter(axes)
    note = (
        "bands: 95 % intervals of the mean; thin horizontal lines: exact targets other than the preferred law itself\n"
        f"crosses: some fits failed, means over the rest; {_FAILED} largest share of failed fits at one n\n"
        "slopes: over n of at least the geometric mean of the least and the largest, the four largest or more; none\n"
        f"where more than 1 % of the fits failed; {_NOT_STRAIGHT} a straight line does not fit (p < {_LEAST_P:g})"
    )
    figure.supxlabel(note, fontsize=7)
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _curves(table: pd.DataFrame, world: str, metric: str, regime: str) -> pd.DataFrame:
    """Return the rows of one panel."""
    chosen = (table["world"] == world) & (table["metric"] == metric) & (table["regime"] == regime)
    return table[chosen & (table["method"] != _CONTROL)]


def _select(summary: pd.DataFrame, world: str, metric: str, regime: str) -> pd.DataFrame:
    """Return the points of one panel, methods in the order of the legend."""
    rows = _curves(summary, world, metric, regime)[list(_SUMMARY)]
    if rows.empty:
        raise ValueError(f"the table must hold {metric} in the {regime} world {world}, got none")
    unknown = sorted(set(rows["method"]) - set(METHOD_STYLES))
    if unknown:
        raise ValueError(f"method must be one of {', '.join(METHOD_STYLES)}; got {unknown[0]!r} in the table")
    rows = rows.astype({"exact": np.float64})
    return only_series(rows.sort_values(["method", "n"]), ["method", "n"])


def _slopes(rates: pd.DataFrame, world: str, metric: str, regime: str) -> dict[str, str]:
    """Return the text of each fitted slope."""
    rows = only_series(_curves(rates, world, metric, regime), ["method"]).dropna(subset=["slope"])
    texts = {}
    for row in rows.itertuples():
        mark = _NOT_STRAIGHT if row.lack_of_fit_p < _LEAST_P else ""
        text = f"{row.slope:z.3f} [{row.low:z.3f}, {row.high:z.3f}]{mark}"
        texts[row.method] = text.replace("-", "\N{MINUS SIGN}")
    return texts
