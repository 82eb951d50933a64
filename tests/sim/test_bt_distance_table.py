"""The study of distances from Bradley-Terry: exact numbers of models, and votes beside their null."""

import inspect

import numpy as np
import pandas as pd
import pytest

from sim import PREFERENCE_MODELS
from sim.bt_distance import bt_distance, bt_test
from sim.bt_distance_table import bt_distances
from sim.engine.study import load_study
from sim.preferences import build_preference
from sim.real_data import observed_counts
from tests.sim.optional import needs_leaderbot

ORDER = ["weak", "moderate", "strong"]
FITTING = {"name": "fits", "preference": "bradley_terry", "options": {"signal": 1.0}, "responses": 4}
CYCLE = {"name": "cycle", "preference": "rock_paper_scissors", "options": {"signal": 1.0}, "responses": 3}


@pytest.fixture
def votes(tmp_path):
    """Votes that go in a circle, each pair with a number of its own."""
    path = tmp_path / "wins.csv"
    path.write_text("winner,loser,count\na,b,90\nb,a,10\nb,c,80\nc,b,20\nc,a,70\na,c,5\n", encoding="utf-8")
    return {"name": "votes", "source": str(path), "min_decisive": 1}


def values(table, world):
    """Return the five numbers of a world."""
    return table[table["world"] == world].set_index("quantity")["value"]


def test_bradley_terry_is_at_zero_and_a_cycle_is_all_shape():
    table = bt_distances(worlds=[FITTING, CYCLE])
    np.testing.assert_allclose(values(table, "fits"), 0.0, atol=1e-12)  # rounding of probabilities and logits
    cycle = values(table, "cycle")
    assert cycle["shape"] == pytest.approx(1.0, abs=1e-12) and (cycle[ORDER] == 1.0).all() and cycle["size"] > 0.1


def test_pairs_are_weighed_as_the_base_policy_draws_them():
    base = np.array([0.4, 0.3, 0.2, 0.1])
    spec = {"name": "dice", "preference": "intransitive_dice", "responses": 4}
    table = bt_distances(worlds=[spec | {"base": base.tolist()}, spec | {"name": "uniform"}])
    matrix = build_preference("intransitive_dice", {}, rng=np.random.default_rng(0)).probabilities[0]
    for world, weights in {"dice": np.outer(base, base), "uniform": None}.items():
        expected = bt_distance(matrix, weights)
        np.testing.assert_allclose(values(table, world)["size"], expected.size, rtol=1e-12)
        np.testing.assert_allclose(values(table, world)["shape"], expected.shape, rtol=1e-12)
    assert values(table, "dice")["size"] != pytest.approx(values(table, "uniform")["size"], rel=0.01)


def test_votes_stand_beside_their_bootstrap_null(votes):
    table = bt_distances(worlds=[FITTING], votes=[votes], replicates=100, seed=3).query("world == 'votes'")
    observed = observed_counts(votes["source"], 1)
    test = bt_test(observed.wins, 100, np.random.default_rng(np.random.SeedSequence(3).spawn(1)[0]))
    assert (table["p_value"] == test.p_value).all() and (table["comparisons"] == 275).all()
    assert (table["replicates"] == 100).all() and (table["items"] == 3).all()
    for row in table.itertuples():
        null = getattr(test.null, row.quantity)
        assert row.value == getattr(test.observed, row.quantity)
        assert (row.null_mean, row.null_low, row.null_high) == (null.mean(), *np.quantile(null, [0.025, 0.975]))


def test_exact_rows_have_a_null_at_zero_and_no_test(votes):
    table = bt_distances(worlds=[CYCLE], votes=[votes], replicates=20)
    exact = table[table["comparisons"] == 0]
    assert (exact[["null_mean", "null_low", "null_high", "replicates"]] == 0).all(axis=None)
    assert exact["p_value"].isna().all() and table.drop(columns="p_value").notna().all(axis=None)


def test_the_seed_fixes_the_null_and_each_table_has_a_stream_of_its_own(votes):
    both = [votes, votes | {"name": "again"}]
    first, second, other = (bt_distances(worlds=[], votes=both, replicates=30, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert not first["null_mean"].equals(other["null_mean"])
    assert first["null_mean"][:5].tolist() != first["null_mean"][5:].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"worlds": []}, "worlds and votes must hold at least one table, got none"),
        ({"worlds": ["hodge"]}, "worlds and votes must be tables of settings, got 'hodge'"),
        ({"worlds": [CYCLE, CYCLE]}, "worlds and votes must have different names, got 'cycle' twice"),
        ({"worlds": [{"name": "laws"}]}, "must have a preference and votes a source, got neither in 'laws'"),
        ({"worlds": [CYCLE], "replicates": 0}, "replicates must be at least 1, got 0"),
        ({"worlds": [CYCLE], "seed": -1}, "seed must be at least 0, got -1"),
        ({"worlds": [FITTING | {"prompts": 2}]}, "must have one prompt to have one distance, got 2 in 'fits'"),
        ({"worlds": [CYCLE | {"regime": "unpaired"}]}, "must compare pairs to have a distance .* got 'cycle'"),
        ({"worlds": [], "votes": [{"name": "x", "source": "arena", "minimum": 3}]}, "got 'minimum'"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        bt_distances(**arguments)


def test_the_study_measures_every_paired_model_in_the_worlds_of_consistency():
    parameters = load_study("bt_distance").parameters
    assert inspect.signature(bt_distances).bind(**parameters)
    consistency = load_study("consistency")
    settings = {
        cell.world["name"]: cell.world for cell in consistency.cells("smoke") if cell.vary["regime"] == "paired"
    }
    measured = {world["name"]: world for world in parameters["worlds"]}
    for name, world in settings.items():
        own = {key: world[key] for key in ("name", "preference", "options", "responses", "base") if key in world}
        assert measured[name] == own, name
    models = {world["preference"] for world in measured.values()} | {"from_counts"}
    assert models == {name for name, model in PREFERENCE_MODELS.items() if model.regime == "paired"}


@needs_leaderbot
def test_real_votes_lie_between_bradley_terry_and_every_model_but_condorcet():
    parameters = load_study("bt_distance").parameters
    table = bt_distances(**parameters | {"replicates": 50})
    sizes = table[table["quantity"] == "size"].set_index("world")
    arena = sizes.loc["arena"]
    assert arena["value"] > arena["null_high"] and arena["p_value"] == 1 / 51
    below = set(sizes.index[sizes["value"] < arena["value"]])
    assert below == {"bradley_terry", "condorcet"}
