"""Figures are laid out for the page of each venue: its width, letters that can be read, and nothing covered."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from figures.catalogue import FIGURES, load_figure
from figures.layout import fit_to_page, plotted_points
from figures.save import draw_figure
from figures.style import DOUBLE_COLUMN, LEAST_LETTERS, SINGLE_COLUMN, figure_style, new_figure
from figures.tables import read_tables
from figures.venues import HOUSE, VENUES

SAMPLES = ("balanced_against_pooled_weighting", "relative_ratio_is_bounded")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in FIGURES if name not in SAMPLES]


@pytest.mark.parametrize("venue", [venue for venue in VENUES if venue != HOUSE])
@pytest.mark.parametrize("name", [*SAMPLES, *SLOW])
def test_figure_is_laid_out_for_the_venue(name, venue, results):
    module, page = load_figure(name), VENUES[venue]
    figure = draw_figure(module, read_tables(results, module.TABLES), venue).figure
    assert figure.get_figwidth() in (page.narrow, page.wide)
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= LEAST_LETTERS * page.scale
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()] + figure.legends
    for box in (legend.get_window_extent() for legend in legends):
        for points in map(plotted_points, figure.axes):
            assert not ((box.min < points) & (points < box.max)).all(axis=1).any()
    drawn = figure.get_tightbbox()  # in inches
    assert drawn.x0 > -0.02 and drawn.x1 < figure.get_figwidth() + 0.02  # nothing leaves the page
    assert drawn.y0 > -0.02 and drawn.y1 < figure.get_figheight() + 0.02


def test_a_talk_is_the_paper_larger():
    sizes = {}
    for venue in (HOUSE, "talk"):
        with figure_style(venue):
            figure = new_figure(DOUBLE_COLUMN, 2.0)
            ax = figure.subplots()
            thick, thin = ax.plot([0, 1])[0], ax.plot([0, 1], linewidth=0.6, markersize=5.0)[0]
            note = figure.supxlabel("note", fontsize=7)
            fit_to_page(figure, VENUES[venue])
        lines = [size for line in (thick, thin) for size in (line.get_linewidth(), line.get_markersize())]
        sizes[venue] = [*figure.get_size_inches(), ax.xaxis.label.get_fontsize(), note.get_fontsize(), *lines]
    np.testing.assert_allclose(np.divide(sizes["talk"], sizes[HOUSE]), VENUES["talk"].scale)


def page_of(text, **legend):
    """Return a fitted figure of the narrowest kind with a note, and a legend over its points."""
    with figure_style():
        figure = new_figure(SINGLE_COLUMN, 2.4)
        ax = figure.subplots()
        ax.plot([0, 1], [0, 0.02], "o")
        handles = [Line2D([], [], label=f"a method with a name {i}") for i in range(4)]
        ax.legend(handles=handles, loc="lower left", **legend)
        figure.supxlabel(text, fontsize=7)
        fit_to_page(figure, VENUES[HOUSE])
    return figure


def test_note_that_is_too_wide_gets_more_lines_and_formulas_stay_whole():
    formula = r"$\alpha = \pi + 1$"
    figure = page_of(f"short\n{'many words ' * 9}{formula} {formula} end")
    lines = figure.get_supxlabel().split("\n")
    assert lines[0] == "short" and len(lines) > 2
    assert all(line.count("$") % 2 == 0 for line in lines)
    assert " ".join(lines[1:]) == f"{'many words ' * 9}{formula} {formula} end"


def test_legend_that_is_too_wide_or_covers_points_is_mended():
    figure = page_of("note", ncols=2, title="what they are")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    legend = ax.get_legend()
    box, points = legend.get_window_extent(), plotted_points(ax)
    assert box.width <= ax.bbox.width and legend.get_title().get_text() == "what they are"
    assert len(points) == 2 and not ((box.min < points) & (points < box.max)).all(axis=1).any()
    assert [text.get_text() for text in legend.get_texts()] == [f"a method with a name {i}" for i in range(4)]


def test_axes_without_points_have_none():
    assert plotted_points(Figure().subplots()).shape == (0, 2)
