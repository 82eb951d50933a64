"""KTO targets: optimal at their own reference point, supported where the gain is positive."""

import functools

import numpy as np
import pytest
from scipy.special import expit

from tests.theory.independent import minimise_with_scipy
from theory import FiniteProblem, class_masses, population_target
from theory.kto_target import kto_policy

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
