"""Language models of RDRO, DDRO, MLE and SFT near the preferred law; those of DPO, IPO and KTO are drawn elsewhere.

KL divergence of tiny Qwen2 models on languages whose every probability is known, against training steps, for each
learning rate of the experiment methods, in its world of good overlap. Upper rows: from the preferred law; last row:
from each method's own exact target, which is what its loss asks for. The legend tells how far that target is from the
preferred law; thin lines stand at those that are not too far to be shown. Three repetitions in the quick profile show
large differences only, and their intervals hold differences between languages, which paired comparisons do not. Strict
DDRO and the likelihood with all rows stop at infinite losses and are in another figure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.plots.language_models import STYLES, add_targets, own_target, select
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, letter, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_kl_against_steps"]

_COLUMNS = ("world", "n", "learning_rate", "method", "step", "metric", "replicates", "mean", "low", "high", "exact")
TABLES = {"methods/summary": _COLUMNS}
"""Tables read, with the columns needed."""

_WORLD = "good overlap"
_AIMED = ("rdro", "rdro, KL generator", "ddro, extended", "mle, rows beyond left out", "sft")
_OTHERS = ("rdro", "ipo, beta 1", "dpo, beta 1", "dpo, beta .1", "kto, beta 1", "kto, beta .1")
_OWN = ("rdro", "mle, rows beyond left out", "sft", "ipo, beta 1", "dpo, beta 1", "dpo, beta .1")
_ROWS = ((_AIMED, "kl_preferred"), (_OTHERS, "kl_preferred"), (_OWN, "kl_target"))
_LABELS = {"kl_preferred": "KL from preferred law (nats)", "kl_target": "KL from own target (nats)"}
# A target that would more than double the height of a panel is told by its legend alone.
_HIGHEST = 2.0


def plot_kl_against_steps(
    table: pd.DataFrame,
    methods: Sequence[str] = _AIMED,
    metric: str = "kl_preferred",
    learning_rate: float | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot mean distances against training steps, with bands and the distances of exact targets.

    Parameters
    ----------
    table : DataFrame
        Summary of the experiment methods.
    methods : sequence of str
        Methods, as the table labels them.
    metric : {"kl_preferred", "kl_target"}
        KL divergence of the policy from the preferred law, or from the method's own exact target, in nats.
    learning_rate : float, optional
        Learning rate; default the smallest of the table.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One labelled line for each method with the 95 % interval of its mean as a band, on a logarithmic axis.

    Raises
    ------
    ValueError
        If the table lacks one of the methods.
    """
    ax = new_axes() if ax is None else ax
    rate = table["learning_rate"].min() if learning_rate is None else learning_rate
    rows = _select(table, methods, metric, rate)
    for method in methods:
        style, line = STYLES[method], rows[rows["method"] == method]
        target = f", target {own_target(line['exact'].max())}" if metric == "kl_preferred" else ""
        points = {**style.points(), "markerfacecolor": "none", "markersize": 4}
        ax.semilogy(line["step"], line["mean"], label=f"{style.label}{target}", **points)
        ax.fill_between(line["step"], line["low"], line["high"], color=style.colour, alpha=0.15, linewidth=0)
    low, high = rows["mean"].min(), rows["high"].max()
    if metric == "kl_preferred":
        add_targets(ax, rows, {method: STYLES[method] for method in methods}, _HIGHEST * high)
        low = min([low, *rows.loc[rows["exact"].between(1e-6, np.inf), "exact"]])
    # Bands that reach 0 leave a logarithmic axis: it ends below the least mean or target.
    ax.set_ylim(low / 1.6, high * 1.3)
    ax.set(xlabel="training steps", ylabel=_LABELS.get(metric, metric), title=f"learning rate {rate:g}")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a column for each learning rate: methods that aim at the preferred law, others, and own targets.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    table = tables["methods/summary"]
    rates = sorted(select(table, "kl_preferred", world=_WORLD)["learning_rate"].unique())
    figure = new_figure(DOUBLE_COLUMN, 6.8)
    axes = figure.subplots(len(_ROWS), len(rates), sharex=True, sharey="row", squeeze=False)
    parts: list[pd.DataFrame] = []
    for row, (methods, metric) in zip(axes, _ROWS, strict=True):
        limits = []
        for ax, rate in zip(row, rates, strict=True):
            limits.append(plot_kl_against_steps(table, methods, metric, rate, ax=ax).get_ylim())
            ax.label_outer()
            parts.append(_select(table, methods, metric, rate).assign(panel="abcdefghi"[len(parts)]))
        row[0].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    letter(axes)
    entries: dict[str, Any] = {}
    for ax in axes[:2, 0]:
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=3)
    rows = parts[0]
    figure.supxlabel(
        f"n = {rows['n'].iloc[0]:,} completions, {rows['replicates'].max()} repetitions; bands: 95 % t intervals of "
        "the means, cut where they reach 0;\nthin lines: exact targets; step 0: the reference. Legend: "
        "KL(preferred law || exact target) in nats",
        fontsize=7,
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _select(table: pd.DataFrame, methods: Sequence[str], metric: str, rate: float) -> pd.DataFrame:
    """Return the points of one panel."""
    rows = pd.concat([select(table, metric, world=_WORLD, method=method, learning_rate=rate) for method in methods])
    largest: pd.DataFrame = rows.loc[rows["n"] == rows["n"].max(), list(_COLUMNS)]
    return largest
