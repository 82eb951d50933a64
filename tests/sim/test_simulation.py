"""simulate(): every method against independent fits of the same counts, exact targets, and honest outcomes."""

import numpy as np
import pytest
from scipy.optimize import minimize

from sim import METHODS, build_world, simulate
from sim.sampling import Counts
from theory import asymptotic_kl, population_risk, population_target
from theory.problems import FiniteProblem

TOY = {"name": "toy", "p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.3}
HODGE = {"name": "cycles", "preference": "hodge", "options": {"cyclic_share": 0.5, "signal": 1.0}, "responses": 5}
THUMBS = {
    "name": "thumbs",
    "preference": "thumbs",
    "options": {"signal": 1.0, "bias": -0.5},
    "responses": 4,
    "prompts": 2,
}
OPTIONS = {"dpo": {"beta": 1.0}}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spec", [TOY, HODGE, THUMBS], ids=lambda spec: spec["name"])
def test_every_method_approaches_its_exact_target(method, spec):
    # Standard errors shrink tenfold when n grows a hundredfold (slope -1/2): the ratio of mean errors is 10 +- 15 %,
    # several Monte-Carlo standard errors of the 1,600 replicates (each mean has a relative error of 1 to 2 %).
    world = build_world(spec)
    errors = []
    # kto drops responses without a gain: where one is small, the law of the error is normal for very large n only.
    for n in (10**6, 10**8) if method == "kto" else (10**4, 10**6):
        result = simulate(world, method, n, 1_600, np.random.default_rng(n), **OPTIONS.get(method, {}))
        assert (result.status == "ok").all()
        errors.append(result.metrics["tv_target"].mean())
    assert errors[0] / errors[1] == pytest.approx(10.0, rel=0.15)


@pytest.mark.parametrize("method", ["rdro", "ddro", "mle"])
def test_ratio_estimates_minimise_their_empirical_risk(method):
    # A data set is a problem of its own: its shares are the laws, its class counts the preferred fraction.
    world = build_world(TOY)
    counts = world.sample(500, 5, np.random.default_rng(3))
    result = simulate(world, method, 500, 5, np.random.default_rng(0), data=counts)
    for i in range(5):
        up, down = counts.preferred[i, 0], counts.nonpreferred[i, 0]
        sample = FiniteProblem(up / up.sum(), down / down.sum(), world.problem.reference, alpha=0.3)
        fraction = up.sum() / 500

        def risk(free, sample=sample, fraction=fraction):
            logits = np.append(free, 0.0)
            policy = np.exp(logits - np.logaddexp.reduce(logits))
            value = population_risk(sample, policy[None], method, preferred_fraction=fraction)
            return value if np.isfinite(value) else 1e6

        start = np.log(result.policies[i, 0, :-1] / result.policies[i, 0, -1]) + 0.05
        found = minimize(risk, start, method="BFGS", options={"gtol": 1e-9})
        logits = np.append(found.x, 0.0)
        # BFGS on values of a risk places its argument to about sqrt(eps) of the scale, here a few 1e-8.
        np.testing.assert_allclose(result.policies[i, 0], np.exp(logits - np.logaddexp.reduce(logits)), atol=1e-6)


def test_dpo_estimates_minimise_their_empirical_risk():
    world = build_world(HODGE)
    counts = world.sample(400, 3, np.random.default_rng(5))
    result = simulate(world, "dpo", 400, 3, np.random.default_rng(0), data=counts, beta=0.7)
    for i in range(3):
        pairs = counts.pairs[i] / counts.pairs[i].sum()
        sample = FiniteProblem(
            pairs.sum(axis=2), pairs.sum(axis=1), world.problem.reference, alpha=0.5, pair_probs=pairs
        )
        np.testing.assert_allclose(result.policies[i], population_target(sample, "dpo", beta=0.7), atol=1e-10)


def test_dpo_with_a_response_in_no_pair_is_closest_to_the_reference():
    world = build_world(HODGE)
    pairs = np.zeros((1, 1, 5, 5), dtype=np.int64)
    pairs[0, 0, :3, :3] = [[0, 4, 2], [1, 0, 5], [3, 2, 0]]
    counts = Counts(pairs.sum(axis=3), pairs.sum(axis=2), pairs)
    result = simulate(world, "dpo", 34, 1, np.random.default_rng(0), data=counts, beta=1.0)
    policy = result.policies[0, 0]
    assert result.status.tolist() == ["ok"]
    assert policy.sum() == pytest.approx(1.0, abs=1e-14)
    # The two unseen responses keep equal shares of the uniform reference, and together at most what KL allows.
    assert policy[3] == pytest.approx(policy[4], abs=1e-15)
    share, q = policy[:3] / policy[:3].sum(), 1 / 3
    kept = 0.6 * np.exp(-np.sum(share * np.log(share / q)))
    assert policy[:3].sum() == pytest.approx(kept / (kept + 0.4), abs=1e-14)


def test_dpo_counts_separated_data_as_diverged():
    world = build_world(HODGE)
    pairs = np.zeros((1, 1, 5, 5), dtype=np.int64)
    pairs[0, 0, 0, 1:] = 3  # response 0 always wins
    pairs[0, 0, 1:, 1:] = 1
    counts = Counts(pairs.sum(axis=3), pairs.sum(axis=2), pairs)
    result = simulate(world, "dpo", 56, 1, np.random.default_rng(0), data=counts, beta=1.0)
    assert result.status.tolist() == ["diverged"]
    assert np.isnan(result.policies).all() and np.isnan(result.metrics["tv_target"]).all()


def test_data_of_one_class_are_an_error_outcome_and_stay_in_the_table():
    counts = Counts(np.array([[[4, 0, 0]], [[2, 1, 1]]]), np.array([[[0, 0, 0]], [[1, 1, 2]]]))
    result = simulate(build_world(TOY), "rdro", 4, 2, np.random.default_rng(0), data=counts)
    assert result.status.tolist() == ["error", "ok"]
    table = result.table()
    assert set(table["replicate"]) == {0, 1}
    assert table.loc[table["replicate"] == 0, "status"].eq("error").all()


def test_ddro_with_an_unbounded_risk_diverges():
    counts = Counts(np.array([[[4, 1, 2]]]), np.array([[[0, 3, 2]]]))
    result = simulate(build_world(TOY), "ddro", 12, 1, np.random.default_rng(0), data=counts, generator="kl")
    assert result.status.tolist() == ["diverged"]


def test_responses_without_counts_share_the_left_over_mass_in_proportion_to_the_reference():
    laws = {"p_preferred": [0.3, 0.3, 0.2, 0.2], "p_nonpreferred": [0.3, 0.3, 0.1, 0.3], "alpha": 0.5}
    counts = Counts(np.array([[[1, 1, 0, 0]]]), np.array([[[1, 3, 0, 0]]]))
    world = build_world({"name": "gaps", **laws})
    policy = simulate(world, "rdro", 6, 1, np.random.default_rng(0), data=counts).policies[0, 0]
    q = world.problem.reference[0]
    # Seen responses sit at their pointwise minimiser p+/(p+/2 + p-/2); the rest is left over.
    assert policy[:2] == pytest.approx(q[:2] * np.array([0.5 / 0.375, 0.5 / 0.625]), abs=1e-14)
    assert policy[2:] == pytest.approx((1 - policy[:2].sum()) * q[2:] / q[2:].sum(), abs=1e-14)


def test_the_kl_constant_is_reached():
    # n E[KL] at n = 10^6 against the exact limit, within 4 standard errors.
    world = build_world(TOY)
    result = simulate(world, "rdro", 10**6, 2000, np.random.default_rng(11))
    scaled = 1e6 * result.metrics["kl_preferred"]
    limit = asymptotic_kl(world.problem, "rdro")
    assert abs(scaled.mean() - limit) < 4 * scaled.std(ddof=1) / np.sqrt(2000)


def test_paired_data_have_their_own_constant():
    # Chosen and rejected of a pair are dependent: the paired limit differs from the independent one and is reached.
    world = build_world(HODGE)
    result = simulate(world, "rdro", 10**6, 2000, np.random.default_rng(12))
    scaled = 1e6 * result.metrics["kl_preferred"]
    error = scaled.std(ddof=1) / np.sqrt(2000)
    paired, independent = (asymptotic_kl(world.problem, "rdro", paired=flag) for flag in (True, False))
    assert abs(scaled.mean() - paired) < 4 * error
    assert abs(paired - independent) > 1e-3


def test_unnormalised_estimates_obey_the_bound_and_the_direct_one_does_not():
    result = simulate(build_world(TOY), "rdro", 20, 500, np.random.default_rng(4))
    assert (result.metrics["max_relative_estimate"] <= 1 / 0.3).all()
    assert 0.1 < result.metrics["direct_infinite"].mean() < 1.0


def test_pooled_weighting_has_another_target_and_is_exposed():
    result = simulate(build_world(TOY), "rdro", 10**6, 50, np.random.default_rng(0), weighting="pooled")
    assert result.exact["tv_preferred"] > 0.1
    assert abs(result.metrics["tv_preferred"].mean() - result.exact["tv_preferred"]) < 0.01


def test_methods_given_the_same_counts_see_the_same_data():
    world = build_world(TOY)
    counts = world.sample(100, 10, np.random.default_rng(0))
    first = simulate(world, "sft", 100, 10, np.random.default_rng(1), data=counts)
    second = simulate(world, "sft", 100, 10, np.random.default_rng(2), data=counts)
    np.testing.assert_array_equal(first.policies, second.policies)


def test_a_seed_fixes_the_result():
    first, second = (simulate(build_world(THUMBS), "dpo", 200, 20, np.random.default_rng(7), beta=1.0) for _ in "ab")
    np.testing.assert_array_equal(first.policies, second.policies)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("rdo", {}, "did you mean 'rdro'"),
        ("rdro", {"alpha": 1.2}, "alpha must lie strictly between 0 and 1, got 1.2"),
        ("rdro", {"generator": "logit"}, "did you mean 'logistic'"),
        ("rdro", {"weighting": "poled"}, "did you mean 'pooled'"),
        ("rdro", {"beta": 0.1}, "beta is an option of kto, dpo, ipo, got it for rdro"),
        ("dpo", {"alpha": 0.3}, "alpha is an option of"),
        ("dpo", {"beta": 0.0}, "beta must be finite and greater than 0"),
        ("sft", {"weighting": "pooled"}, "weighting is an option of"),
    ],
)
def test_wrong_options_are_refused_before_any_draw(method, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(build_world(TOY), method, 100, 10, None, **options)


def test_counts_of_another_number_of_replicates_are_refused():
    world = build_world(TOY)
    counts = world.sample(100, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match="data must hold 5 replicates, got 10"):
        simulate(world, "rdro", 100, 5, np.random.default_rng(0), data=counts)
