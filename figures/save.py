"""Writing figures so that the same tables give the same bytes, with the plotted data and a manifest beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
from matplotlib.figure import Figure

from figures.catalogue import FORMATS
from figures.layout import fit_to_page
from figures.style import figure_style
from figures.venues import HOUSE, VENUES

__all__ = ["Drawing", "draw_figure", "save_drawing"]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and the numbers it shows.

    Attributes
    ----------
    figure : Figure
        What is seen.
    data : DataFrame
        Every plotted number, one row a point; column ``panel`` says where.
    """

    figure: Figure
    data: pd.DataFrame


def draw_figure(module: ModuleType, tables: Mapping[str, pd.DataFrame], venue: str = HOUSE) -> Drawing:
    """Draw a figure as it is printed at a venue.

    Parameters
    ----------
    module : module
        From `figures.catalogue.load_figure`.
    tables : mapping of str to DataFrame
        The tables that it names in ``TABLES``; there may be others.
    venue : str
        Key of `figures.venues.VENUES`.

    Returns
    -------
    Drawing
        Laid out, in the style of the house.
    """
    with figure_style(venue):
        drawing: Drawing = module.draw({name: tables[name] for name in module.TABLES})
        fit_to_page(drawing.figure, VENUES[venue])
    return drawing


def save_drawing(drawing: Drawing, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write a figure in some formats and its data as CSV.

    Parameters
    ----------
    drawing : Drawing
        Figure and data.
    folder : Path
        Existing folder.
    name : str
        File name without its end.
    formats : sequence of str
        Keys of `figures.catalogue.FORMATS`.

    Returns
    -------
    list of Path
        The files written; their bytes depend on the data and the versions of the libraries alone.
    """
    paths = []
    with figure_style():
        for end in formats:
            paths.append(folder / f"{name}.{end}")
            drawing.figure.savefig(paths[-1], format=end, metadata=FORMATS[end])
    paths.append(folder / f"{name}.csv")
    # Ten digits: more than can be seen, and fewer than differ between machines.
    drawing.data.to_csv(paths[-1], index=False, float_format="%.10g", lineterminator="\n", encoding="utf-8")
    return paths
