"""Fitting a drawing to its page: what is too wide for it is broken into lines, and what is too small is made larger."""

import math
import re

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from figures.style import LEAST_LETTERS
from figures.venues import Venue

__all__ = ["fit_to_page", "plotted_points"]

_WORDS = re.compile(r"(?:\$[^$]*\$|\S)+")  # formulas have spaces of their own
_SIDE = 0.05  # of the width of a figure, that a note leaves free on both sides together
_ABOVE = "outside upper center"  # where all legends of whole figures are
_BETWEEN = 1.0  # space between columns of a legend that is too wide, in sizes of its letters: half the usual
_STEP, _STEPS = 0.08, 25  # how far axes are extended at once until a legend covers nothing, and how often


def fit_to_page(figure: Figure, venue: Venue) -> None:
    """Fit a drawing that was made for the house's page to that of a venue, and fix the places of its parts.

    Parameters
    ----------
    figure : Figure
        From `figures.style.new_figure` within `figures.style.figure_style` of the venue; it is changed. Notes,
        titles and legends that are too wide get more lines; letters, lines and markers of a size given in points are
        scaled as the style is.
    venue : Venue
        Where it is printed.
    """
    figure.set_dpi(plt.rcParams["savefig.dpi"])  # letters are measured as they will be drawn
    if venue.scale != 1.0:
        _scale(figure, venue.scale)
    if figure.get_supxlabel():
        note = figure.supxlabel(figure.get_supxlabel(), fontsize=LEAST_LETTERS * venue.scale)
        _wrap(note, (1.0 - _SIDE) * figure.bbox.width)
    for legend in filter(None, (ax.get_legend() for ax in figure.axes)):
        legend.set_in_layout(False)  # a wide one would narrow the axes that it is to fit into
    layout = figure.get_layout_engine()
    layout.execute(figure)
    changed = [_narrow(figure, legend, figure.bbox.width, _ABOVE) for legend in list(figure.legends)]
    changed += [_fit_axes(ax) for ax in figure.axes]
    if any(changed):
        layout.execute(figure)
    cleared = [_clear(ax) for ax in figure.axes]
    if any(cleared):
        layout.execute(figure)
    figure.set_layout_engine(None)  # every format shows the same layout; "none" would have each draw it twice


def plotted_points(ax: Axes) -> np.ndarray:
    """Return the plotted points of axes that are visible, in pixels.

    Parameters
    ----------
    ax : Axes
        Axes of a figure that has been laid out.

    Returns
    -------
    ndarray of shape (points, 2)
        Points of lines, corners of the cells of maps and ends of bars; lines that span the axes are left out.
    """
    inside = [line for line in ax.get_lines() if line.get_transform() == ax.transData]
    points = [(line, line.get_xydata()) for line in inside]
    points += [(mesh, mesh.get_coordinates()) for mesh in ax.collections if isinstance(mesh, QuadMesh)]
    bars = [bar for bar in ax.collections if isinstance(bar, LineCollection)]
    points += [(bar, segment) for bar in bars for segment in bar.get_segments()]
    every = np.concatenate(
        [np.empty((0, 2)), *(artist.get_transform().transform(np.reshape(data, (-1, 2))) for artist, data in points)]
    )
    return every[((ax.bbox.min <= every) & (every <= ax.bbox.max)).all(axis=1)]


def _scale(figure: Figure, scale: float) -> None:
    """Scale what was given in points; what came from the style is scaled already."""
    for text in figure.findobj(Text):
        if text.get_fontsize() < LEAST_LETTERS * scale:
            text.set_fontsize(scale * text.get_fontsize())
    width, size = plt.rcParams["lines.linewidth"], plt.rcParams["lines.markersize"]
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    lines = [line for owner in (*figure.axes, *legends) for line in owner.get_lines()]
    for line in lines:
        if line.get_linewidth() != width:
            line.set_linewidth(scale * line.get_linewidth())
        if line.get_markersize() != size:
            line.set_markersize(scale * line.get_markersize())


def _fit_axes(ax: Axes) -> bool:
    """Fit the titles and the legend of axes to their width; tell whether something was changed."""
    legend = ax.get_legend()
    changed = legend is not None and _narrow(ax, legend, ax.bbox.width, legend._loc)
    for place in ("left", "center"):
        text = ax.get_title(place)
        if text:
            title = ax.set_title(text, loc=place)
            _wrap(title, ax.bbox.width)
            changed |= title.get_text() != text
    return changed


def _narrow(owner: Axes | Figure, legend: Legend, width: float, place: str | int) -> bool:
    """Give a legend closer columns, then fewer, then more lines, until it is as wide as told; tell whether it was."""
    if legend.get_window_extent().width <= width:
        return False
    content = {"handles": legend.legend_handles, "labels": [text.get_text() for text in legend.get_texts()]}
    content |= {"title": legend.get_title().get_text() or None, "alignment": legend.get_alignment()}
    for columns in range(legend._ncols, 0, -1):
        legend.remove()
        legend = owner.legend(**content, loc=place, ncols=columns, columnspacing=_BETWEEN)
        legend.set_in_layout(owner is legend.figure)
        if legend.get_window_extent().width <= width:
            return True
    texts = [text for text in (*legend.get_texts(), legend.get_title()) if text.get_text()]
    room = max(text.get_window_extent().width for text in texts) - (legend.get_window_extent().width - width)
    for text in texts:
        _wrap(text, room)
    return True


def _clear(ax: Axes) -> bool:
    """Extend the vertical axis on the side of the legend until it covers no plotted point; tell whether it did."""
    legend = ax.get_legend()
    for step in range(_STEPS if legend is not None else 0):
        box, points = legend.get_window_extent(), plotted_points(ax)
        if not ((box.min < points) & (points < box.max)).all(axis=1).any():
            return step > 0
        top = (box.y0 + box.y1) / 2 > (ax.bbox.y0 + ax.bbox.y1) / 2
        ends = [(0.0, 0.0 if top else -_STEP), (0.0, 1.0 + _STEP if top else 1.0)]
        ax.set_ylim(ax.transData.inverted().transform(ax.transAxes.transform(ends))[:, 1])
    return legend is not None


def _wrap(artist: Text, width: float) -> None:
    """Break lines of a text between words where they are wider than some pixels."""
    lines = artist.get_text().split("\n")
    artist.set_text("\n".join(_broken(line, artist, width) for line in lines))


def _broken(line: str, artist: Text, width: float) -> str:
    """Break one line that is too wide into lines of about one width."""
    whole = _width(line, artist)
    if whole <= width:
        return line
    least = whole / math.ceil(whole / width)
    lines: list[str] = []
    for word in _WORDS.findall(line):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _width(lines[-1], artist) < least and _width(longer, artist) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _width(line: str, artist: Text) -> float:
    """Return the width of a line in pixels; it becomes the text of the artist."""
    artist.set_text(line)
    return artist.get_window_extent().width
