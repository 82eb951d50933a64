"""One look for all figures: sizes, fonts, and a colour, a marker and a dash for each method and each alpha."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import ColorType

from figures.venues import HOUSE, VENUES

__all__ = [
    "DOUBLE_COLUMN",
    "LEAST_LETTERS",
    "METHOD_STYLES",
    "SINGLE_COLUMN",
    "WEIGHTING_STYLES",
    "LineStyle",
    "alpha_styles",
    "figure_style",
    "letter",
    "method_shades",
    "new_axes",
    "new_figure",
    "variant_styles",
]

SINGLE_COLUMN = VENUES[HOUSE].narrow
"""Width of a figure that fills one column of a two-column paper, in inches."""

DOUBLE_COLUMN = VENUES[HOUSE].wide
"""Width of a figure that fills both columns, in inches."""

LEAST_LETTERS = 7.0
"""Size of the smallest letters in a paper, in points."""

# Bytes must not depend on the user's matplotlibrc or on the day: every setting starts from the defaults, the font is
# the one that matplotlib carries, and identifiers in SVG files come from a fixed salt.
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.4,
    "legend.borderaxespad": 0.2,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.labelspacing": 0.3,
    "legend.title_fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "relratio",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@dataclass(frozen=True)
class LineStyle:
    """How one series looks, told apart by colour, marker and dash, each sufficient alone.

    Attributes
    ----------
    label : str
        Text in legends.
    colour : colour
        Any matplotlib colour.
    marker : str
        Matplotlib marker.
    dash : str or tuple
        Matplotlib line style.
    """

    label: str
    colour: ColorType
    marker: str
    dash: Any

    def line(self) -> dict[str, Any]:
        """Return the keywords of a line without markers."""
        return {"color": self.colour, "linestyle": self.dash}

    def points(self) -> dict[str, Any]:
        """Return the keywords of a line with markers."""
        return {**self.line(), "marker": self.marker, "markeredgewidth": 0.6}


_DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1)),
    (0, (4, 1, 1, 1)),
    (0, (6, 1, 1, 1, 1, 1)),
    (0, (2, 1)),
    (0, (8, 2)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_METHOD_LABELS = {
    "rdro": "RDRO",
    "ddro": "DDRO",
    "mle": "MLE",
    "sft": "SFT",
    "dpo": "DPO",
    "ipo": "IPO",
    "kto": "KTO",
}

METHOD_STYLES: dict[str, LineStyle] = {
    method: LineStyle(label, colour, marker, dash)
    for (method, label), colour, marker, dash in zip(
        _METHOD_LABELS.items(),
        # Seaborn's colour-blind-safe palette: blue, vermilion, green, orange, pink, brown, sky blue.
        [sns.color_palette("colorblind").as_hex()[i] for i in (0, 3, 2, 1, 4, 5, 9)],
        _MARKERS,
        _DASHES,
        strict=True,
    )
}
"""Look of every method, in every figure."""

WEIGHTING_STYLES: dict[str, LineStyle] = {
    "balanced": METHOD_STYLES["rdro"],  # RDRO as its authors define it
    "pooled": LineStyle("pooled", "0.2", "s", (0, (4, 1.5))),
}
"""Look of RDRO under each class weighting."""


def alpha_styles(alphas: Sequence[float]) -> dict[float, LineStyle]:
    """Return a look for each alpha: darker for larger ones.

    Parameters
    ----------
    alphas : sequence of float
        Up to 7 different values.

    Returns
    -------
    dict of float to LineStyle
        In increasing order of alpha.

    Raises
    ------
    ValueError
        If there are more alphas than looks that can be told apart.

    Examples
    --------
    >>> list(alpha_styles([0.5, 0.1]))
    [0.1, 0.5]
    """
    ordered = sorted({float(alpha) for alpha in alphas})
    if len(ordered) > len(_DASHES):
        raise ValueError(f"a panel must show at most {len(_DASHES)} values of alpha, got {len(ordered)}")
    colours = sns.color_palette("crest", len(ordered)).as_hex()
    return {
        alpha: LineStyle(rf"$\alpha$ = {alpha:g}", colour, marker, dash)
        for alpha, colour, marker, dash in zip(ordered, colours, _MARKERS, _DASHES, strict=False)
    }


def method_shades(method: str, alphas: Sequence[float]) -> dict[float, ColorType]:
    """Return shades of a method's colour, darker for larger alphas.

    Parameters
    ----------
    method : str
        Key of `METHOD_STYLES`.
    alphas : sequence of float
        Different values.

    Returns
    -------
    dict of float to colour
        In increasing order of alpha.

    Examples
    --------
    >>> list(method_shades("rdro", [0.5, 0.1]))
    [0.1, 0.5]
    """
    ordered = sorted({float(alpha) for alpha in alphas})
    # The two lightest of the palette would be lost on white paper.
    palette = sns.light_palette(METHOD_STYLES[method].colour, len(ordered) + 2).as_hex()[2:]
    return dict(zip(ordered, palette, strict=True))


def variant_styles(method: str, labels: Sequence[str]) -> dict[str, LineStyle]:
    """Return a look for each variant of one method, in shades of its colour that get darker in the order given.

    Parameters
    ----------
    method : str
        Key of `METHOD_STYLES`.
    labels : sequence of str
        Up to 7 texts for legends.

    Returns
    -------
    dict of str to LineStyle
        By label.

    Examples
    --------
    >>> variant_styles("ddro", ["strict", "continued"])["continued"].colour == METHOD_STYLES["ddro"].colour
    True
    """
    shades = method_shades(method, range(len(labels))).values()
    return {
        label: LineStyle(label, colour, marker, dash)
        for label, colour, marker, dash in zip(labels, shades, _MARKERS, _DASHES, strict=False)
    }


# Sizes in points that matplotlib's defaults set and that grow with the letters; `_SETTINGS` holds the others.
_DEFAULTS = (
    *("axes.labelpad", "axes.titlepad", "lines.markeredgewidth", "patch.linewidth"),
    *(f"{axis}tick.{kind}.{size}" for axis in "xy" for kind in ("major", "minor") for size in ("pad", "size", "width")),
)
_IN_POINTS = ("labelsize", "linewidth", "titlesize", "fontsize", "font.size", "markersize")
_VENUE = ContextVar("venue", default=VENUES[HOUSE])


@contextmanager
def figure_style(venue: str = HOUSE) -> Iterator[None]:
    """Draw in the house style, whatever the user's own settings are.

    Parameters
    ----------
    venue : str
        Key of `figures.venues.VENUES`: `new_figure` makes figures of its size.

    Examples
    --------
    >>> with figure_style("talk"):
    ...     plt.rcParams["font.size"], float(new_figure(SINGLE_COLUMN, 2.0).get_figwidth())
    (15.2, 6.175)
    """
    scale = VENUES[venue].scale
    points = [*_DEFAULTS, *(key for key in _SETTINGS if key.endswith(_IN_POINTS) or key == "legend.title_fontsize")]
    token = _VENUE.set(VENUES[venue])
    try:
        with plt.style.context(["default", _SETTINGS]), plt.rc_context():
            plt.rcParams.update({key: scale * plt.rcParams[key] for key in points})
            yield
    finally:
        _VENUE.reset(token)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure whose parts are kept from overlapping; it belongs to no window.

    Parameters
    ----------
    width : float
        `SINGLE_COLUMN` or `DOUBLE_COLUMN`, which stand for those of the venue that `figure_style` was told.
    height : float
        Height in a paper, in inches.

    Examples
    --------
    >>> new_figure(SINGLE_COLUMN, 2.0).get_size_inches()
    array([3.25, 2.  ])
    """
    venue = _VENUE.get()
    widths = {SINGLE_COLUMN: venue.narrow, DOUBLE_COLUMN: venue.wide}
    return Figure(figsize=(widths[width], height * venue.scale), layout="constrained")


def new_axes() -> Axes:
    """Return the axes of a new pyplot figure, for plot functions that are given none."""
    return plt.subplots(figsize=(SINGLE_COLUMN, 0.75 * SINGLE_COLUMN), layout="constrained")[1]


def letter(axes: np.ndarray) -> None:
    """Put (a), (b), ... before the titles of an array of axes, row by row."""
    for index, ax in enumerate(axes.flat):
        title = ax.get_title()
        ax.set_title("")
        ax.set_title(f"({chr(ord('a') + index)}) {title}".rstrip(), loc="left")
