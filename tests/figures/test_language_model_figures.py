"""What figures of language models and of costs show, beyond the contract of all figures."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import figures
from figures.catalogue import load_figure
from figures.plots.language_models import at_least_held_out_loss, differences, own_target, select
from figures.tables import read_tables
from tests.figures.language_model_tables import summarise

KEYS = ["world", "n", "method", "learning_rate", "step"]


def tables_of(name, results):
    """Return the tables of a figure."""
    return read_tables(results, load_figure(name).TABLES)


def made_metrics():
    """Return metrics in which methods differ in which rate and step are best, by seed."""
    rng = np.random.default_rng(5)
    cells = itertools.product(("near", "far"), (100, 200), (1e-4, 1e-3), ("rdro", "mle", "lost"), range(3))
    rows = []
    for world, n, rate, method, replicate in cells:
        stopped = method == "lost" and (rate > 5e-4 or replicate == 2)
        keys = {"study": "x", "world": world, "n": n, "learning_rate": rate, "method": method, "replicate": replicate}
        keys |= {"status": "diverged" if stopped else "ok", "exact": np.nan}
        for step in (10, 20, 30):
            infinite = method == "mle" and (world == "far" or (step == 30 and replicate == 1))
            loss = np.inf if infinite else rng.normal()
            rows += [] if stopped else [{**keys, "step": step, "metric": "held_out_loss", "value": loss}]
            rows += [] if stopped else [{**keys, "step": step, "metric": "kl_preferred", "value": rng.uniform()}]
        rows.append({**keys, "step": 30, "metric": "diverged", "value": float(stopped)})
    return pd.DataFrame(rows)


def full_summary(metrics):
    """Return a summary whose counts of runs include those that diverged, as real ones do."""
    cells = metrics.groupby(["world", "n", "learning_rate", "method"])
    counts = cells.apply(lambda cell: cell.groupby("replicate")["status"].first().eq("diverged").mean())
    table = summarise(metrics).drop(columns=["share_diverged", "replicates"]).assign(replicates=3)
    return table.merge(counts.rename("share_diverged").reset_index())


def test_rate_and_step_are_chosen_by_held_out_loss_as_validate_chooses_them():
    from lm.validation.answers import chosen_settings

    metrics = made_metrics()
    summary = full_summary(metrics)
    runs = metrics[["world", "n", "learning_rate", "method", "replicate", "status"]].drop_duplicates()
    expected = chosen_settings(metrics, runs)[KEYS].sort_values(KEYS, ignore_index=True)
    chosen = at_least_held_out_loss(summary, select(summary, "kl_preferred"))
    assert len(expected) == 12
    pd.testing.assert_frame_equal(chosen[KEYS].sort_values(KEYS, ignore_index=True), expected)


def test_infinite_losses_lose_to_any_number_and_choose_the_last_step_where_all_are():
    summary = full_summary(made_metrics())
    mle = at_least_held_out_loss(summary, select(summary, "kl_preferred", method="mle"))
    assert (mle.loc[mle["world"] == "near", "step"] < 30).all()
    far = mle[mle["world"] == "far"]
    assert list(far["step"]) == [30, 30] and list(far["learning_rate"]) == [1e-4, 1e-4]


def test_differences_pair_runs_of_one_repetition():
    keys = {"world": "w", "n": 10, "learning_rate": 0.1, "step": 5, "metric": "kl_preferred", "status": "ok"}
    values = {"rdro": (3.0, 5.0, 9.0), "sft": (1.0, 2.0)}
    metrics = pd.DataFrame(
        [{**keys, "method": m, "replicate": r, "value": v} for m, own in values.items() for r, v in enumerate(own)]
    )
    found = differences(metrics, metrics[["method", *keys]].drop_duplicates(), "sft")
    assert found[["method", "replicate", "difference"]].to_numpy().tolist() == [["rdro", 0, 2.0], ["rdro", 1, 3.0]]


def test_legend_tells_targets_that_are_unknown_or_infinite_and_lines_stand_at_the_near_ones(results):
    table = tables_of("language_models_against_steps", results)["methods/summary"]
    ax = figures.plot_kl_against_steps(table, ("rdro", "ddro, extended", "kto, beta 1", "sft"), ax=Figure().subplots())
    assert ax.get_legend_handles_labels()[1] == [
        "RDRO, target 0.004",
        "DDRO, extended, target unknown",
        r"KTO, $\beta$ = 1, target ∞",
        "SFT, target 0",
    ]
    lines = [line.get_ydata()[0] for line in ax.get_lines() if line.get_transform() != ax.transData]
    assert lines == pytest.approx([0.004]) and ax.get_ylim()[0] < 0.004
    assert own_target(-1e-17) == "0"


def test_smallest_samples_stop_early_where_held_out_loss_says_so(results):
    table = tables_of("language_models_against_sample_size", results)["sample_size/summary"]
    early = (table["metric"] == "held_out_loss") & (table["n"] == 256) & (table["step"] == 20)
    changed = table.assign(mean=table["mean"].where(~early, -1.0))
    drawn = load_figure("language_models_against_sample_size").draw({"sample_size/summary": changed}).data
    steps = drawn.groupby(["panel", "n"])["step"].unique().map(list)
    assert steps["a"].to_dict() == {256: [20], 1024: [40], 4096: [40]}
    assert steps["b"].to_dict() == {256: [40], 1024: [40], 4096: [40]}


def test_divergence_is_drawn_with_the_intervals_of_the_table_and_its_steps_are_told(results):
    tables = tables_of("strict_losses_stop_language_models", results)
    drawing = load_figure("strict_losses_stop_language_models").draw(tables)
    assert "diverged runs stopped after 2 to 2 steps" in drawing.figure.get_supxlabel()
    shares = drawing.data[drawing.data["panel"] == "a"].set_index(["method", "learning_rate"])
    assert shares.loc[("ddro", 1e-3), ["share_diverged", "share_diverged_low"]].tolist() == [1.0, 0.6]
    assert shares.loc["rdro", "share_diverged"].tolist() == [0.0, 0.0]
    # Runs that diverged have their gradients and distances in the picture too.
    runs = drawing.data[drawing.data["panel"].isin(list("defghi"))]
    assert len(runs) == 2 * 3 * 5 * 2 * 3 and runs["value"].notna().all()


@pytest.mark.parametrize(
    ("plot", "name", "table", "arguments", "problem"),
    [
        ("plot_kl_against_n", "language_models_against_sample_size", "summary", ["soon"], "one of held_out, last; got"),
        ("plot_diverged_share", "strict_losses_stop_language_models", "summary", ["moon"], "world moon of method rdro"),
        ("plot_run_values", "strict_losses_stop_language_models", "metrics", ["moon"], "of rdro in the world moon"),
        ("plot_weighting_against_steps", "balanced_weights_in_language_models", "summary", ["moon"], "world moon"),
        ("plot_kl_by_reference", "reference_error_in_language_models", "summary", ["moon"], "world moon"),
        ("plot_cost_against_size", "cost_against_peers", "published", ["lm_head", "love"], "hold love of lm_head ag"),
    ],
)
def test_what_tables_do_not_hold_is_refused(plot, name, table, arguments, problem, results):
    tables = {key.partition("/")[2]: value for key, value in tables_of(name, results).items()}
    with pytest.raises(ValueError, match=problem):
        getattr(figures, plot)(tables[table], *arguments, ax=Figure().subplots())


def test_costs_have_at_most_three_contenders_and_bars_from_least_to_largest(results):
    table = tables_of("cost_against_peers", results)["benchmarks/published"]
    ax = figures.plot_step_cost(table, "peak memory", ax=Figure().subplots())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["relratio", "relratio, full", "trl", "trl, lean"]
    (first, *_), *_ = (bar.get_segments() for bar in ax.collections)
    assert first[:, 0] == pytest.approx([0.9, 1.2])
    more = [table.assign(contender=table["contender"] + text) for text in ("", " again")]
    with pytest.raises(ValueError, match="at most 3 contenders, got 4 of tabular_fit"):
        figures.plot_cost_against_size(
            pd.concat(more), "tabular_fit", "time a fit", "responses", ax=Figure().subplots()
        )
