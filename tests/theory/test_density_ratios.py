"""Propositions P1 and P2: the relative ratio is bounded whatever the densities; the direct one is not."""

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import EPS, alphas, assert_within_eps, densities, density_pairs, extreme_alphas, laws, samples
from theory import (
    direct_from_relative,
    direct_ratio,
    log_direct_ratio,
    log_relative_ratio,
    relative_from_direct,
    relative_ratio,
    relative_ratio_bound,
)

SUBNORMAL, TINY = 5e-324, 2.2250738585072014e-308
HARD = (np.array([0.0, SUBNORMAL, 1e300, TINY]), np.array([0.0, 1e300, SUBNORMAL, 0.0]))


@given(density_pairs(), extreme_alphas())
@example(HARD, 1e-300)
@example(HARD, 0.5)
@example(HARD, 1.0 - EPS / 2)
@example((np.array([SUBNORMAL]), np.array([SUBNORMAL])), 0.3)
def test_p1_relative_ratio_never_exceeds_its_bound(pair, alpha):
    ratio = relative_ratio(*pair, alpha)
    assert (ratio >= 0).all() and (ratio <= relative_ratio_bound(alpha)).all()


@given(density_pairs(), extreme_alphas())
@example(HARD, 1e-300)
@example((np.array([0.3, 0.1, 0.7]), np.array([0.3, 0.2, 0.0])), 0.1)
def test_p1_equal_densities_have_ratio_one(pair, alpha):
    # alpha + (1 - alpha) is 1 to half an eps, so that the quotient is too.
    assert_within_eps(relative_ratio(pair[0], pair[0], alpha), np.ones(len(pair[0])), multiple=2)
    assert (direct_ratio(pair[0], pair[0]) == 1.0).all()


@given(density_pairs(), densities(), alphas())
@example((np.array([0.0, 1.0]), np.array([0.0, 0.0])), np.array([1.0, 1.0]), 0.5)
@example((np.array([TINY]), np.array([9e15])), np.array([1e300]), 0.5)  # both direct ratios round to 0
def test_p1_relative_ratio_rises_with_the_direct_ratio(pair, other, alpha):
    first, second = direct_ratio(*pair), direct_ratio(pair[0], other)
    r_first, r_second = relative_ratio(*pair, alpha), relative_ratio(pair[0], other, alpha)
    # A ratio is a monotone function of g, with a slope of at most 1/(1 - alpha), computed with four roundings; where g
    # is below the normal numbers it is known to a multiple of the smallest subnormal one only.
    rising = first <= second
    assert (r_first[rising] <= r_second[rising] * (1 + 8 * EPS) + SUBNORMAL * (1 + 1 / (1 - alpha))).all()


@given(laws(empty=True), laws(empty=True), alphas(1e-9, 1 - 1e-9))
@example(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1e-9)
@example(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1 - 1e-9)
def test_p1_mean_of_the_relative_ratio_is_one(p, m, alpha):
    mixture = alpha * p + (1 - alpha) * m
    # Four roundings in each ratio, three in each mixture cell, four in the sum, and the laws' own sums (4 eps).
    assert_within_eps((mixture * relative_ratio(p, m, alpha)).sum(), 1.0, multiple=16)


@given(laws(), laws())
def test_p1_relative_ratio_tends_to_the_direct_ratio(p, m):
    direct = direct_ratio(p, m)
    for alpha in (1e-4, 1e-8, 1e-12):
        # r - g = -alpha g (g - 1) / (1 + alpha (g - 1)): first order in alpha, with |g - 1| <= g + 1.
        error = np.abs(relative_ratio(p, m, alpha) - direct)
        assert (error <= alpha * direct * (direct + 1) / (1 - alpha) + 8 * EPS * direct).all()


@given(densities(), densities(), alphas(1e-6, 1 - 1e-6))
@example(*HARD, 0.5)
@example(np.array([1e300, 1e-300]), np.array([1e-300, 1e300]), 1e-6)
@example(np.array([1e-9, 3e-14]), np.array([1e300, 1e300]), 0.984375)  # the direct ratios are subnormal
def test_relative_ratio_agrees_with_mpmath(p, m, alpha):
    expected = []
    with mpmath.workdps(50):
        for x, y in zip(p, m, strict=True):
            x, y, a = mpmath.mpf(float(x)), mpmath.mpf(float(y)), mpmath.mpf(alpha)
            expected.append(float(x / (a * x + (1 - a) * y)) if x + y > 0 else 1.0)
    # Five roundings (one quotient, 1 - alpha, two products and a sum, one quotient) and one of the reference value;
    # ratios below the smallest normal number are rounded to multiples of the smallest subnormal one.
    assert_within_eps(relative_ratio(p, m, alpha), expected, multiple=8, size=np.maximum(np.abs(expected), TINY))


@given(laws(), laws(), alphas())
def test_conversions_are_inverse(p, m, alpha):
    direct, relative = direct_ratio(p, m), relative_ratio(p, m, alpha)
    assert_within_eps(relative_from_direct(direct, alpha), relative, multiple=12)
    # The map back has the condition number 1/(1 - alpha r) = (alpha g + 1 - alpha)/(1 - alpha).
    condition = (alpha * direct + 1 - alpha) / (1 - alpha)
    assert_within_eps(direct_from_relative(relative, alpha), direct, multiple=16, size=direct * condition)


@pytest.mark.parametrize("alpha", [1e-300, 1e-12, 0.2, 0.5, 1.0 - EPS / 2])
def test_conversions_at_the_ends(alpha):
    bound = float(relative_ratio_bound(alpha))
    np.testing.assert_array_equal(relative_from_direct([0.0, 1.0, np.inf], alpha), [0.0, 1.0, bound])
    assert relative_from_direct(SUBNORMAL, alpha) <= TINY  # without a warning
    expected = [0.0, np.inf] if bound == 1.0 else [0.0, 1.0, np.inf]
    np.testing.assert_array_equal(
        direct_from_relative([0.0, bound] if bound == 1.0 else [0.0, 1.0, bound], alpha), expected
    )


@given(st.lists(st.floats(-700.0, 700.0), min_size=3, max_size=3), alphas(1e-12, 1 - 1e-12))
@example([-700.0, 700.0, 0.0], 1e-12)
def test_log_relative_ratio_is_the_logarithm_of_the_relative_ratio(log_g, alpha):
    log_g = np.array(log_g)
    log_ratio = log_relative_ratio(log_g, np.zeros(3), alpha)
    with np.errstate(under="ignore"):
        linear = np.log(relative_ratio(np.exp(log_g), np.ones(3), alpha))
    # exp multiplies an error of u eps by |u|; the logarithms add a few eps of their own values and of 1.
    assert_within_eps(log_ratio, linear, multiple=8, size=1.0 + np.abs(log_g) + abs(np.log(alpha)))


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=2), alphas(1e-12, 1 - 1e-12))
@example([-1e4, 0.0], 0.5)
@example([1e4, -1e4], 1e-12)
@example([0.0, 0.0], 0.3)
def test_log_relative_ratio_agrees_with_mpmath(logs, alpha):
    with mpmath.workdps(50):
        a, gap = mpmath.mpf(alpha), mpmath.mpf(logs[0]) - mpmath.mpf(logs[1])
        expected = float(-mpmath.log(a + (1 - a) * mpmath.exp(-gap)))
    # log g is rounded once; the logarithm of a sum of two terms of size 1/alpha and |log g| adds eps of each.
    size = 1.0 + abs(logs[0] - logs[1]) + abs(np.log(alpha)) + abs(np.log1p(-alpha))
    assert_within_eps(log_relative_ratio(logs[:1], logs[1:], alpha), [expected], multiple=4, size=size)


def test_empty_cells_in_log_space():
    empty = -np.inf
    np.testing.assert_array_equal(
        log_direct_ratio([empty, empty, 0.0], [empty, 0.0, empty]), np.array([0.0, empty, np.inf])
    )
    np.testing.assert_array_equal(
        log_relative_ratio([empty, empty, 0.0], [empty, 0.0, empty], 0.25), np.array([0.0, empty, np.log(4.0)])
    )


@given(samples())
def test_p2_tabular_estimate_is_bounded_for_every_sample(sample):
    p, m = sample.preferred / sample.preferred.sum(), sample.nonpreferred / sample.nonpreferred.sum()
    alpha = float(sample.problem.alpha[0])
    assert (relative_ratio(p, m, alpha) <= 1.0 / alpha).all()
    only_preferred = (sample.preferred > 0) & (sample.nonpreferred == 0)
    np.testing.assert_array_equal(np.isinf(direct_ratio(p, m)), only_preferred)
    # On such a response the relative estimate is exactly at its bound.
    assert_within_eps(relative_ratio(p, m, alpha)[only_preferred], np.full(only_preferred.sum(), 1 / alpha), multiple=2)


def test_alpha_may_be_one_number_a_cell():
    p, m, alpha = np.array([0.5, 0.5]), np.array([0.1, 0.9]), np.array([0.2, 0.7])
    expected = [float(relative_ratio(p[i], m[i], alpha[i])) for i in range(2)]
    np.testing.assert_array_equal(relative_ratio(p, m, alpha), expected)
    np.testing.assert_allclose(np.exp(log_relative_ratio(np.log(p), np.log(m), alpha)), expected, rtol=8 * EPS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relative_ratio([0.5], [0.5], 1.2), r"alpha must lie strictly between 0 and 1, got 1\.2"),
        (lambda: relative_ratio([0.5], [0.5], 0.0), r"alpha must lie strictly between 0 and 1, got 0"),
        (lambda: relative_ratio([0.5], [0.5, 0.1], 0.5), r"same shape, got p_preferred \(1,\), p_nonpreferred \(2,\)"),
        (lambda: relative_ratio([0.5, 0.5], [0.5, 0.1], [0.5]), r"alpha must be one number or have the shape"),
        (lambda: relative_ratio([-0.5], [0.5], 0.5), r"p_preferred must be finite and not negative, got -0\.5"),
        (lambda: direct_ratio([np.nan], [0.5]), r"p_preferred must not contain NaN, got NaN at index \(0,\)"),
        (lambda: direct_ratio([np.inf], [0.5]), r"p_preferred must be finite"),
        (lambda: direct_ratio([0.1, 0.2], [0.5]), r"must have the same shape"),
        (lambda: log_relative_ratio([np.inf], [0.0], 0.5), r"log_p_preferred must be below \+inf, got inf"),
        (lambda: log_direct_ratio([0.0], [0.0, 1.0]), r"must have the same shape"),
        (lambda: relative_from_direct([-1.0], 0.5), r"direct must not be negative, got -1"),
        (lambda: direct_from_relative([2.1], 0.5), r"relative must lie in \[0, 1/alpha\] = \[0, 2\], got 2\.1"),
        (lambda: relative_ratio_bound(1.0), r"alpha must lie strictly between 0 and 1, got 1"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
