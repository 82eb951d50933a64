"""FiniteProblem: shapes, defaults, derived laws, immutability and every refusal."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import EPS, assert_within_eps, problems
from theory import FiniteProblem

P, M = [0.5, 0.3, 0.2], [0.1, 0.3, 0.6]
PAIRS = np.outer(P, M)


@given(problems(prompts=2, empty=True))
def test_derived_laws_are_consistent(problem):
    # Three roundings a cell of the mixture, four terms a row.
    assert_within_eps(problem.mixture.sum(axis=1), np.ones(2), multiple=8)
    np.testing.assert_array_equal(problem.reference, problem.mixture)
    positive = problem.mixture > 0
    expected = problem.p_preferred[positive] / problem.mixture[positive]
    assert_within_eps(problem.relative_ratio[positive], expected, multiple=8)
    assert (problem.relative_ratio <= 1 / problem.alpha[:, None]).all()
    assert_within_eps(problem.pair_probs.sum(axis=2), problem.p_preferred, multiple=8)
    assert_within_eps(problem.pair_probs.sum(axis=1), problem.p_nonpreferred, multiple=8)


def test_defaults():
    problem = FiniteProblem([P, M], [M, P], alpha=0.25)
    assert (problem.prompts, problem.responses) == (2, 3)
    np.testing.assert_array_equal(problem.prompt_probs, [0.5, 0.5])
    np.testing.assert_array_equal(problem.alpha, [0.25, 0.25])
    assert problem.assumption_m_holds and problem.explicit_pair_probs is None


def test_one_prompt_may_be_given_without_its_axis():
    problem = FiniteProblem(P, M, P, [1.0], alpha=[0.5], pair_probs=PAIRS)
    for name in ("p_preferred", "p_nonpreferred", "reference", "mixture"):
        assert getattr(problem, name).shape == (1, 3)
    assert problem.pair_probs.shape == (1, 3, 3) and not problem.assumption_m_holds


def test_alpha_may_depend_on_the_prompt():
    problem = FiniteProblem([P, P], [M, M], alpha=[0.2, 0.8])
    assert_within_eps(problem.mixture[0], 0.2 * np.array(P) + 0.8 * np.array(M), multiple=4)
    assert_within_eps(problem.mixture[1], 0.8 * np.array(P) + 0.2 * np.array(M), multiple=4)
    assert problem.assumption_m_holds


def test_pair_laws_keep_their_dependence():
    # Pairs on a diagonal-free table with the margins of P and M.
    pairs = np.array([[0.0, 0.1, 0.4], [0.1, 0.0, 0.2], [0.0, 0.2, 0.0]])
    problem = FiniteProblem(pairs.sum(axis=1), pairs.sum(axis=0), alpha=0.5, pair_probs=pairs)
    np.testing.assert_array_equal(problem.pair_probs[0], pairs)


def test_problems_are_frozen_and_own_their_arrays():
    p = np.array(P)
    problem = FiniteProblem(p, M, alpha=0.5)
    p[0] = 7.0
    assert problem.p_preferred[0, 0] == 0.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.alpha = 0.3
    with pytest.raises(ValueError, match="read-only"):
        problem.p_preferred[0, 0] = 1.0


def test_laws_are_normalised_to_rounding():
    problem = FiniteProblem(np.array(P) * (1 + 5e-9), M, alpha=0.5)
    assert abs(problem.p_preferred.sum() - 1.0) <= 4 * EPS


def test_a_response_that_only_the_reference_knows_is_allowed():
    problem = FiniteProblem([0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.2, 0.2, 0.6], alpha=0.5)
    assert problem.mixture[0, 2] == 0.0 and problem.relative_ratio[0, 2] == 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FiniteProblem(P, M, alpha=1.2), r"^alpha must lie strictly between 0 and 1, got 1\.2"),
        (
            lambda: FiniteProblem(P, M, alpha=[0.5, 0.5]),
            r"alpha must be one number or one per prompt \(1\), got shape \(2,\)",
        ),
        (lambda: FiniteProblem([0.5, 0.6], [0.5, 0.5], alpha=0.5), r"p_preferred must sum to 1 .*got a sum of 1\.1"),
        (
            lambda: FiniteProblem(P, [1.5, -0.5, 0.0], alpha=0.5),
            r"p_nonpreferred must be finite and not negative, got -0\.5 at index \(1,\)",
        ),
        (lambda: FiniteProblem(P, [np.nan, 0.5, 0.5], alpha=0.5), r"p_nonpreferred must not contain NaN"),
        (
            lambda: FiniteProblem(P, [0.5, 0.5], alpha=0.5),
            r"p_preferred and p_nonpreferred must have the same shape, got",
        ),
        (lambda: FiniteProblem(P, M, [0.5, 0.5], alpha=0.5), r"p_preferred and reference must have the same shape"),
        (
            lambda: FiniteProblem(P, M, [0.5, 0.5, 0.0], alpha=0.5),
            r"reference must be positive .*got 0 at \(prompt, response\) \(0, 2\)",
        ),
        (
            lambda: FiniteProblem([[P]], [[M]], alpha=0.5),
            r"p_preferred must have shape \(prompts, responses\) or \(responses,\), got \(1, 1, 3\)",
        ),
        (
            lambda: FiniteProblem([P, P], [M, M], prompt_probs=[1.0], alpha=0.5),
            r"prompt_probs must have shape \(2,\), got \(1,\)",
        ),
        (lambda: FiniteProblem([P, P], [M, M], prompt_probs=[0.5, 0.4], alpha=0.5), r"prompt_probs must sum to 1"),
        (
            lambda: FiniteProblem(P, M, alpha=0.5, pair_probs=PAIRS.T),
            r"pair_probs must have the margins .*got gaps up to 0\.4",
        ),
        (
            lambda: FiniteProblem(P, M, alpha=0.5, pair_probs=PAIRS[:2] / PAIRS[:2].sum()),
            r"pair_probs must have shape \(1, 3, 3\), got \(2, 3\)",
        ),
        (
            lambda: FiniteProblem(P, M, alpha=0.5, pair_probs=[1.0]),
            r"pair_probs must have shape \(1, 3, 3\), got \(1,\)",
        ),
        (lambda: FiniteProblem([], [], alpha=0.5), r"p_preferred must have at least one response"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(build, message):
    with pytest.raises(ValueError, match=message):
        build()
