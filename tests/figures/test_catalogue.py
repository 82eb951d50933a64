"""The contract that every figure of the catalogue keeps."""

import json
from inspect import signature

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

import figures
from figures.catalogue import FIGURES, FORMATS, load_figure
from figures.save import Drawing, save_drawing
from figures.sources import ROOT, file_hash
from figures.style import DOUBLE_COLUMN, METHOD_STYLES, SINGLE_COLUMN, WEIGHTING_STYLES, alpha_styles, figure_style
from figures.tables import read_tables, table_file, table_path

each_figure = pytest.mark.parametrize("name", FIGURES)
MAGIC = {"pdf": b"%PDF-", "png": b"\x89PNG\r\n", "svg": b"<?xml"}


def test_catalogue_holds_every_module_that_draws():
    files = (ROOT / "figures" / "plots").glob("*.py")
    assert len(FIGURES) == len(set(FIGURES)) > 0
    assert {file.stem for file in files if "\ndef draw(" in file.read_text(encoding="utf-8")} == set(FIGURES)


@each_figure
def test_figure_states_its_claim_and_its_tables(name):
    module = load_figure(name)
    claim = module.__doc__.splitlines()[0]
    assert claim.endswith(".") and len(claim) > 40
    assert module.TABLES and all(columns for columns in module.TABLES.values())
    plots = [plot for plot in module.__all__ if plot.startswith("plot_")]
    assert plots and all(getattr(figures, plot) is getattr(module, plot) for plot in plots)


@each_figure
@pytest.mark.parametrize("end", ["pdf", "png"])
def test_figure_is_built_in_the_default_formats(name, end, output):
    data = (output / f"{name}.{end}").read_bytes()
    assert data.startswith(MAGIC[end]) and len(data) > 5_000


@each_figure
def test_pdf_has_embedded_truetype_fonts_and_no_date(name, output):
    data = (output / f"{name}.pdf").read_bytes()
    assert b"/FontFile2" in data and b"/Type3" not in data
    assert b"CreationDate" not in data and b"ModDate" not in data


@each_figure
def test_csv_holds_the_drawn_data(name, drawn, output):
    table = pd.read_csv(output / f"{name}.csv")
    expected = drawn(name).data
    assert len(table) == len(expected) > 0 and list(table) == list(expected)
    assert table["panel"].notna().all()
    for column in expected.select_dtypes("number"):
        # Ten significant digits were written.
        np.testing.assert_allclose(table[column], expected[column].astype(float), rtol=1e-9, atol=0)


@each_figure
def test_a_process_with_other_settings_has_built_the_same_bytes(name, drawn, output, tmp_path):
    # Drawing pixels takes the time: a look at one figure tells whether they depend on settings.
    formats = ["pdf", "png"] if name == FIGURES[0] else ["pdf"]
    for path in save_drawing(drawn(name), tmp_path, name, formats):
        assert path.read_bytes() == (output / path.name).read_bytes()


@each_figure
def test_other_data_gives_other_numbers_and_another_picture(name, drawn, other_results):
    one, module = drawn(name), load_figure(name)
    with figure_style():
        other = module.draw(read_tables(other_results, module.TABLES))
    assert not one.data.equals(other.data)
    # Before a layout, which takes the time: points have their numbers in the data, not yet a place on the page.
    assert any(not np.array_equal(*pair, equal_nan=True) for pair in zip(*map(numbers_of, (one, other)), strict=True))


@each_figure
def test_manifest_names_what_was_read_and_written(name, results, output):
    entry = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["figures"][name]
    module = load_figure(name)
    assert entry["claim"] == module.__doc__.splitlines()[0]
    assert entry["tables"] == {table_file(t): file_hash(table_path(results, t)) for t in module.TABLES}
    ends = ("csv", "pdf", "png")
    assert entry["files"] == {f"{name}.{end}": file_hash(output / f"{name}.{end}") for end in ends}


@each_figure
def test_figure_fits_a_column_and_its_text_is_legible(name, drawn):
    figure = drawn(name).figure
    assert figure.get_figwidth() in (SINGLE_COLUMN, DOUBLE_COLUMN)
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in shown) >= 7
    for ax in figure.axes:
        assert ax.get_subplotspec().is_last_row() is False or ax.get_xlabel()
        assert ax.get_subplotspec().is_first_col() is False or ax.get_ylabel()


def meshes_of(ax):
    """Return the maps that axes show."""
    return [mesh for mesh in ax.collections if isinstance(mesh, QuadMesh)]


def plotted(ax):
    """Return the points that axes show, in the numbers of the data, with transforms; lines that span them are not."""
    lines = [(line.get_xydata(), line.get_transform()) for line in ax.get_lines()]
    meshes = [(mesh.get_coordinates().reshape(-1, 2), mesh.get_transform()) for mesh in meshes_of(ax)]
    bars = [bar for bar in ax.collections if hasattr(bar, "get_segments")]
    ends = [(np.concatenate(bar.get_segments()), bar.get_transform()) for bar in bars]
    return [*((xy, transform) for xy, transform in lines if transform == ax.transData), *meshes, *ends]


def numbers_of(drawing):
    """Return the numbers behind a picture: points, and values of maps."""
    points = [xy for ax in drawing.figure.axes for xy, _ in plotted(ax)]
    return points + [mesh.get_array() for ax in drawing.figure.axes for mesh in meshes_of(ax)]


def points_of(ax):
    """Return the visible plotted points of axes, in pixels; lines that span the axes are left out."""
    x, y = np.concatenate([transform.transform(xy) for xy, transform in plotted(ax)]).T
    visible = (ax.bbox.x0 <= x) & (x <= ax.bbox.x1) & (ax.bbox.y0 <= y) & (y <= ax.bbox.y1)
    return x[visible], y[visible]


@each_figure
def test_no_legend_covers_a_plotted_point(name, drawn):
    figure = drawn(name).figure
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()] + figure.legends
    assert legends
    boxes = [legend.get_window_extent() for legend in legends]
    for ax in figure.axes:
        x, y = points_of(ax)
        assert len(x)
        for box in boxes:
            assert not ((box.x0 < x) & (x < box.x1) & (box.y0 < y) & (y < box.y1)).any()


@each_figure
def test_every_plot_function_draws_where_it_is_told_and_returns_the_axes(name, results):
    module = load_figure(name)
    tables = read_tables(results, module.TABLES)
    for plot in (getattr(module, plot) for plot in module.__all__ if plot.startswith("plot_")):
        inputs = [t for key, t in tables.items() if _reads(plot, key)]
        ax = Figure().subplots()
        assert plot(*inputs, ax=ax) is ax and ax.has_data()
        assert not plt.get_fignums()  # nothing was opened
        own = plot(*inputs)
        assert own is plt.gcf().axes[0] and own.has_data()
        plt.close("all")


def _reads(plot, table):
    """Say whether a plot function takes a table: some take those of one study, the first figure's one of its two."""
    if plot.__module__.endswith("relative_ratio_is_bounded"):
        return table.endswith("/table") == (plot.__name__ == "plot_ratio_curves")
    kind = table.partition("/")[2]  # experiments of language models have one parameter for each table
    return (kind != "metrics" and "metrics" not in signature(plot).parameters) or kind in signature(plot).parameters


def test_methods_differ_in_colour_marker_and_dash():
    from theory import METHODS

    assert set(METHOD_STYLES) == set(METHODS)
    looks = [(s.colour, s.marker, str(s.dash), s.label) for s in METHOD_STYLES.values()]
    assert all(len(set(column)) == len(looks) for column in zip(*looks, strict=True))
    pair = WEIGHTING_STYLES["balanced"], WEIGHTING_STYLES["pooled"]
    assert pair[0].colour != pair[1].colour and pair[0].marker != pair[1].marker and pair[0].dash != pair[1].dash


def test_alphas_have_their_own_looks_and_too_many_are_refused():
    looks = [(s.colour, s.marker, str(s.dash)) for s in alpha_styles([0.1, 0.5, 0.9]).values()]
    assert all(len(set(column)) == 3 for column in zip(*looks, strict=True))
    with pytest.raises(ValueError, match="at most 7 values of alpha, got 8"):
        alpha_styles(np.linspace(0.1, 0.9, 8))


def test_unknown_quantity_is_refused(results):
    shapes = read_tables(results, {"loss_shapes/table": ["loss"]})["loss_shapes/table"]
    with pytest.raises(ValueError, match="quantity must be one of loss, derivative; got 'los'"):
        figures.plot_loss_shapes(shapes, "los", ax=Figure().subplots())


def test_svg_is_written_too_and_every_format_has_metadata(tmp_path):
    assert set(FORMATS) == set(MAGIC)
    with figure_style():
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, 1])
    for path in save_drawing(Drawing(figure, pd.DataFrame({"panel": ["a"]})), tmp_path, "line", list(FORMATS)):
        assert path.read_bytes().startswith(MAGIC.get(path.suffix[1:], b"panel\n"))
