"""More labelled completions bring language models of RDRO, DDRO and SFT nearer to the preferred law at equal steps.

KL divergence of the policy from the preferred law against the number of labelled completions, in the experiment
sample_size: where each method stops at its own least held-out loss, and at the last step, where few completions are
learnt by heart. The dotted line is the reference that training starts from, thin lines are exact targets. All sizes get
equally many steps, so that this is no rate of convergence. Intervals hold differences between languages, which paired
comparisons of methods do not.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from figures.plots.language_models import (
    STYLES,
    add_reference,
    add_targets,
    at_last_step,
    at_least_held_out_loss,
    errors,
    own_target,
    select,
)
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, letter, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_kl_against_n"]

_COLUMNS = ("world", "n", "learning_rate", "method", "step", "metric", "replicates", "mean", "low", "high", "exact")
TABLES = {"sample_size/summary": (*_COLUMNS, "finite", "share_diverged", "share_error")}
"""Tables read, with the columns needed."""

_WORLD = "good overlap"
_METHODS = ("rdro", "ddro, extended", "sft")
_STOPS = {"held_out": "stopped at least held-out loss", "last": "at the last step"}
# Methods stand beside each other at each n: this much apart, in decades.
_APART = 0.05


def plot_kl_against_n(table: pd.DataFrame, stop: str = "held_out", *, ax: Axes | None = None) -> Axes:
    """Plot mean distances against the number of labelled completions, with the distances of exact targets.

    Parameters
    ----------
    table : DataFrame
        Summary of the experiment sample_size.
    stop : {"held_out", "last"}
        Which weights: those of the step at which the method's own held-out loss is least, or the last ones.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One labelled line for each method with 95 % intervals, on logarithmic axes.

    Raises
    ------
    ValueError
        If `stop` is neither, or the table lacks a method.
    """
    if stop not in _STOPS:
        raise ValueError(f"stop must be one of {', '.join(_STOPS)}; got {stop!r}")
    ax = new_axes() if ax is None else ax
    rows = _select(table, stop)
    for index, method in enumerate(_METHODS):
        style, line = STYLES[method], rows[rows["method"] == method]
        beside = line["n"] * 10 ** (_APART * (index - 1))
        label = f"{style.label}, target {own_target(line['exact'].max())}"
        ax.errorbar(beside, line["mean"], errors(line), label=label, capsize=1.5, **style.points())
    add_targets(ax, rows, {method: STYLES[method] for method in _METHODS}, rows["high"].max())
    reference = add_reference(ax, select(table, "kl_preferred", world=_WORLD, method="rdro"))
    ax.set(xscale="log", yscale="log", xlabel="labelled completions n", ylabel="KL from preferred law (nats)")
    ax.set_title(_STOPS[stop])
    sizes = sorted(rows["n"].unique())
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    ax.xaxis.set_minor_formatter(NullFormatter())
    targets = rows.loc[rows["exact"] > 1e-6, "exact"]
    ax.set_ylim(min([rows["mean"].min(), *targets]) / 1.6, max(rows["high"].max(), reference) * 1.3)
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw a panel for each way to stop.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    table = tables["sample_size/summary"]
    figure = new_figure(DOUBLE_COLUMN, 3.2)
    axes = figure.subplots(1, len(_STOPS), sharex=True, squeeze=False)
    parts = []
    for ax, stop, panel in zip(axes.flat, _STOPS, "ab", strict=True):
        plot_kl_against_n(table, stop, ax=ax)
        parts.append(_select(table, stop)[list(_COLUMNS)].assign(panel=panel))
    limits = [ax.get_ylim() for ax in axes.flat]
    for ax in axes.flat:
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        ax.label_outer()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(_METHODS))
    letter(axes)
    figure.supxlabel(
        f"bars: 95 % t intervals over {parts[0]['replicates'].max()} repetitions, methods side by side at each n; "
        "thin lines: exact targets;\ndotted: the reference, before training. Legend: KL(preferred law || exact target) "
        "in nats",
        fontsize=7,
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _select(table: pd.DataFrame, stop: str) -> pd.DataFrame:
    """Return the points of one panel."""
    rows = pd.concat([select(table, "kl_preferred", world=_WORLD, method=method) for method in _METHODS])
    rows = at_least_held_out_loss(table, rows) if stop == "held_out" else at_last_step(rows)
    return rows.sort_values(["method", "n"])
