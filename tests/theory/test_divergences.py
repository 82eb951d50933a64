"""Divergences: identities, inequalities between them, edge values and errors."""

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from scipy.special import rel_entr

from tests.strategies import EPS, assert_within_eps, laws, preference_matrices
from theory import chi_square_divergence, hellinger_distance, kl_divergence, nash_gap, total_variation, win_rate

DIVERGENCES = (total_variation, kl_divergence, hellinger_distance, chi_square_divergence)
POINT, OTHER = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])
UNIFORM = np.full(4, 0.25)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@given(laws(empty=True), laws(empty=True))
@example(POINT, OTHER)
@example(POINT, UNIFORM)
@example(UNIFORM, UNIFORM * (1 + 1e-12))
def test_divergences_are_zero_exactly_between_equal_laws(divergence, p, q):
    assert divergence(p, p) == 0.0
    assert divergence(p, q) >= 0.0
    if np.abs(p - q).max() > 1e-3:
        assert divergence(p, q) > 0.0


# Laws sum to 1 only to 4 eps, which shifts the two sides of an inequality against each other by as much.
@given(laws(empty=True), laws(empty=True))
@example(POINT, OTHER)
@example(UNIFORM, UNIFORM)
def test_inequalities_between_divergences(p, q):
    tv, kl, hellinger = total_variation(p, q), kl_divergence(p, q), hellinger_distance(p, q)
    slack = 32 * EPS
    assert 0 <= tv <= 1 + slack and 0 <= hellinger <= 1 + slack
    assert tv <= np.sqrt(kl / 2) + np.sqrt(slack)  # Pinsker
    assert hellinger**2 <= tv + slack  # Le Cam, lower
    assert tv <= hellinger * np.sqrt(2 - hellinger**2) + np.sqrt(slack)  # Le Cam, upper
    assert 2 * hellinger**2 <= kl + slack
    assert kl <= np.log1p(chi_square_divergence(p, q)) + slack


def test_pinsker_and_le_cam_are_nearly_attained():
    p = np.array([0.5 + 1e-4, 0.5 - 1e-4])
    q = np.array([0.5, 0.5])
    # KL = 2 delta^2 (1 + O(delta^2)), so that TV / sqrt(KL/2) = 1 - O(delta^2) = 1 - O(1e-8).
    assert total_variation(p, q) / np.sqrt(kl_divergence(p, q) / 2) == pytest.approx(1.0, abs=1e-7)
    assert hellinger_distance([1.0, 0.0], [0.0, 1.0]) ** 2 == total_variation([1.0, 0.0], [0.0, 1.0])


@given(laws(), laws())
def test_kl_agrees_with_scipy_and_mpmath(p, q):
    with mpmath.workdps(50):
        cells = [(mpmath.mpf(float(x)), mpmath.mpf(float(y))) for x, y in zip(p, q, strict=True)]
        expected = float(sum(x * mpmath.log(x / y) - x + y for x, y in cells))
    # Each summand p log(p/q) - p + q carries a few eps of p (1 + |log p/q|) + q.
    size = (p * (1 + np.abs(np.log(p / q))) + q).sum()
    assert_within_eps(kl_divergence(p, q), expected, multiple=8, size=size)
    assert_within_eps(kl_divergence(p, q), rel_entr(p, q).sum(), multiple=16, size=size)


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-7])
def test_kl_of_nearly_equal_laws_keeps_its_leading_digits(gap):
    p = np.array([0.5 + gap, 0.5 - gap])
    # KL = 2 gap^2 (1 + O(gap^2)); a sum of p log(p/q) alone would be off by an eps, here by eps * gap.
    assert kl_divergence(p, [0.5, 0.5]) == pytest.approx(2 * gap**2, abs=8 * EPS * gap + 3 * gap**4)


def test_edge_values():
    assert kl_divergence(POINT, OTHER) == np.inf and chi_square_divergence(POINT, OTHER) == np.inf
    assert kl_divergence(POINT, UNIFORM) == pytest.approx(np.log(4), rel=4 * EPS)
    assert chi_square_divergence(POINT, UNIFORM) == 3.0
    assert total_variation(POINT, OTHER) == hellinger_distance(POINT, OTHER) == 1.0
    assert kl_divergence([1.0, 0.0], [1.0 - 1e-300, 1e-300]) >= 0.0


def test_subnormal_probabilities():
    # log(0.5 / 5e-324) = 743.7: finite, although the quotient itself overflows.
    expected = 0.5 * np.log(0.5) + 0.5 * (np.log(0.5) - np.log(5e-324))
    assert kl_divergence([0.5, 0.5], [1.0, 5e-324]) == pytest.approx(expected, rel=8 * EPS)
    assert chi_square_divergence([0.5, 0.5], [1.0, 5e-324]) == np.inf


def test_divergences_work_along_the_last_axis():
    p, q = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    for divergence in DIVERGENCES:
        np.testing.assert_array_equal(divergence(p, q), [divergence(p[0], q[0]), divergence(p[1], q[1])])


@given(laws(empty=True), laws(empty=True), preference_matrices())
def test_win_rates_of_the_two_sides_sum_to_one(p, q, matrix):
    # Products of three numbers in [0, 1], summed over 16 cells.
    assert_within_eps(win_rate(p, q, matrix) + win_rate(q, p, matrix), 1.0, multiple=32)
    assert_within_eps(win_rate(p, p, matrix), 0.5, multiple=32, size=1.0)


@given(laws(empty=True), preference_matrices())
def test_nash_gap_is_what_the_best_opponent_wins_beyond_half(p, matrix):
    rates = [float(win_rate(row, p, matrix)) for row in np.eye(4)]
    assert_within_eps(nash_gap(p, matrix), max(rates) - 0.5, multiple=32, size=1.0)
    assert -8 * EPS <= nash_gap(p, matrix) <= 0.5 + 8 * EPS


def test_nash_gap_of_rock_paper_scissors():
    matrix = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
    assert nash_gap(np.full(3, 1 / 3), matrix) == pytest.approx(0.0, abs=4 * EPS)
    assert nash_gap([1.0, 0.0, 0.0], matrix) == 0.5


def test_win_rate_works_prompt_by_prompt():
    matrix = np.array([[[0.5, 0.8], [0.2, 0.5]], [[0.5, 0.1], [0.9, 0.5]]])
    policy, opponent = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(win_rate(policy, opponent, matrix), [0.8, 0.7], rtol=8 * EPS)
    np.testing.assert_allclose(nash_gap(policy, matrix), [0.0, 0.2], atol=8 * EPS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: total_variation([0.5, 0.4], [0.5, 0.5]), r"p must sum to 1 over its last axis, got a sum of 0\.9"),
        (lambda: kl_divergence([0.5, 0.5], [0.5, np.nan]), r"q must not contain NaN, got NaN at index \(1,\)"),
        (lambda: kl_divergence([0.5, 0.5], [1.0]), r"p and q must have the same shape"),
        (lambda: hellinger_distance([1.5, -0.5], [0.5, 0.5]), r"p must be finite and not negative, got -0\.5"),
        (lambda: win_rate([1.0, 0.0], [0.0, 1.0], [[0.5, 0.8], [0.3, 0.5]]), r"P_ij \+ P_ji = 1"),
        (
            lambda: win_rate([1.0, 0.0], [0.0, 1.0], [[0.5, 0.8]]),
            r"preference must have shape \(2, 2\), or the last axes of it, got \(1, 2\)",
        ),
        (lambda: nash_gap([1.0, 0.0], [[0.5, 1.2], [-0.2, 0.5]]), r"preference must satisfy P_ij >= 0"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
