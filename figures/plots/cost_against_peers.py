"""Sampling of counts, batched exact fits and the fused output head cost less than named peers, the head not everywhere.

Times and peaks of memory that ``make bench`` measured, from benchmarks/published.csv: medians with the least and the
largest repetition. Upper row: a simulated replicate against its sample size, and an exact fit of RDRO against the
number of responses. Middle row: a training step of a language model, at the largest vocabulary measured. Lower row: its
output head alone, forward and backward: its time against the width of the model and its memory against the vocabulary;
at large widths products with the head take nearly all of the time, of which it needs more. Ratios of times are those of
one machine and these versions; memory depends less on it.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from figures.plots.language_models import plain_numbers
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, letter, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_cost_against_size", "plot_step_cost"]

_COLUMNS = ("question", "contender", "role", "size_name", "size", "quantity", "unit", "median", "low", "high")
TABLES = {"benchmarks/published": (*_COLUMNS, "repetitions", "processor", "threads", "load", "versions")}
"""Tables read, with the columns needed."""

_PANELS = (
    ("sample_size", "time a replicate", "examples"),
    ("tabular_fit", "time a fit", "responses"),
    ("lm_step", "time a step", "vocabulary"),
    ("lm_step", "peak memory", "vocabulary"),
    ("lm_head", "time a pass", "width"),
    ("lm_head", "peak memory", "vocabulary"),
)
_TRAINERS = {
    "relratio, frozen": "frozen runs its reference model at every step",
    "relratio, full": "full keeps all logits",
    "trl, lean": "lean is trl in float32 with nothing that RDRO does not need",
}
_TITLES = {
    "sample_size": "drawing and fitting a replicate",
    "tabular_fit": "exact fit of tabular RDRO",
    "lm_step": "training step",
    "lm_head": "output head, forward and backward",
}
_SIZES = {"examples": "sample size n", "responses": "responses", "width": "width of the model"}
_LOOKS = [METHOD_STYLES["rdro"], METHOD_STYLES["ddro"], METHOD_STYLES["mle"]]


def plot_cost_against_size(
    table: pd.DataFrame,
    question: str = "sample_size",
    quantity: str = "time a replicate",
    size_name: str = "examples",
    *,
    ax: Axes | None = None,
) -> Axes:
    """Plot what contenders cost against the size of the problem, on logarithmic axes.

    Parameters
    ----------
    table : DataFrame
        Published measurements.
    question : {"sample_size", "tabular_fit", "lm_head"}
        Benchmark.
    quantity : str
        What was measured, as the table names it.
    size_name : str
        What was varied, as the table names it.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One line for each contender, ours first, with bars from the least to the largest repetition.

    Raises
    ------
    ValueError
        If the table has no such rows, or more contenders than can be told apart.
    """
    ax = new_axes() if ax is None else ax
    rows = _select(table, question, quantity, size_name)
    names = list(dict.fromkeys(rows["contender"]))
    if len(names) > len(_LOOKS):
        raise ValueError(f"a panel must show at most {len(_LOOKS)} contenders, got {len(names)} of {question}")
    for name, style in zip(names, _LOOKS, strict=False):
        line = rows[rows["contender"] == name].sort_values("size")
        ax.errorbar(line["size"], line["median"], _arms(line), capsize=1.5, **style.points())
    ax.set(xscale="log", yscale="log", title=_TITLES[question], ylabel=_quantity(rows))
    ax.set_xlabel(_SIZES.get(size_name, size_name))
    sizes = sorted(rows["size"].unique())
    if len(sizes) <= 4:  # few sizes are named one by one
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = rows["median"].min(), rows["median"].max()
    # The legend has the upper part of the panel for itself.
    ax.set_ylim(low / 2.0, high * 2.0 * (2.0 * high / low) ** (0.16 * len(names)))
    handles = [Line2D([], [], label=name, **style.points()) for name, style in zip(names, _LOOKS, strict=False)]
    ax.legend(handles=handles, loc="upper left")
    return ax


def plot_step_cost(table: pd.DataFrame, quantity: str = "time a step", *, ax: Axes | None = None) -> Axes:
    """Plot what a training step costs at the largest vocabulary, one row for each trainer, ours first.

    Parameters
    ----------
    table : DataFrame
        Published measurements.
    quantity : {"time a step", "CPU time a step", "peak memory"}
        What was measured.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Points with bars from the least to the largest repetition, on a logarithmic axis; the look tells ours from
        peers.

    Raises
    ------
    ValueError
        If the table has no such rows.
    """
    ax = new_axes() if ax is None else ax
    rows = _steps(table, quantity)
    labels = {"ours": "relratio", "peer": "peer"}
    for role, style in zip(labels, _LOOKS, strict=False):
        own = (rows["role"] == role).to_numpy()
        look = {**style.points(), "linestyle": "none", "label": labels[role]}
        ax.errorbar(rows.loc[own, "median"], np.flatnonzero(own), xerr=_arms(rows[own]), capsize=1.5, **look)
    ax.set_yticks(range(len(rows)), rows["contender"])
    ax.set(
        xscale="log",
        ylim=(len(rows) - 0.5, -0.5),
        title=f"{_TITLES['lm_step']}, vocabulary {rows['size'].iloc[0]:,}",
        xlabel=_quantity(rows),
    )
    plain_numbers(ax.xaxis)
    ax.set_ylabel("trainer")
    ax.grid(visible=False, axis="y")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw curves against size, a training step and its output head.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers, with the machine and versions of each.
    """
    table = tables["benchmarks/published"]
    figure = new_figure(DOUBLE_COLUMN, 6.6)
    axes = figure.subplots(3, 2)
    parts = []
    for ax, (question, quantity, size_name), panel in zip(axes.flat, _PANELS, "abcdef", strict=True):
        if question == "lm_step":
            plot_step_cost(table, quantity, ax=ax)
            rows = _steps(table, quantity)
        else:
            plot_cost_against_size(table, question, quantity, size_name, ax=ax)
            rows = _select(table, question, quantity, size_name)
        parts.append(rows.assign(panel=panel))
    axes[1, 1].set(ylabel="", yticklabels=[])  # the same trainers
    letter(axes)
    rows = pd.concat(parts, ignore_index=True)
    figure.supxlabel(_note(rows), fontsize=7)
    return Drawing(figure, rows)


def _note(rows: pd.DataFrame) -> str:
    """Return how to read the figure, and what it was measured on."""
    threads = sorted(rows["threads"].unique())
    counts = rows["repetitions"]
    trainers = [text for name, text in _TRAINERS.items() if (rows["contender"] == name).any()]
    return (
        f"points: medians of {counts.min()} to {counts.max()} repetitions, bars: the least and the largest; blue: "
        "relratio, others: peers;\nprocessor: "
        f"{', '.join(dict.fromkeys(rows['processor']))}; threads: {' or '.join(f'{count:g}' for count in threads)}; "
        f"versions and loads are in the CSV.\nTrainers: {', '.join(trainers)}"
    )


def _quantity(rows: pd.DataFrame) -> str:
    """Return the label of an axis of costs."""
    return f"{rows['quantity'].iloc[0]} ({rows['unit'].iloc[0]})"


def _arms(rows: pd.DataFrame) -> np.ndarray:
    """Return the arms of bars from the least to the largest repetition, (2, rows)."""
    ends = rows[["low", "high"]].to_numpy(float).T
    return np.asarray(np.abs(ends - rows["median"].to_numpy(float)))


def _steps(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return the rows of training steps at the largest vocabulary, ours first."""
    rows = _select(table, "lm_step", quantity, "vocabulary")
    return rows[rows["size"] == rows["size"].max()]


def _select(table: pd.DataFrame, question: str, quantity: str, size_name: str) -> pd.DataFrame:
    """Return the rows of a panel, ours first."""
    wanted = {"question": question, "quantity": quantity, "size_name": size_name}
    rows = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    if rows.empty:
        raise ValueError(f"benchmarks/published must hold {quantity} of {question} against {size_name}, got none")
    rows = rows.sort_values("role", kind="stable")[[*TABLES["benchmarks/published"]]]
    return only_series(rows, ["contender", "size"])
