"""Worlds: their exact problems, their samplers of counts, and what they refuse."""

import numpy as np
import pytest
from scipy.stats import chi2

from sim.bt_distance import bt_distance
from sim.sampling import Counts, match_pairs
from sim.worlds import World, build_world
from theory import FiniteProblem

TOY = {"name": "toy", "p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.3}
HODGE = {"name": "cycles", "preference": "hodge", "options": {"cyclic_share": 0.5, "signal": 1.0}, "responses": 5}
THUMBS = {
    "name": "thumbs",
    "preference": "thumbs",
    "options": {"signal": 1.0, "bias": -0.5, "bias_spread": 1.0},
    "responses": 4,
    "prompts": 3,
}
DICE = {"name": "dice", "preference": "intransitive_dice"}
WORLDS = [TOY, HODGE, THUMBS, DICE]


def chi_square_p(observed: np.ndarray, law: np.ndarray) -> float:
    """p-value of Pearson's test that the counts come from the law (all cells positive)."""
    expected = observed.sum() * law
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), observed.size - 1))


@pytest.mark.parametrize("spec", WORLDS, ids=lambda spec: spec["name"])
def test_counts_follow_the_exact_law(spec):
    # A p-value below 1e-4 has probability 1e-4 under the law; the seed is fixed.
    world = build_world(spec)
    counts = world.sample(20_000, 50, np.random.default_rng(1))
    problem, fraction = world.problem, world.label_fraction[:, None]
    law = np.stack(
        [
            problem.prompt_probs[:, None] * fraction * problem.p_preferred,
            problem.prompt_probs[:, None] * (1 - fraction) * problem.p_nonpreferred,
        ]
    )
    observed = np.stack([counts.preferred.sum(axis=0), counts.nonpreferred.sum(axis=0)])
    assert observed.sum() == 50 * 20_000
    if world.regime == "paired":  # the classes are dependent: test the pairs themselves
        law, observed = problem.prompt_probs[:, None, None] * problem.pair_probs, counts.pairs.sum(axis=0)
    keep = law > 0
    assert (observed[~keep] == 0).all()
    assert chi_square_p(observed[keep], law[keep]) > 1e-4


def test_the_sampler_test_notices_a_wrong_law():
    world = build_world(TOY)
    counts = world.sample(20_000, 50, np.random.default_rng(1))
    wrong = 0.3 * np.array([0.49, 0.31, 0.2])
    law = np.concatenate([wrong, 0.7 * world.problem.p_nonpreferred[0]])
    observed = np.concatenate([counts.preferred.sum(axis=0)[0], counts.nonpreferred.sum(axis=0)[0]])
    assert chi_square_p(observed, law) < 1e-4


def test_paired_worlds_satisfy_assumption_m_with_the_base_policy():
    # Regime A: p+ = 2 mu q, p- = 2 mu (1 - q), so that (p+ + p-)/2 = mu.
    world = build_world({**HODGE, "base": [0.1, 0.2, 0.3, 0.3, 0.1], "reference": "base"})
    assert world.regime == "paired"
    assert world.problem.assumption_m_holds
    assert np.all(world.problem.alpha == 0.5)


def test_an_unpaired_world_of_a_pairwise_model_has_independent_classes():
    problem = build_world({**HODGE, "regime": "unpaired"}).problem
    np.testing.assert_array_equal(
        problem.pair_probs, problem.p_preferred[:, :, None] * problem.p_nonpreferred[:, None, :]
    )


def test_thumbs_have_prompt_dependent_alpha_and_satisfy_m_prompt_by_prompt():
    world = build_world(THUMBS)
    assert len(np.unique(world.problem.alpha)) == 3
    assert np.abs(world.problem.mixture - 0.25).max() < 1e-12


def test_reporting_tilts_the_prompt_law():
    report = [[1.0] * 4, [0.5] * 4, [0.5] * 4]
    options = {**THUMBS["options"], "report_up": report, "report_down": report}
    assert build_world({**THUMBS, "options": options}).problem.prompt_probs == pytest.approx([0.5, 0.25, 0.25])


def test_the_cost_of_a_replicate_does_not_grow_with_n():
    counts = build_world(TOY).sample(10**15, 3, np.random.default_rng(0))
    assert (counts.preferred.sum(axis=(1, 2)) + counts.nonpreferred.sum(axis=(1, 2)) == 10**15).all()


def test_label_fraction_differs_from_alpha_on_request():
    world = build_world({**TOY, "label_fraction": 0.8})
    counts = world.sample(100_000, 20, np.random.default_rng(0))
    share = counts.preferred.sum() / (20 * 100_000)
    assert abs(share - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 2e6)
    assert world.problem.alpha == pytest.approx([0.3])


def test_matching_keeps_the_margins_and_is_uniform():
    counts = Counts(np.tile([[3, 1, 2]], (4000, 1, 1)), np.tile([[2, 5, 2]], (4000, 1, 1)))
    table = match_pairs(counts, np.random.default_rng(2))
    np.testing.assert_array_equal(table.sum(axis=3), counts.preferred)
    assert (table.sum(axis=2) <= counts.nonpreferred).all()
    # E[table_ij] = a_i b_j / b for a matching without replacement; the variance is at most a_i b_j / b.
    expected = np.outer([3, 1, 2], [2, 5, 2]) / 9
    assert (np.abs(table.mean(axis=0)[0] - expected) < 4.5 * np.sqrt(expected / 4000)).all()


def test_matching_deals_from_the_larger_class_whichever_it_is():
    counts = Counts(np.array([[[9, 1]], [[1, 1]]]), np.array([[[1, 2]], [[4, 4]]]))
    table = match_pairs(counts, np.random.default_rng(0))
    assert table.sum(axis=(1, 2, 3)).tolist() == [3, 2]
    np.testing.assert_array_equal(table[0].sum(axis=1), [[1, 2]])
    np.testing.assert_array_equal(table[1].sum(axis=2), [[1, 1]])


def test_matching_refuses_populations_that_numpy_cannot_draw_from():
    counts = Counts(np.array([[[10**9]]]), np.array([[[5]]]))
    with pytest.raises(ValueError, match="fewer than 10\\^9 examples"):
        match_pairs(counts, np.random.default_rng(0))


def test_from_counts_reads_a_csv_file(tmp_path):
    path = tmp_path / "wins.csv"
    path.write_text("winner,loser,count\na,b,3\nb,a,1\nb,c,2\nc,b,2\na,c,5\nc,a,5\n")
    world = build_world({"name": "mine", "preference": "from_counts", "options": {"csv": str(path)}})
    assert world.problem.responses == 3
    assert world.problem.p_preferred[0, 0] == pytest.approx(2 / 9 * (0.5 + 0.75 + 0.5))


def test_from_counts_may_take_the_bradley_terry_model_of_the_counts(tmp_path):
    path = tmp_path / "wins.csv"
    path.write_text("winner,loser,count\na,b,30\nb,a,10\nb,c,20\nc,b,20\na,c,5\nc,a,15\n")
    spec = {"name": "mine", "preference": "from_counts", "options": {"csv": str(path), "fit": "bradley_terry"}}
    fitted = build_world(spec).preference[0]
    assert bt_distance(fitted).size < 1e-12
    # At the maximum of the likelihood every item wins as often as expected (Ford 1957).
    wins = np.array([[0, 30, 5], [10, 0, 20], [15, 20, 0]])
    expected = ((wins + wins.T) * fitted).sum(axis=1)
    np.testing.assert_allclose(expected, wins.sum(axis=1), rtol=1e-9)


BAD_SPECS = {
    "fit": (
        {"name": "x", "preference": "from_counts", "options": {"counts": [[0, 1], [1, 0]], "fit": "bradly_terry"}},
        "did you mean 'bradley_terry'",
    ),
    "no name": ({**TOY, "name": ""}, "must have a name"),
    "unknown key": ({**TOY, "alhpa": 0.2}, "did you mean 'alpha'"),
    "neither": ({"name": "empty"}, "got neither"),
    "both": ({**TOY, "preference": "hodge"}, "got both"),
    "unknown model": ({"name": "x", "preference": "hodg"}, "did you mean 'hodge'"),
    "alpha of a model": ({**HODGE, "alpha": 0.2}, "follows from its preference model"),
    "missing alpha": ({k: v for k, v in TOY.items() if k != "alpha"}, "got no alpha"),
    "surplus": ({**TOY, "prompts": 2}, "goes with a preference model"),
    "thumbs in pairs": ({**THUMBS, "regime": "paired"}, "must be unpaired for thumbs"),
    "paired laws": ({**TOY, "regime": "paired"}, "alpha must be 1/2"),
    "paired fraction": ({**HODGE, "label_fraction": 0.3}, "is 1/2 in the paired regime"),
    "fraction": ({**TOY, "label_fraction": 1.0}, "strictly between 0 and 1"),
    "no base": ({**TOY, "reference": "base"}, "got no base policy"),
    "base shape": ({**HODGE, "base": [0.5, 0.5]}, "base must have shape"),
    "law": ({**TOY, "p_preferred": [0.5, 0.3, 0.1]}, "p_preferred must sum to 1"),
    "negative": ({**TOY, "p_preferred": [0.9, 0.3, -0.2]}, "must be finite and not negative"),
    "nan": ({**TOY, "p_preferred": [0.5, float("nan"), 0.5]}, "must not contain NaN"),
    "source": ({"name": "x", "preference": "from_counts", "options": {"source": "area"}}, "did you mean 'arena'"),
    "two sources": (
        {"name": "x", "preference": "from_counts", "options": {"source": "arena", "csv": "a.csv"}},
        "one of source",
    ),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_bad_worlds_are_refused(case):
    spec, message = BAD_SPECS[case]
    with pytest.raises(ValueError, match=message):
        build_world(spec)


@pytest.mark.parametrize(
    ("n", "replicates", "message"),
    [(0, 1, "n must be at least 1"), (10, 0, "replicates must be at least 1"), (7, 2, "n must be even")],
)
def test_bad_sizes_are_refused(n, replicates, message):
    with pytest.raises(ValueError, match=message):
        build_world(HODGE).sample(n, replicates, np.random.default_rng(0))


def test_a_size_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match="n must be an integer"):
        build_world(TOY).sample(10.0, 1, np.random.default_rng(0))


def test_a_world_can_be_made_from_a_problem():
    problem = FiniteProblem([0.5, 0.5], [0.2, 0.8], alpha=0.5)
    assert World("mine", problem, "unpaired", problem.alpha).sample(10, 2, np.random.default_rng(0)).pairs is None
