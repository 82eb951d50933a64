"""Real votes reject Bradley-Terry, but are closer in size and shape than the other models that methods are tried on.

Three numbers, as one alone misleads. (a) Size: the smallest mean Kullback-Leibler divergence to a Bradley-Terry model.
(b) Shape: the share of the squared logits that no scores explain. (c) Order: the shares of triples that violate weak,
moderate and strong stochastic transitivity. Models are exact: 0 is Bradley-Terry. Votes carry sampling noise, so that
grey bars beside them show where the numbers of tables drawn from the fitted Bradley-Terry model lie. "condorcet" is all
shape and next to no size; "label flip" and "noisy sorting" violate no transitivity at all. Where the models stand
follows from the parameters of the studies, which were chosen to be clearly apart from Bradley-Terry, not realistic.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.save import Drawing
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, LineStyle, letter, new_axes, new_figure
from figures.tables import only_series

__all__ = ["TABLES", "draw", "plot_distances"]

_COLUMNS = (
    *("world", "preference", "items", "comparisons", "quantity", "value"),
    *("null_mean", "null_low", "null_high", "replicates", "p_value"),
)
TABLES = {"bt_distance/table": _COLUMNS}
"""Tables read, with the columns needed."""

_ORDER = {"weak": ("<", "0.75"), "moderate": ("o", "0.5"), "strong": (">", "0.1")}
_KINDS = {
    "model": LineStyle("model in the studies", METHOD_STYLES["rdro"].colour, "o", "-"),
    "comparison": LineStyle("for comparison", METHOD_STYLES["mle"].colour, "D", "-"),
    "votes": LineStyle("real votes", METHOD_STYLES["ddro"].colour, "*", "-"),
}
_NAMES = {"bradley_terry": "Bradley\N{EN DASH}Terry", "arena": "real votes (arena)"}
_UNITS = {"size": "nats a comparison", "shape": "share of squared logits", "order": "share of triples"}
# A number below this is the rounding of a Bradley-Terry model's, which are 0.
_ZERO = 1e-9


def plot_distances(table: pd.DataFrame, quantity: str = "size", *, ax: Axes | None = None) -> Axes:
    """Plot one number of the distance from Bradley-Terry, a row for each model and for real votes, in order of size.

    Parameters
    ----------
    table : DataFrame
        Table of the study bt_distance.
    quantity : {"size", "shape", "order"}
        What to plot; order is three numbers.
    ax : Axes, optional
        Where to plot; default new axes.

    Returns
    -------
    Axes
        Points, and for votes the central 95 % under Bradley-Terry as grey bars. Size has a logarithmic axis with 0
        at its left end.

    Raises
    ------
    ValueError
        If the quantity is unknown, or the table lacks it.
    """
    if quantity not in _UNITS:
        raise ValueError(f"quantity must be one of {', '.join(_UNITS)}; got {quantity!r}")
    ax = new_axes() if ax is None else ax
    worlds, rows = _worlds(table), _select(table, quantity)
    if quantity == "size":
        least = rows.loc[rows["value"] > _ZERO, "value"].min() / 3.0
        rows = rows.assign(value=rows["value"].where(rows["value"] > _ZERO, least))
        ax.set_xscale("log")
        ax.axvline(least, color="0.6", linewidth=0.6, linestyle=":")
        ax.text(1.2 * least, len(worlds) - 1, "0", va="center", fontsize=7)
    else:
        ax.set_xlim(-0.06, 1.06)
    for row in rows.itertuples():
        place = worlds.index(row.world) + {"weak": -0.22, "strong": 0.22}.get(row.quantity, 0.0)
        look = _look(row.world, row.preference, row.comparisons)
        marker, colour = _ORDER.get(row.quantity, (look.marker, look.colour))
        if row.comparisons:
            ax.plot([row.null_low, row.null_high], [place, place], color="0.6", linewidth=3, solid_capstyle="butt")
        size = 6.5 if marker == "*" else 3.5
        ax.plot(row.value, place, color=colour, marker=marker, markersize=size, linestyle="none")
    ax.set(yticks=range(len(worlds)), ylim=(len(worlds) - 0.5, -0.8), xlabel=_UNITS[quantity], title=quantity)
    ax.set_yticklabels([_NAMES.get(world, world.replace("_", " ")) for world in worlds])
    ax.set_ylabel("preference model, by size")
    return ax


def draw(tables: Mapping[str, pd.DataFrame]) -> Drawing:
    """Draw the three panels side by side.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        The tables of `TABLES`.

    Returns
    -------
    Drawing
        Figure and plotted numbers.
    """
    table = tables["bt_distance/table"]
    worlds = _worlds(table)
    figure = new_figure(DOUBLE_COLUMN, 1.5 + 0.17 * len(worlds))
    axes = figure.subplots(1, 3, sharey=True)
    parts = []
    for ax, quantity, panel in zip(axes, _UNITS, "abc", strict=True):
        plot_distances(table, quantity, ax=ax)
        ax.label_outer()
        parts.append(_select(table, quantity).assign(panel=panel))
    for world, text in zip(worlds, axes[0].get_yticklabels(), strict=True):
        if (table.loc[table["world"] == world, "comparisons"] > 0).all():
            text.set_fontweight("bold")
    letter(axes)
    figure.legend(handles=_handles(), loc="outside upper center", ncols=4)
    figure.supxlabel(_note(table), fontsize=7)
    return Drawing(figure, pd.concat(parts, ignore_index=True))


def _handles() -> list[Line2D | Patch]:
    """Return what the markers and bars mean."""
    look = {"linestyle": "none", "markersize": 3.5}
    kinds = [Line2D([], [], color=s.colour, marker=s.marker, label=s.label, **look) for s in _KINDS.values()]
    order = [
        Line2D([], [], color=colour, marker=marker, label=f"(c) {name} transitivity", **look)
        for name, (marker, colour) in _ORDER.items()
    ]
    return [*kinds, Patch(facecolor="0.6", label="votes if Bradley\N{EN DASH}Terry held, 95 %"), *order]


def _note(table: pd.DataFrame) -> str:
    """Return how many votes there are, and what their test says."""
    votes = table[table["comparisons"] > 0].drop_duplicates("world")
    texts = [
        f"{row.world}: {row.items} items, {row.comparisons:,} decisive votes; likelihood-ratio test of "
        f"Bradley\N{EN DASH}Terry: p = {row.p_value:.2g}, {row.replicates:,} bootstrap tables"
        for row in votes.itertuples()
    ]
    first = "(c) triples that violate it; models are exact, votes carry sampling noise, whose share the grey bars show"
    return "\n".join([first, *texts])


def _look(world: str, preference: str, comparisons: int) -> LineStyle:
    """Return the look of votes, of a model as the studies have it, or of one added for comparison."""
    if comparisons:
        return _KINDS["votes"]
    return _KINDS["model" if world == preference else "comparison"]


def _worlds(table: pd.DataFrame) -> list[str]:
    """Return the worlds in order of size."""
    sizes = table[table["quantity"] == "size"]
    if sizes.empty:
        raise ValueError("bt_distance must hold the quantity size, got none")
    return sizes.sort_values(["value", "world"])["world"].tolist()


def _select(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return the rows of one panel, in order of size."""
    wanted = list(_ORDER) if quantity == "order" else [quantity]
    rows = table.loc[table["quantity"].isin(wanted), list(_COLUMNS)]
    absent = [name for name in wanted if name not in set(rows["quantity"])]
    if absent:
        raise ValueError(f"bt_distance must hold the quantity {absent[0]}, got none")
    worlds = _worlds(table)
    places = rows["world"].map(worlds.index)
    rows = rows.assign(place=places).sort_values(["place", "quantity"]).drop(columns="place")
    return only_series(rows, ["world", "quantity"])
