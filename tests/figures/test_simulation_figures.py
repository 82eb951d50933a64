"""What the figures of simulations show: the numbers of their tables, exact targets beside them, and nothing hidden."""

import re
import tomllib

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import figures
from figures.catalogue import load_figure
from figures.plots.error_curves import pick, select_errors
from figures.sources import ROOT
from figures.style import METHOD_STYLES
from figures.tables import read_tables


@pytest.fixture(scope="module")
def tables_of(results):
    """Return the tables of a figure by its name."""
    return lambda name: list(read_tables(results, load_figure(name).TABLES).values())


def new_axes():
    """Return axes that belong to no window."""
    return Figure().subplots()


def spanning(ax):
    """Return the heights of horizontal lines across the axes."""
    return [line.get_ydata()[0] for line in ax.get_lines() if line.get_transform() != ax.transData]


def study(name):
    """Return a shipped study as its file has it."""
    return tomllib.loads((ROOT / f"sim/studies/{name}.toml").read_text(encoding="utf-8"))


def test_a_panel_of_consistency_shows_exact_targets_and_failed_fits(tables_of):
    ax = figures.plot_error_in_world(*tables_of("consistency_without_bradley_terry"), ax=new_axes())
    assert spanning(ax) == [0.2]  # of dpo; the others' targets are the preferred law
    crosses = [line.get_xdata() for line in ax.get_lines() if line.get_marker() == "x" and len(line.get_xdata())]
    assert len(crosses) == 1 and list(crosses[0]) == [100]  # the sample size at which fits of dpo failed


def test_a_method_without_an_exact_target_has_no_line_across(tables_of):
    summaries = [
        table.assign(exact=pd.array([pd.NA] * len(table), "Float64"))
        for table in tables_of("consistency_without_bradley_terry")
    ]
    assert spanning(figures.plot_error_in_world(*summaries, ax=new_axes())) == []


def test_consistency_shows_every_world_once_and_pairs_before_single_labels(results):
    module = load_figure("consistency_without_bradley_terry")
    data = module.draw(read_tables(results, module.TABLES)).data
    assert list(dict.fromkeys(data["world"])) == ["bradley_terry", "hodge", "thumbs", "arena"]
    assert data["panel"].nunique() == 4 and not data.duplicated(["world", "method", "n"]).any()


def test_unknown_worlds_methods_and_quantities_are_refused(tables_of):
    with pytest.raises(ValueError, match="world must be one of bradley_terry, hodge, thumbs, arena; got 'moon'"):
        figures.plot_error_in_world(*tables_of("consistency_without_bradley_terry"), world="moon", ax=new_axes())
    with pytest.raises(ValueError, match="must hold slopes of rlhf, got none"):
        figures.plot_rates(*tables_of("errors_fall_at_rate_one_half"), method="rlhf", ax=new_axes())
    with pytest.raises(ValueError, match="quantity must be one of size, shape, order; got 'weak'"):
        figures.plot_distances(*tables_of("distance_from_bradley_terry"), "weak", ax=new_axes())
    with pytest.raises(ValueError, match="method must be one of rdro, ddro, mle; got 'sft'"):
        figures.plot_error_under_unequal_rates(*tables_of("prompt_rates_need_weights_by_prompt"), "sft", ax=new_axes())
    with pytest.raises(ValueError, match=r"wrong_alpha must hold .* of mle told 0.7 where world = five_responses, got"):
        figures.plot_error_under_wrong_alpha(*tables_of("wrong_alpha_leaves_a_bias"), 0.7, ax=new_axes())


def test_rates_are_those_of_each_methods_own_error_and_stars_mark_bent_lines(tables_of):
    rates = tables_of("errors_fall_at_rate_one_half")
    stars = {}
    for method in METHOD_STYLES:
        ax = figures.plot_rates(*rates, method=method, ax=new_axes())
        assert [tick.get_text() for tick in ax.get_yticklabels()][1:] == ["hodge", "thumbs", "real votes (arena)"]
        stars[method] = sum(len(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "*")
    assert stars == dict.fromkeys(METHOD_STYLES, 0) | {"sft": 4}
    module = load_figure("errors_fall_at_rate_one_half")
    data = module.draw(dict(zip(module.TABLES, rates, strict=True))).data
    own = data.groupby("method")["metric"].unique().explode().to_dict()
    assert {m for m, metric in own.items() if metric == "tv_target"} == {"dpo", "ipo", "kto"}


def test_slopes_that_could_not_be_fitted_are_left_out(tables_of):
    module = load_figure("errors_fall_at_rate_one_half")
    rates = tables_of("errors_fall_at_rate_one_half")
    rates = [table.assign(slope=table["slope"].where(table["method"] != "kto")) for table in rates]
    drawing = module.draw(dict(zip(module.TABLES, rates, strict=True)))
    assert len(drawing.figure.axes) == 6 and "kto" not in set(drawing.data["method"])


def test_distances_put_zero_at_the_left_and_the_null_beside_votes(tables_of):
    (table,) = tables_of("distance_from_bradley_terry")
    ax = figures.plot_distances(table, "size", ax=new_axes())
    assert ax.get_yticklabels()[0].get_text() == "Bradley\N{EN DASH}Terry"
    left = min(line.get_xdata()[0] for line in ax.get_lines())
    points = [line for line in ax.get_lines() if line.get_ydata()[0] == 0 and len(line.get_xdata()) == 1]
    assert points[0].get_xdata()[0] == left < table.query("quantity == 'size' and value > 0")["value"].min()
    bars = [tuple(line.get_xdata()) for line in ax.get_lines() if line.get_linewidth() == 3]
    assert bars == [(0.004, 0.006)]
    order = figures.plot_distances(table, "order", ax=new_axes())
    assert sum(len(line.get_xdata()) == 1 for line in order.get_lines()) == 3 * table["world"].nunique()


def test_distances_without_a_quantity_are_refused(tables_of):
    (table,) = tables_of("distance_from_bradley_terry")
    with pytest.raises(ValueError, match="bt_distance must hold the quantity strong, got none"):
        figures.plot_distances(table[table["quantity"] != "strong"], "order", ax=new_axes())


def test_constants_are_simulated_over_exact(results):
    module = load_figure("efficiency_against_cramer_rao")
    tables = read_tables(results, module.TABLES)
    ratios = module.draw(tables).data.query("panel == 'c'")
    np.testing.assert_allclose(ratios[["ratio", "ratio_low", "ratio_high"]], [[1.0, 0.98, 1.02]] * len(ratios))
    assert ratios.groupby("alpha").size().unique().tolist() == [10]
    other = {**tables, "constants/summary": tables["constants/summary"].assign(alpha=0.123)}
    with pytest.raises(ValueError, match="must have an alpha and a method in common, got none"):
        module.draw(other)


def test_true_alpha_and_margin_in_figures_are_those_of_the_studies():
    wrong_alpha, constants = study("wrong_alpha"), study("constants")
    assert wrong_alpha["worlds"][0]["alpha"] == load_figure("wrong_alpha_leaves_a_bias")._TRUE
    told = {method["label"].rpartition(" ")[2] for method in wrong_alpha["methods"] if " told " in method["label"]}
    assert set(load_figure("wrong_alpha_leaves_a_bias")._TOLD) == told
    claim = next(claim for claim in constants["claims"] if claim["kind"] == "constant")
    assert claim.get("margin", 0.05) == load_figure("efficiency_against_cramer_rao")._MARGIN


def test_errors_against_a_setting_are_those_at_the_largest_sample_size(tables_of):
    (summary,) = tables_of("wrong_reference_and_its_remedy")
    ax = figures.plot_error_against_reference_error(summary, ax=new_axes())
    assert ax.get_title() == f"n = {summary['n'].max():,}"
    marks = {tuple(container[0].get_xdata()) for container in ax.containers}
    assert len(ax.containers) == 5 and marks == {(0.0, 0.3)}


def test_rows_are_picked_by_number_up_to_rounding_and_two_at_one_point_are_refused():
    table = pd.DataFrame({"world": ["a", "b"], "noise": [0.1 + 0.2, 0.1]})
    assert pick(table, {"noise": 0.3})["world"].tolist() == ["a"]
    row = {"world": "toy", "n": 100, "method": "sft", "metric": "tv_preferred", "exact": 0.0}
    with pytest.raises(ValueError, match=re.escape("got 2 rows for method = sft, n = 100")):
        select_errors(pd.DataFrame([row, row]), "toys", {"sft": METHOD_STYLES["sft"]}, {"world": "toy"})
