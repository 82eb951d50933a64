"""The strategies yield what they promise, and the assertion helpers fail on broken input."""

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from tests.strategies import (
    EPS,
    alphas,
    assert_first_order_optimal,
    assert_within_eps,
    assert_within_standard_errors,
    densities,
    density_pairs,
    extreme_alphas,
    laws,
    log_ratios,
    preference_matrices,
    problems,
    samples,
)


@given(st.one_of(alphas(), extreme_alphas()))
def test_alphas_lie_strictly_between_0_and_1(alpha):
    assert 0.0 < alpha < 1.0


@given(density_pairs(size=3))
def test_density_pairs_are_finite_and_not_negative(pair):
    for values in pair:
        assert values.shape == (3,) and np.isfinite(values).all() and (values >= 0).all()


@pytest.mark.parametrize("hard", [0.0, 5e-324, 1e300])
def test_densities_reach_the_hard_points(hard):
    assert hard in find(densities(), lambda values: hard in values)


# exp(spread) / (responses exp(-spread)) bounds the ratio of entries; sums of 5 terms round by 5 eps at most.
@given(laws(responses=5, spread=3.0))
def test_laws_are_positive_and_sum_to_one(law):
    assert law.shape == (5,) and (law > 0).all() and law.max() / law.min() <= np.exp(6.0) * (1 + 8 * EPS)
    assert abs(law.sum() - 1.0) <= 5 * EPS


@given(laws(responses=5, empty=True))
def test_laws_with_empty_cells_sum_to_one(law):
    assert law.shape == (5,) and (law >= 0).all() and abs(law.sum() - 1.0) <= 5 * EPS


def test_laws_with_empty_cells_have_empty_cells():
    assert (find(laws(empty=True), lambda law: (law == 0).sum() == 3) > 0).sum() == 1


@given(problems(prompts=2, responses=3))
def test_problems_satisfy_assumption_m(problem):
    assert problem.p_preferred.shape == (2, 3) and problem.assumption_m_holds
    assert (problem.mixture > 0).all() and (problem.prompt_probs > 0).all()


@given(problems(foreign_reference=True, empty=True))
def test_foreign_references_are_positive(problem):
    assert (problem.reference > 0).all()


def test_foreign_references_are_not_the_mixture():
    assert not find(problems(foreign_reference=True), lambda problem: not problem.assumption_m_holds).assumption_m_holds


@given(samples(responses=3))
def test_samples_have_examples_of_both_classes(sample):
    for counts in (sample.preferred, sample.nonpreferred):
        assert counts.shape == (3,) and counts.dtype.kind == "i" and (counts >= 0).all() and counts.sum() >= 1


@given(log_ratios(limit=7.0, size=4))
def test_log_ratios_stay_within_their_limit(u):
    assert u.shape == (4,) and np.abs(u).max() <= 7.0


@given(preference_matrices(responses=3))
def test_preference_matrices_are_complementary(matrix):
    assert matrix.shape == (3, 3) and (matrix >= 0).all() and np.abs(matrix + matrix.T - 1.0).max() <= EPS


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([1.0, 1.0 + 3 * EPS], [1.0, 1.0]),
        ([np.nan], [np.nan]),
        ([np.nan], [1.0]),
        ([np.inf], [-np.inf]),
        ([1e-300], [0.0]),
        ([1.0], [1.0, 1.0]),
    ],
)
def test_assert_within_eps_fails_on_broken_input(actual, expected):
    with pytest.raises(AssertionError, match="differ"):
        assert_within_eps(actual, expected, multiple=2)


def test_assert_within_eps_accepts_its_tolerance():
    assert_within_eps([1.0 + 2 * EPS, np.inf, 0.0], [1.0, np.inf, 0.0], multiple=2)
    assert_within_eps([1e-16], [0.0], multiple=1, size=1.0)


@pytest.mark.parametrize(
    ("draws", "expected", "message"),
    [
        (np.r_[np.zeros(50), np.ones(50)], 0.75, "standard errors away"),
        (np.r_[np.zeros(50), np.nan], 0.0, "finite"),
        (np.zeros(50), 0.0, "vary"),
    ],
)
def test_assert_within_standard_errors_fails_on_broken_input(draws, expected, message):
    with pytest.raises(AssertionError, match=message):
        assert_within_standard_errors(draws, expected)


def test_assert_within_standard_errors_accepts_its_tolerance():
    assert_within_standard_errors(np.r_[np.zeros(50), np.ones(50)], 0.5 + 3.9 * 0.5 / np.sqrt(99))


@pytest.mark.parametrize(
    ("gradient", "policy", "message"),
    [
        ([1.0, 1.1, 2.0], [0.5, 0.5, 0.0], "slopes of used"),
        ([1.0, 1.0, 0.5], [0.5, 0.5, 0.0], "would lower the risk"),
        ([1.0, 1.0], [0.5, 0.5, 0.0], "shapes"),
    ],
)
def test_assert_first_order_optimal_fails_on_broken_input(gradient, policy, message):
    with pytest.raises(AssertionError, match=message):
        assert_first_order_optimal(gradient, policy, tolerance=1e-6)


def test_assert_first_order_optimal_accepts_an_optimum():
    assert_first_order_optimal([1.0, 1.0, 2.0], [0.5, 0.5, 0.0], tolerance=1e-12)
