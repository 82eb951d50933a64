"""Label rates that depend on the prompt need alpha and class weights by prompt, in language models of RDRO too.

KL divergence of the policy from the preferred law at the step of each method's own least held-out loss, in the
experiment rates_by_prompt, where the share of preferred labels runs from .1 to .9 over prompts. Crosses are exact
targets: with one alpha, and with alpha by prompt but one weight for each class, RDRO has another target than the
preferred law. Intervals hold differences between languages, which paired comparisons do not.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.language_models import at_least_held_out_loss, plot_rows, select
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, method_shades, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_kl_by_repair"]

_COLUMNS = ("world", "n", "learning_rate", "method", "step", "metric", "replicates", "mean", "low", "high", "exact")
TABLES = {"rates_by_prompt/summary": (*_COLUMNS, "finite", "share_diverged", "share_error")}
"""Tables read, with the columns needed."""

_WORLD = "rates .1 to .9"
_RDRO = {
    "rdro, one alpha": r"RDRO, one $\alpha$",
    "rdro, alpha(x)": r"RDRO, $\alpha(x)$",
    "rdro, counted alpha(x), weights by prompt": r"RDRO, counted $\alpha(x)$, weights by prompt",
    "rdro, alpha(x), weights by prompt": r"RDRO, $\alpha(x)$, weights by prompt",
}
_MLE = "mle, alpha(x), rows beyond left out"


def _styles() -> dict[str, LineStyle]:
    """Return the looks of the methods from top to bottom; RDRO is darker the more it is told."""
    shades = method_shades("rdro", range(len(_RDRO))).values()
    looks = {
        label: LineStyle(text, colour, marker, "-")
        for (label, text), colour, marker in zip(_RDRO.items(), shades, "osDP", strict=True)
    }
    mle = METHOD_STYLES["mle"]
    looks[_MLE] = LineStyle(r"MLE, $\alpha(x)$, rows left out", mle.colour, mle.marker, mle.dash)
    return looks | {"sft": METHOD_STYLES["sft"]}


def plot_kl_by_repair(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot mean distances and exact targets, one row for each way to tell a method of the rates.

    Parameters
    ----------
    table : DataFrame
        Summary of the experiment rates_by_prompt.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Points with 95 % intervals, crosses at exact targets, a dotted line at the reference.

    Raises
    ------
    ValueError
        If the table lacks a method.
    """
    ax = new_axes() if ax is None else ax
    plot_rows(ax, _select(table), _styles(), select(table, "kl_preferred", world=_WORLD, method="sft"))
    ax.set_ylabel("method")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw the one panel.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    table = tables["rates_by_prompt/summary"]
    rows = _select(table)
    figure = new_figure(DOUBLE_COLUMN, 2.7)
    ax = plot_kl_by_repair(table, ax=figure.subplots())
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supxlabel(
        f"n = {rows['n'].iloc[0]:,} completions; bars: 95 % t intervals over {rows['replicates'].max()} repetitions; "
        "dotted: the reference, before training;\nthe exact target of SFT is the preferred law itself; at the step of "
        "the least held-out loss",
        fontsize=7,
    )
    return Drawing(figure, rows.assign(panel="a"))


def _select(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each method at its own choice of a step."""
    rows = pd.concat([select(table, "kl_preferred", world=_WORLD, method=method) for method in _styles()])
    rows = at_least_held_out_loss(table, rows[rows["n"] == rows["n"].max()])
    absent = [method for method in _styles() if method not in set(rows["method"])]
    if absent:
        raise ValueError(f"rates_by_prompt must hold held_out_loss of {absent[0]}, got none")
    return rows[list(_COLUMNS)].reset_index(drop=True)
