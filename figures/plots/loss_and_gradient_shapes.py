"""DDRO's gradient blows up at the edge of its domain, while RDRO's stays within 1 on the whole line.

Losses per example and their derivatives against the log-ratio u of policy to reference, logistic generator (proposition
P4). DDRO is shown as it is, infinite from ``u = log(1/alpha)`` on, and with the linear continuation of log g that makes
it finite. The continuation is ours; that of DDRO's authors is unknown to us. Slopes in u say what one example can do to
one step of training, not how good the minimum is, and parameters of a network have slopes of their own.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, letter, method_shades, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_loss_shapes"]

TABLES = {"loss_shapes/table": ("method", "beyond_domain", "alpha", "preferred", "log_ratio", "loss", "derivative")}
"""Tables read, with the columns needed."""

_FORMS = {
    ("rdro", "none"): METHOD_STYLES["rdro"].dash,
    ("ddro", "infinite"): METHOD_STYLES["ddro"].dash,
    ("ddro", "extend"): (0, (1, 1)),
}
_LABELS = {("rdro", "none"): "RDRO", ("ddro", "infinite"): "DDRO", ("ddro", "extend"): "DDRO continued"}
_NOTE = (
    "shaded: within [\N{MINUS SIGN}1, 1], all of RDRO (the axis is logarithmic outside); "
    r"thin vertical lines: edges $u = \log(1/\alpha)$ of DDRO's domain"
)
_CLASSES = {True: "preferred", False: "nonpreferred"}


def plot_loss_shapes(
    table: pd.DataFrame, quantity: str = "loss", preferred: bool = True, *, ax: Axes | None = None
) -> Axes:
    """Plot losses of one class, or their derivatives, against the log-ratio.

    Parameters
    ----------
    table : DataFrame
        As made by the study loss_shapes.
    quantity : {"loss", "derivative"}
        What to plot.
    preferred : bool
        The class.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One colour for each method, darker for larger alpha; dotted is DDRO continued, and thin vertical lines are the
        edges of DDRO's domain. Derivatives have an axis that is linear within [-1, 1], where all of RDRO lies, and
        logarithmic outside.

    Raises
    ------
    ValueError
        If the quantity is unknown.
    """
    if quantity not in ("loss", "derivative"):
        raise ValueError(f"quantity must be one of loss, derivative; got {quantity!r}")
    ax = new_axes() if ax is None else ax
    rows = _select(table)
    rows = rows[rows["preferred"] == preferred]
    for (method, form), dash in _FORMS.items():
        shades = method_shades(method, rows["alpha"].unique())
        for alpha, colour in shades.items():
            line = rows[(rows["method"] == method) & (rows["beyond_domain"] == form) & (rows["alpha"] == alpha)]
            label = rf"{_LABELS[method, form]}, $\alpha$ = {alpha:g}"
            ax.plot(line["log_ratio"], line[quantity], color=colour, linestyle=dash, label=label)
            if form == "infinite":
                ax.axvline(line["log_ratio"].max(), color=colour, linewidth=0.5, alpha=0.6)
    if quantity == "loss":
        ax.set_ylim(-0.3, 8.0)
    else:
        ax.axhspan(-1.0, 1.0, color=METHOD_STYLES["rdro"].colour, alpha=0.08, linewidth=0)
        ax.set_yscale("symlog", linthresh=1.0, linscale=1.2)
        ax.set_ylim(-20.0, 2e4)
        ax.set_yticks(
            [-10, -1, 0, 1, 10, 100, 1000, 10_000],
            ["\N{MINUS SIGN}10", "\N{MINUS SIGN}1", "0", "1", "10", "100", "1,000", "10,000"],
        )
        ax.yaxis.set_minor_locator(NullLocator())
    ylabel = {"loss": "loss (nats)", "derivative": "derivative in $u$"}[quantity]
    ax.set(
        xlabel=r"log-ratio $u$ of policy to reference (nats)", ylabel=ylabel, title=f"{quantity}, {_CLASSES[preferred]}"
    )
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw losses above derivatives, preferred beside non-preferred.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    table = tables["loss_shapes/table"]
    figure = new_figure(DOUBLE_COLUMN, 4.4)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for row, quantity in zip(axes, ("loss", "derivative"), strict=True):
        for ax, preferred in zip(row, (True, False), strict=True):
            plot_loss_shapes(table, quantity, preferred, ax=ax)
            ax.label_outer()
    letter(axes)
    figure.align_ylabels(axes[:, 0])
    figure.supxlabel(_NOTE, fontsize=7)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(_FORMS))
    return Drawing(
        figure, _select(table).assign(panel=lambda rows: rows["preferred"].map({True: "a, c", False: "b, d"}))
    )


def _select(table: pd.DataFrame) -> pd.DataFrame:
    """Return the finite losses for the smallest, middle and largest alpha: more curves could not be told apart."""
    alphas = np.sort(table["alpha"].unique())
    shown = alphas[np.unique([0, len(alphas) // 2, len(alphas) - 1])]
    rows = table.loc[table["alpha"].isin(shown) & np.isfinite(table["loss"]), list(TABLES["loss_shapes/table"])]
    keys = ["method", "beyond_domain", "alpha", "preferred", "log_ratio"]
    return only_series(rows.sort_values(keys, kind="stable"), keys)
