"""A briefly trained reference costs RDRO and extended DDRO more than SFT; exact log-probabilities repair part at best.

KL divergence of the policy from the preferred law at the step of each method's own least held-out loss, in the
experiment reference_error. In the first world the reference was trained briefly, in the last one long enough; between
them the losses are given the exact log-probabilities of the mixture, while training starts from the same poor network.
Crosses are exact targets, which the reference moves. Intervals in the upper row hold differences between languages;
the lower row compares each run with the run of SFT on the same language and data.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.language_models import STYLES, at_least_held_out_loss, differences, plot_rows, select
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, letter, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_excess_over_sft", "plot_kl_by_reference"]

_COLUMNS = ("world", "n", "learning_rate", "method", "step", "metric", "replicates", "mean", "low", "high", "exact")
TABLES = {
    "reference_error/summary": (*_COLUMNS, "finite", "share_diverged", "share_error"),
    "reference_error/metrics": (*_COLUMNS[:6], "replicate", "status", "value"),
}
"""Tables read, with the columns needed."""

_WORLDS = {
    "trained briefly": "trained briefly",
    "trained briefly, exact log-probabilities": "briefly; exact log p",
    "trained for a while": "trained for a while",
    "trained well": "trained well",
}
_METHODS = ("rdro", "ddro, extended", "sft")
_BASELINE = "sft"


def plot_kl_by_reference(summary: pd.DataFrame, world: str = "trained well", *, ax: Axes | None = None) -> Axes:
    """Plot mean distances and exact targets under one reference, one row for each method.

    Parameters
    ----------
    summary : DataFrame
        Summary of the experiment reference_error.
    world : str
        World, as the table names it.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Points with 95 % intervals, crosses at exact targets, a dotted line at the reference.

    Raises
    ------
    ValueError
        If the table lacks the world or a method.
    """
    ax = new_axes() if ax is None else ax
    start = select(summary, "kl_preferred", world=world, method=_BASELINE)
    plot_rows(ax, _select(summary, world), {method: STYLES[method] for method in _METHODS}, start)
    ax.set(ylabel="method", title=_WORLDS.get(world, world))
    return ax


def plot_excess_over_sft(
    summary: pd.DataFrame, metrics: pd.DataFrame, world: str = "trained well", *, ax: Axes | None = None
) -> Axes:
    """Plot how much further each run ended than that of SFT on the same language and data.

    Parameters
    ----------
    summary, metrics : DataFrame
        Tables of the experiment reference_error.
    world : str
        World, as the tables name it.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One point for each run, a row for each method, a line at 0.

    Raises
    ------
    ValueError
        If the tables lack the world or a method.
    """
    ax = new_axes() if ax is None else ax
    runs = _excess(summary, metrics, world)
    others = [method for method in _METHODS if method != _BASELINE]
    for place, method in enumerate(others):
        values = runs.loc[runs["method"] == method, "difference"]
        look = {**STYLES[method].points(), "linestyle": "none", "markerfacecolor": "none"}
        ax.plot(values, [place] * len(values), **look)
    ax.axvline(0.0, color="0.45", linewidth=0.8)
    ax.set_yticks(range(len(others)), [STYLES[method].label for method in others])
    ax.set(ylim=(len(others) - 0.5, -0.5), xlabel="KL less that of SFT (nats)", ylabel="method")
    ax.grid(visible=False, axis="y")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a column for each reference: distances, and differences from SFT.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    summary, metrics = tables["reference_error/summary"], tables["reference_error/metrics"]
    worlds = [world for world in _WORLDS if world in set(summary["world"])]
    if not worlds:
        raise ValueError(f"reference_error must hold one of the worlds {'; '.join(_WORLDS)}; got none")
    figure = new_figure(DOUBLE_COLUMN, 3.6)
    axes = figure.subplots(2, len(worlds), sharex="row", sharey="row", squeeze=False, height_ratios=(3, 2))
    limits = []
    for column, world in zip(axes.T, worlds, strict=True):
        limits.append(plot_kl_by_reference(summary, world, ax=column[0]).get_xlim())
        plot_excess_over_sft(summary, metrics, world, ax=column[1])
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    for upper, lower in axes.T:  # up to four columns: the note says the rest
        upper.set_xlabel("KL (nats)")
        lower.set_xlabel("KL less SFT's (nats)")
    axes[0, 0].set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    letter(axes)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    parts = [_select(summary, world) for world in worlds]
    n, repetitions = parts[0]["n"].iloc[0], parts[0]["replicates"].max()
    figure.supxlabel(
        f"KL(preferred law || policy) at the step of the least held-out loss, n = {n:,} completions; bars: 95 % t "
        f"intervals over {repetitions} repetitions;\ndotted: the network that training starts from; no cross: the "
        "exact target is the preferred law itself or (DDRO, extended) unknown;\nexact log p: losses are given exact "
        "log-probabilities of the mixture; lower row: single runs, right of 0 is worse than SFT",
        fontsize=7,
    )
    parts += [_excess(summary, metrics, world) for world in worlds]
    data = [rows.assign(panel="abcdefgh"[index]) for index, rows in enumerate(parts)]
    return Drawing(figure, pd.concat(data, ignore_index=True))


def _excess(summary: pd.DataFrame, metrics: pd.DataFrame, world: str) -> pd.DataFrame:
    """Return differences from SFT in a world, run by run."""
    return differences(metrics, _select(summary, world), _BASELINE)


def _select(table: pd.DataFrame, world: str) -> pd.DataFrame:
    """Return one row for each method in a world at its own choice of a step."""
    rows = pd.concat([select(table, "kl_preferred", world=world, method=method) for method in _METHODS])
    rows = at_least_held_out_loss(table, rows[rows["n"] == rows["n"].max()])
    absent = [method for method in _METHODS if method not in set(rows["method"])]
    if absent:
        raise ValueError(f"reference_error must hold held_out_loss of {absent[0]} in the world {world}, got none")
    return rows[list(_COLUMNS)].reset_index(drop=True)
