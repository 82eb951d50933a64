"""Where label rates differ by prompt, RDRO needs alpha and class weights by prompt; alpha(x) alone makes it worse.

Thumbs up and down on single responses at three prompts whose label rates run from about 0.1 to 0.9. Mean errors against
the sample size, a panel for each loss; thin lines are the errors of exact targets, where errors end. "One alpha" is the
class share of all data. MLE needs alpha(x) alone. DDRO with alpha(x) and the class weights of all data is not shown:
its risk is not convex there, and hardly any of its fits could be certified as a minimum. Where rates are equal, one
alpha is enough; that is not shown either.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.error_curves import ERROR_COLUMNS, draw_curves, select_errors
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, new_axes, new_figure, variant_styles

__all__ = ["TABLES", "draw", "plot_error_under_unequal_rates"]

TABLES = {"prompt_rates/summary": ERROR_COLUMNS}
"""Tables read, with the columns needed."""

_WHERE = {"world": "unequal rates"}
_TEXTS = {
    "one alpha": r"one $\alpha$",
    "alpha(x)": r"$\alpha(x)$",
    "alpha(x), weights(x)": r"$\alpha(x)$, weights(x)",
}
_VARIANTS = {
    "rdro": ("one alpha", "alpha(x)", "alpha(x), weights(x)"),
    "ddro": ("one alpha", "alpha(x), weights(x)"),
    "mle": ("one alpha", "alpha(x)"),
}


def plot_error_under_unequal_rates(summary: pd.DataFrame, method: str = "rdro", *, ax: Axes | None = None) -> Axes:
    """Plot mean errors of the variants of one method against the sample size, where label rates differ by prompt.

    Parameters
    ----------
    summary : DataFrame
        Summary of the study prompt_rates.
    method : {"rdro", "ddro", "mle"}
        Method; SFT, which needs no alpha, is drawn beside it.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One line for each variant with the 95 % interval of the mean as a band, and a thin line at the error of its
        exact target where that is not 0.

    Raises
    ------
    ValueError
        If the method is unknown, or the table has no such rows.
    """
    if method not in _VARIANTS:
        raise ValueError(f"method must be one of {', '.join(_VARIANTS)}; got {method!r}")
    ax = new_axes() if ax is None else ax
    lines = _lines(method)
    rows = select_errors(summary, "prompt_rates", lines, _WHERE)
    draw_curves(ax, rows, lines)
    ax.set_title(METHOD_STYLES[method].label)
    # The lower left corner is made empty: the legend fits there.
    _fit(ax, rows)
    ax.legend(loc="lower left")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a panel for each loss.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    summary = tables["prompt_rates/summary"]
    figure = new_figure(DOUBLE_COLUMN, 2.9)
    axes = figure.subplots(1, len(_VARIANTS), sharey=True)
    parts = []
    for ax, method, panel in zip(axes, _VARIANTS, "abc", strict=True):
        plot_error_under_unequal_rates(summary, method, ax=ax)
        ax.label_outer()
        rows = select_errors(summary, "prompt_rates", _lines(method), _WHERE)
        parts.append(rows[list(ERROR_COLUMNS)].assign(panel=panel))
    _fit(axes[0], pd.concat(parts))  # which the others share
    letter(axes)
    figure.supxlabel(
        "bands: 95 % intervals of the mean; thin lines: exact targets other than the preferred law itself\n"
        r"one $\alpha$: class share of all data; $\alpha(x)$, weights(x): $\alpha$ and class weights by prompt",
        fontsize=7,
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _fit(ax: Axes, rows: pd.DataFrame) -> None:
    """Set limits that show all errors above room for the legend."""
    low, high = rows["mean"].min(), rows["mean"].max()
    ax.set_ylim(low / (high / low) ** 0.65, high * 1.6)


def _lines(method: str) -> dict[str, LineStyle]:
    """Return the looks of the variants of a method and of SFT, by their labels in the table."""
    shades = variant_styles(method, [_TEXTS[variant] for variant in _VARIANTS[method]])
    return {f"{method}, {variant}": shades[_TEXTS[variant]] for variant in _VARIANTS[method]} | {
        "sft": METHOD_STYLES["sft"]
    }
