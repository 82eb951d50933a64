"""Errors fall like one over the square root of n in every world, to the preferred law or to the method's own target.

Fitted slopes of log error on log n with 90 % intervals, a column for each method, a row for each preference model. The
grey band is -1/2 within 0.05: a slope is told to be -1/2 where its whole interval lies in the band (an equivalence test
at 5 %, before correction for the number of tests) and a straight line fits. For RDRO, DDRO, MLE and SFT the error is
the total variation to the preferred law, for DPO, IPO and KTO that to their own exact targets, which are others.
A rate says nothing of constants: those are in efficiency_against_cramer_rao.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.plots.error_curves import pick
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, letter, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_rates"]

_RATES = ("world", "method", "metric", "slope", "low90", "high90", "points", "lack_of_fit_p")
TABLES = {
    "consistency/rates": (*_RATES, "regime"),
    "label_noise/rates": (*_RATES, "label_noise"),
    "arena/rates": (*_RATES, "regime"),
}
"""Tables read, with the columns needed."""

_METRICS = dict.fromkeys(("rdro", "ddro", "mle", "sft"), "tv_preferred")
_METRICS |= dict.fromkeys(("dpo", "ipo", "kto"), "tv_target")
_SLOPE, _MARGIN = -0.5, 0.05
_REGIMES = {"paired": -0.18, "unpaired": 0.18}
_LEAST_P = 0.01
_NAMES = {
    "bradley_terry": "Bradley\N{EN DASH}Terry",
    "arena": "real votes (arena)",
    "arena, Bradley-Terry": "their Bradley\N{EN DASH}Terry fit",
}


def plot_rates(*rates: pd.DataFrame, method: str = "rdro", ax: Axes | None = None) -> Axes:
    """Plot the slopes of one method in all worlds beside the band in which they are told to be -1/2.

    Parameters
    ----------
    *rates : DataFrame
        Rates of the studies consistency, label_noise (for the world "thumbs") and arena, or some of them.
    method : str
        Key of `METHOD_STYLES`.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        A row for each world: slopes with 90 % intervals, filled markers for compared pairs, open ones for labels of
        single responses, and a star where a straight line does not fit (p < 0.01).

    Raises
    ------
    ValueError
        If the tables have no slope of this method.
    """
    ax = new_axes() if ax is None else ax
    gathered = _gather(rates)
    rows = gathered[gathered["method"] == method]
    if rows.empty:
        raise ValueError(f"the tables must hold slopes of {method}, got none")
    worlds, style = list(dict.fromkeys(gathered["world"])), METHOD_STYLES[method]
    ax.axvspan(_SLOPE - _MARGIN, _SLOPE + _MARGIN, color="0.9", linewidth=0)
    ax.axvline(_SLOPE, color="0.5", linewidth=0.6)
    for regime, shift in _REGIMES.items():
        line = rows[rows["regime"] == regime]
        places = np.array([worlds.index(world) for world in line["world"]]) + shift
        spread = np.abs(line[["low90", "high90"]].to_numpy().T - line["slope"].to_numpy())
        fill = style.colour if regime == "paired" else "white"
        look = {"color": style.colour, "marker": style.marker, "markerfacecolor": fill, "markersize": 3.0}
        ax.errorbar(line["slope"], places, xerr=spread, linestyle="none", elinewidth=0.9, **look)
        bent = (line["lack_of_fit_p"] < _LEAST_P).to_numpy()
        ax.plot(line["high90"][bent] + 0.012, places[bent], color="black", marker="*", markersize=4, linestyle="none")
    ax.set(yticks=range(len(worlds)), ylim=(len(worlds) - 0.5, -0.5), title=style.label, ylabel="preference model")
    ax.set_yticklabels([_NAMES.get(world, world.replace("_", " ")) for world in worlds])
    ax.set(xlabel="slope", xticks=[_SLOPE - _MARGIN, _SLOPE, _SLOPE + _MARGIN])
    ax.set_xticklabels(
        ["\N{MINUS SIGN}.55", "\N{MINUS SIGN}.5", "\N{MINUS SIGN}.45"], rotation=90
    )  # columns are narrow
    furthest = max(np.abs(gathered[["low90", "high90"]] - _SLOPE).max(axis=None) + 0.015, 1.3 * _MARGIN)
    ax.set_xlim(_SLOPE - furthest, _SLOPE + furthest)
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a column for each method.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    gathered = _gather([tables[name] for name in TABLES])
    methods = [method for method in _METRICS if method in set(gathered["method"])]
    worlds = gathered["world"].nunique()
    figure = new_figure(DOUBLE_COLUMN, 1.4 + 0.21 * worlds)
    axes = figure.subplots(1, len(methods), sharex=True, sharey=True, squeeze=False)
    for ax, method in zip(axes.flat, methods, strict=True):
        plot_rates(gathered, method=method, ax=ax)
        ax.label_outer()
    letter(axes)
    figure.legend(handles=_handles(), loc="outside upper center", ncols=4)
    sizes = " or ".join(str(points) for points in sorted(gathered["points"].unique()))
    figure.supxlabel(
        "slope of log TV on log n: to the preferred law for RDRO, DDRO, MLE and SFT, to their own exact targets for "
        f"DPO, IPO and KTO\nwith 90 % intervals, over the largest {sizes} sample sizes",
        fontsize=7,
    )
    panels = {method: chr(ord("a") + index) for index, method in enumerate(methods)}
    return Drawing(figure, gathered.assign(panel=gathered["method"].map(panels)))


def _handles() -> list[Line2D | Patch]:
    """Return what markers and band mean."""
    look = {"color": "0.2", "linestyle": "none", "markersize": 3.5}
    return [
        Line2D([], [], marker="o", label="compared pairs", **look),
        Line2D([], [], marker="o", markerfacecolor="white", label="labels of single responses", **look),
        Line2D([], [], marker="*", label=f"no straight line (p < {_LEAST_P:g})", **look),
        Patch(facecolor="0.9", label=f"\N{MINUS SIGN}1/2 \N{PLUS-MINUS SIGN} {_MARGIN:g}"),
    ]


def _gather(rates: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the slopes that are shown: of each method's own error, and of thumbs without noise."""
    frames = []
    for table in rates:
        rows = table[table["method"].map(_METRICS) == table["metric"]]
        if "label_noise" in rows:
            rows = pick(rows, {"world": "thumbs", "label_noise": 0.0}).assign(regime="unpaired")
        frames.append(rows[[*_RATES, "regime"]])
    shown = pd.concat(frames, ignore_index=True).dropna(subset=["slope"])
    return only_series(shown, ["world", "regime", "method"])
