"""Balanced class weights bring a language model of RDRO near the preferred law; pooled ones drive it away from there.

KL divergence of the policy from the preferred law against training steps, in the experiment weighting: with balanced
class weights, and with a plain mean over mixed batches (pooled), which is what a trainer does that knows of no weights.
Thin lines are the exact targets of both. Worlds are named by alpha, the share of preferred completions that the
reference was made with, and by the share of preferred labels in the data. Pooled weights are drawn to a target of their
own; the trained network need not be there yet.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.language_models import add_targets, own_target, select
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, WEIGHTING_STYLES, letter, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_weighting_against_steps"]

_COLUMNS = ("world", "n", "learning_rate", "method", "step", "metric", "replicates", "mean", "low", "high", "exact")
TABLES = {"weighting/summary": _COLUMNS}
"""Tables read, with the columns needed."""

_WORLDS = {
    "alpha .5, labels .2": r"$\alpha$ = 0.5, label share 0.2",
    "alpha .2, labels .2": r"$\alpha$ = 0.2, label share 0.2",
    "alpha .5, labels .5": r"$\alpha$ = 0.5, label share 0.5",
}


def plot_weighting_against_steps(
    table: pd.DataFrame, world: str = "alpha .2, labels .2", *, ax: Axes | None = None
) -> Axes:
    """Plot mean distances of balanced and pooled weights against training steps.

    Parameters
    ----------
    table : DataFrame
        Summary of the experiment weighting.
    world : str
        World, as the table names it.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One labelled line for each weighting with the 95 % interval of its mean as a band, on a logarithmic axis.

    Raises
    ------
    ValueError
        If the table lacks the world or one of the weightings.
    """
    ax = new_axes() if ax is None else ax
    rows = _select(table, world)
    for weighting, style in WEIGHTING_STYLES.items():
        line = rows[rows["method"] == weighting]
        label = f"{weighting}, target {own_target(line['exact'].max())}"
        ax.semilogy(line["step"], line["mean"], label=label, **style.points())
        ax.fill_between(line["step"], line["low"], line["high"], color=style.colour, alpha=0.2, linewidth=0)
    add_targets(ax, rows, WEIGHTING_STYLES, float("inf"))
    low = min([rows["mean"].min(), *rows.loc[rows["exact"] > 1e-6, "exact"]])
    high = max(rows["high"].max(), rows["exact"].max())
    # Room for the legend above everything.
    ax.set_ylim(low / 1.6, high * (high / low) ** 0.35)
    ax.set(xlabel="training steps", ylabel="KL from preferred law (nats)", title=_WORLDS.get(world, world))
    ax.legend(loc="upper left")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a panel for each world.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    table = tables["weighting/summary"]
    worlds = [world for world in _WORLDS if world in set(table["world"])]
    if not worlds:
        raise ValueError(f"weighting must hold one of the worlds {'; '.join(_WORLDS)}; got none")
    figure = new_figure(DOUBLE_COLUMN, 2.7)
    axes = figure.subplots(1, len(worlds), squeeze=False)
    parts = []
    for ax, world, panel in zip(axes.flat, worlds, "abc", strict=False):
        plot_weighting_against_steps(table, world, ax=ax)
        parts.append(_select(table, world).assign(panel=panel))
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    letter(axes)
    rows = parts[0]
    figure.supxlabel(
        f"RDRO at n = {rows['n'].iloc[0]:,} completions; bands: 95 % t intervals over {rows['replicates'].max()} "
        "repetitions; thin lines: exact targets;\nstep 0: the reference. Legends: KL(preferred law || exact target) in "
        "nats",
        fontsize=7,
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _select(table: pd.DataFrame, world: str) -> pd.DataFrame:
    """Return the points of one panel."""
    rows = pd.concat([select(table, "kl_preferred", world=world, method=weighting) for weighting in WEIGHTING_STYLES])
    largest: pd.DataFrame = rows.loc[rows["n"] == rows["n"].max(), list(_COLUMNS)]
    return largest
