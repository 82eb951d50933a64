"""Whatever explains the preferences, RDRO, DDRO, MLE and SFT reach the preferred law; DPO, IPO and KTO stay away.

Total variation between each method's policy and the preferred law against the sample size, a panel for each preference
model: compared pairs, thumbs on single responses, and real votes of the Chatbot Arena. Thin lines are the exact targets
of DPO, IPO and KTO, where their errors end. Only one of the models is Bradley-Terry. The reference is the mixture of
both laws and alpha is known, as the theory asks; other figures show what happens where they are not. A method that
stays away from the preferred law need not be worse for a user: it has another target.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from figures.plots.error_curves import ERROR_COLUMNS, draw_curves, handles_of, pick, select_errors
from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, new_axes, new_figure

__all__ = ["TABLES", "draw", "plot_error_in_world"]

TABLES = {
    "consistency/summary": (*ERROR_COLUMNS, "regime"),
    "label_noise/summary": (*ERROR_COLUMNS, "label_noise"),
    "arena/summary": (*ERROR_COLUMNS, "regime"),
}
"""Tables read, with the columns needed."""

_COLUMNS = 4
_TITLES = {"bradley_terry": "Bradley\N{EN DASH}Terry", "thumbs": "thumbs (unpaired)", "arena": "real votes (arena)"}
# Votes as a model would have them, which is one more world of Bradley-Terry.
_LEFT_OUT = "arena, Bradley-Terry"


def plot_error_in_world(*summaries: pd.DataFrame, world: str = "hodge", ax: Axes | None = None) -> Axes:
    """Plot mean errors against the sample size in one world: compared pairs, or thumbs where the world has no pairs.

    Parameters
    ----------
    *summaries : DataFrame
        Summaries of the studies consistency, label_noise (for the world "thumbs") and arena, or some of them.
    world : str
        World to plot.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        One line for each method with the 95 % interval of the mean as a band, a thin line at the error of its exact
        target where that is not 0, and crosses where some fits failed.

    Raises
    ------
    ValueError
        If no table has such rows.
    """
    ax = new_axes() if ax is None else ax
    rows, lines = _select(_gather(summaries), world)
    draw_curves(ax, rows, lines)
    ax.set_title(_TITLES.get(world, world.replace("_", " ")))
    low, high = rows["mean"].min(), rows["mean"].max()
    ax.set_ylim(low / (high / low) ** 0.4, 1.6 * high)  # room for the legend
    ax.legend(loc="lower left", ncols=2)
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
    gathered = _gather([tables[name] for name in TABLES])
    worlds = list(dict.fromkeys(gathered["world"]))
    height = -(-len(worlds) // _COLUMNS)
    figure = new_figure(DOUBLE_COLUMN, 0.9 + 1.5 * height)
    axes = figure.subplots(height, _COLUMNS, sharex=True, sharey=True, squeeze=False)
    parts = []
    for index, (ax, world) in enumerate(zip(axes.flat, worlds, strict=False)):
        plot_error_in_world(gathered, world=world, ax=ax)
        ax.get_legend().remove()
        ax.set_ylabel("TV to preferred law")
        ax.label_outer()
        if index + _COLUMNS >= len(worlds):  # nothing below it
            ax.set_xlabel("labelled examples n")
            ax.tick_params(labelbottom=True)
            ax.xaxis.set_in_layout(index + _COLUMNS >= axes.size)  # in an empty cell there is room
        parts.append(_select(gathered, world)[0].assign(panel=chr(ord("a") + index)))
    data = pd.concat(parts, ignore_index=True)
    axes[0, 0].set_ylim(data["mean"].min() / 1.6, data["mean"].max() * 1.6)
    letter(axes.flatten()[: len(worlds)])
    for ax in axes.flat[len(worlds) :]:
        ax.remove()
    lines = {method: style for method, style in METHOD_STYLES.items() if method in set(data["method"])}
    figure.legend(handles=handles_of(lines), loc="outside upper center", ncols=len(lines))
    figure.supxlabel(
        "bands: 95 % intervals of the mean; thin horizontal lines: exact targets other than the preferred law itself\n"
        "compared pairs, but for thumbs; crosses: some fits failed, means over the rest",
        fontsize=7,
    )
    return Drawing(figure, data)


def _gather(summaries: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the errors of all worlds that are shown, of paired data where the world has pairs."""
    frames = []
    for summary in summaries:
        rows = summary[summary["method"].isin(METHOD_STYLES) & (summary["world"] != _LEFT_OUT)]
        if "label_noise" in rows:
            rows = pick(rows, {"world": "thumbs", "label_noise": 0.0})
        if "regime" in rows:
            rows = rows[rows["regime"] == "paired"]
        frames.append(rows[list(ERROR_COLUMNS)])
    return pd.concat(frames, ignore_index=True)


def _select(gathered: pd.DataFrame, world: str) -> tuple[pd.DataFrame, dict[str, LineStyle]]:
    """Return the points of one panel, and the looks of its methods."""
    rows = gathered[gathered["world"] == world]
    lines = {method: style for method, style in METHOD_STYLES.items() if method in set(rows["method"])}
    if not lines:
        raise ValueError(f"world must be one of {', '.join(dict.fromkeys(gathered['world']))}; got {world!r}")
    return select_errors(rows, world, lines, {"world": world})[list(ERROR_COLUMNS)], lines
