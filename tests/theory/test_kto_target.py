"""KTO targets: optimal at their own reference point, supported where the gain is positive."""

import functools

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, rel_entr

from tests.theory.independent import minimise_with_scipy
from theory import FiniteProblem, class_masses, population_target
from theory.kto_target import kto_policies, kto_policy

PROBLEMS = {
    "two prompts": FiniteProblem(
        [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]],
        [[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.2, 0.2]],
        [[0.25, 0.25, 0.3, 0.2], [0.2, 0.3, 0.2, 0.3]],
        [0.3, 0.7],
        alpha=0.4,
    ),
    "under M": FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.5),
    "empty cells": FiniteProblem([0.5, 0.5, 0.0, 0.0], [0.2, 0.0, 0.8, 0.0], [0.4, 0.2, 0.2, 0.2], alpha=0.5),
}


@functools.cache
def kto_target(name, beta=0.1, weighting="balanced"):
    """Target of a problem; each one is the root of a scan over reference points."""
    return population_target(PROBLEMS[name], "kto", beta=beta, weighting=weighting)


def reference_point(problem, policy):
    """E_x KL(policy || reference)."""
    logs = np.log(np.where(policy > 0, policy, 1.0) / np.where(policy > 0, problem.reference, 1.0))
    return float(problem.prompt_probs @ (policy * logs).sum(axis=1))


@pytest.mark.parametrize(
    ("name", "beta", "weighting"),
    [
        ("two prompts", 0.1, "balanced"),
        ("two prompts", 0.5, (0.8, 1.0)),
        ("under M", 0.5, "pooled"),
        ("empty cells", 0.1, "balanced"),
    ],
)
def test_targets_are_optimal_at_their_own_reference_point(name, beta, weighting):
    problem = PROBLEMS[name]
    target = kto_target(name, beta, weighting)
    kl, masses = reference_point(problem, target), class_masses(problem, weighting)
    gain = masses.preferred - masses.nonpreferred
    np.testing.assert_array_equal(target > 0, gain > 1e-14)
    for x in range(problem.prompts):
        used = gain[x] > 1e-14
        g, q = gain[x][used], problem.reference[x][used]

        def negative(logs, g=g, q=q):
            chance = expit(beta * (logs - np.log(q) - kl))
            return -(g * chance).sum(), -beta * g * chance * (1 - chance)

        # BFGS stops at gradients of about 1e-9, which determine a policy to about 1e-9 / curvature: the objective's
        # curvature in the logits is beta g / 4 = 1e-3 times the policy's cells.
        best, value = minimise_with_scipy(negative, q / q.sum(), 3)
        here = negative(np.log(target[x][used]))[0]
        assert here <= value + 1e-13
        np.testing.assert_allclose(target[x][used], best, atol=1e-5)


def test_target_at_the_largest_beta():
    # At beta = 1 the objective is still concave: sigmoid(log r - z) = r/(r + e^z).
    problem = PROBLEMS["under M"]
    target = population_target(problem, "kto", beta=1.0)
    kl, gain = reference_point(problem, target), (problem.p_preferred - problem.p_nonpreferred)[0] / 2
    # One response has a gain here: it gets everything, whatever the reference point.
    np.testing.assert_array_equal(gain > 1e-14, [True, False, False])
    np.testing.assert_array_equal(target, [[1.0, 0.0, 0.0]])
    assert kl == pytest.approx(-np.log(problem.reference[0, 0]))


def test_stationarity_to_rounding():
    # gain sigmoid(y) sigmoid(-y) / p is one number a prompt, with y = beta (log p/q - z).
    problem = PROBLEMS["two prompts"]
    target = kto_target("two prompts")
    kl = reference_point(problem, target)
    for p, m, q, policy in zip(problem.p_preferred, problem.p_nonpreferred, problem.reference, target, strict=True):
        used = policy > 0
        fraction = 0.5 * (p - m)[used]
        y = 0.1 * (np.log(policy[used] / q[used]) - kl)
        slopes = fraction * expit(y) * expit(-y) / policy[used]
        np.testing.assert_allclose(slopes, slopes[0], rtol=1e-10)


def test_targets_follow_permutations_of_the_responses():
    problem, order = PROBLEMS["two prompts"], [2, 0, 3, 1]
    moved = kto_policy(
        0.5 * (problem.p_preferred - problem.p_nonpreferred)[:, order],
        problem.reference[:, order],
        problem.prompt_probs,
        0.1,
    )
    np.testing.assert_allclose(moved, kto_target("two prompts")[:, order], rtol=1e-10)


def test_policies_without_a_unique_target_are_refused():
    gain, q = np.array([[0.3, 0.2, -0.5], [-0.1, 0.1, 0.0]]), np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"got such a prompt: 1"):
        kto_policy(np.where(gain == 0.1, 0.0, gain), q, np.array([0.5, 0.5]), 0.1)
    with pytest.raises(ValueError, match=r"beta must be at most 1 .* got 2"):
        kto_policy(gain, q, np.array([0.5, 0.5]), 2.0)


def one_by_one(gain, q, shares, beta):
    """Fixed points of one data set by nested scalar root finding."""

    def policy(z):
        laws = []
        for g, reference in zip(gain, q, strict=True):
            used = g > 0
            level = np.log(g[used] / reference[used])

            def ratios(multiplier, level=level):
                def falls(x, height):
                    y = beta * (x - z)
                    return height - multiplier - np.logaddexp(0, y) - np.logaddexp(0, -y) - x

                return np.exp([brentq(falls, -200, 200, args=(height,), xtol=1e-13) for height in level])

            root = brentq(
                lambda m, used=used, reference=reference: reference[used] @ ratios(m) - 1, -50, 50, xtol=1e-13
            )
            law = np.zeros_like(g)
            law[used] = reference[used] * ratios(root)
            laws.append(law)
        return np.array(laws)

    def divergence(law):
        return sum(s * rel_entr(p, r).sum() for s, p, r in zip(shares, law, q, strict=True))

    z = brentq(lambda z: z - divergence(policy(z)), 0.0, 10.0, xtol=1e-12)
    return policy(z), z


@pytest.mark.parametrize("beta", [0.05, 0.6])
def test_many_data_sets_at_once_agree_with_nested_root_finding(beta):
    rng = np.random.default_rng(5)
    q, shares = rng.dirichlet(np.ones(4), size=(3, 2)), rng.dirichlet(np.ones(2), size=3)
    gain = rng.dirichlet(np.ones(4), size=(3, 2)) - rng.dirichlet(np.ones(4), size=(3, 2))
    found = kto_policies(gain, q, shares, beta)
    np.testing.assert_array_equal(found.status, "ok")
    for i in range(3):
        policy, z = one_by_one(gain[i], q[i], shares[i], beta)
        # The tolerances of the nested roots, 1e-12, times slopes of at most 1/(1 - beta) = 2.5 and log-ratios below 5.
        np.testing.assert_allclose(found.policies[i], policy, atol=2e-11)
        assert found.reference_points[i] == pytest.approx(z, abs=2e-11)


def test_each_data_set_is_solved_as_if_it_were_alone():
    rng = np.random.default_rng(6)
    q, shares = rng.dirichlet(np.ones(8), size=2), np.array([0.3, 0.7])
    gain = (rng.multinomial(30, np.full(8, 1 / 8), size=(200, 2)) - rng.multinomial(30, q, size=(200, 2))) / 60
    found = kto_policies(gain, q, shares, 0.1)
    assert (found.status == "ok").all()
    np.testing.assert_allclose(found.policies.sum(axis=2), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(found.policies > 0, gain > 1e-14)
    kl = (shares * rel_entr(found.policies, q).sum(axis=2)).sum(axis=1)
    np.testing.assert_allclose(found.reference_points, kl, atol=1e-12)
    for i in (0, 99):
        np.testing.assert_allclose(kto_policy(gain[i], q, shares, 0.1), found.policies[i], atol=1e-13)
    # Only the proportions of the gains of a prompt matter.
    scaled = kto_policies(gain * np.array([1.0, 7.0])[:, None], q, shares, 0.1)
    np.testing.assert_allclose(scaled.policies, found.policies, atol=1e-12)


def test_failures_do_not_touch_other_data_sets():
    q, gain = np.full((2, 3), 1 / 3), np.array([[0.3, 0.2, -0.5], [-0.2, 0.1, 0.1]])
    hopeless = np.where(gain == 0.1, -0.1, gain)
    found = kto_policies(np.stack([gain, hopeless, gain]), q, np.array([0.5, 0.5]), 0.1)
    np.testing.assert_array_equal(found.status, ["ok", "error", "ok"])
    assert np.isnan(found.policies[1]).all() and np.isnan(found.reference_points[1])
    np.testing.assert_array_equal(found.policies[0], found.policies[2])
    # The hopeless prompt is of no concern where it never occurs: it keeps the reference.
    idle = kto_policies(hopeless[None], q, np.array([[1.0, 0.0]]), 0.1)
    assert idle.status[0] == "ok"
    np.testing.assert_allclose(idle.policies[0, 1], q[1], rtol=1e-14)


def test_several_fixed_points_are_counted_and_refused():
    # At beta = 1 the policy is (sqrt(g e^z / (lambda q)) - e^z)_+ q; two gains in very different proportion to q.
    rng = np.random.default_rng(7)
    q = rng.dirichlet(np.ones(8), size=1)
    gain = rng.dirichlet(np.ones(8), size=(200, 1)) - rng.dirichlet(np.ones(8), size=(200, 1))
    found = kto_policies(gain, q, np.ones(1), 1.0)
    several = found.fixed_points > 1
    assert several.any() and not several.all()
    np.testing.assert_array_equal(found.status[several], "nonconverged")
    assert np.isnan(found.policies[several]).all()
    row = int(np.argmax(several))
    with pytest.raises(
        ValueError, match=rf"one reference point that is its own optimum, got {found.fixed_points[row]}"
    ):
        kto_policy(gain[row], q, np.ones(1), 1.0)
    # The others satisfy the closed form at their own reference point.
    for i in np.nonzero(found.status == "ok")[0][:20]:
        ez, ratio = np.exp(found.reference_points[i]), found.policies[i, 0] / q[0]
        used, positive = ratio > 1e-12, gain[i, 0] > 1e-14
        price = np.where(positive, gain[i, 0], 0.0) * ez / (ratio + ez) ** 2 / q[0]
        np.testing.assert_allclose(price[used], price[used][0], rtol=1e-9)
        assert (price[~used] <= price[used][0] * (1 + 1e-9)).all()
