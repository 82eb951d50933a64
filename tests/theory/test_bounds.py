"""Constants of the guarantees: each is attained or approached, and each inequality holds (P4, P6)."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.strategies import EPS, alphas, laws, log_ratios, problems, samples
from theory import (
    GENERATORS,
    FiniteProblem,
    Generator,
    bregman_divergence,
    curvature_bound,
    ddro_error_bound,
    direct_ratio,
    lipschitz_bound,
    population_risk,
    power,
    ratio_error_bound,
    relative_estimate_error_bound,
    relative_ratio,
    smoothness_bound,
    total_variation,
    total_variation_bound,
)

ALL = [*GENERATORS.values(), power(0.25), power(2.0)]
each_generator = pytest.mark.parametrize("generator", ALL, ids=lambda generator: generator.name)


def second_derivative(generator, ratio):
    """f''(r) = w / r."""
    return generator.weight(np.log(ratio)) / ratio


@pytest.mark.parametrize("alpha", [1e-6, 0.2, 0.5, 1 - 1e-6])
def test_closed_forms(alpha):
    assert lipschitz_bound(alpha) == 1.0
    assert smoothness_bound(alpha) == pytest.approx((1 + alpha) / 4, rel=2 * EPS)
    assert curvature_bound(alpha) == pytest.approx(alpha**2 / (1 + alpha), rel=4 * EPS)
    assert curvature_bound(alpha, "least_squares") == pytest.approx(1.0, rel=2 * EPS)
    assert curvature_bound(alpha, "kl") == alpha
    assert curvature_bound(alpha, power(0.25)) == pytest.approx(1.25 * alpha**0.75, rel=8 * EPS)
    assert curvature_bound(alpha, power(2.0)) == 0.0


@each_generator
@given(alphas(), st.floats(1e-9, 1.0))
def test_p6_curvature_is_a_lower_bound_and_is_attained(generator, alpha, share):
    bound = curvature_bound(alpha, generator)
    assert second_derivative(generator, np.array(share / alpha)) >= bound * (1 - 32 * EPS)
    # f'' falls in r (b <= 1) and is smallest at the end 1/alpha; for b > 1 it tends to 0 with r.
    if bound > 0:
        assert second_derivative(generator, np.array(1 / alpha)) == pytest.approx(bound, rel=32 * EPS)
    else:
        assert second_derivative(generator, np.array(1e-12)) < 1e-10


@each_generator
@given(problems(), laws(empty=True))
@settings(max_examples=50)
def test_p6_error_of_a_ratio_is_bounded_by_its_excess_risk(generator, problem, shares):
    alpha, mixture, true = float(problem.alpha[0]), problem.mixture[0], problem.relative_ratio[0]
    model = np.maximum(shares / shares.max(), 1e-6) / alpha  # any ratios in (0, 1/alpha]
    excess = bregman_divergence(generator, true, model, mixture)
    error = float(mixture @ (model - true) ** 2)
    # The divergence is a difference of terms c, f and f' t of at most (1/alpha)^(1 + b) <= 8000.
    assert error <= ratio_error_bound(excess + 64 * EPS * alpha**-3, alpha, generator) * (1 + 64 * EPS)


@given(problems(), laws())
@settings(max_examples=50)
def test_p6_excess_risk_is_twice_the_balanced_one_and_bounds_the_total_variation(problem, policy):
    alpha, mixture, p = float(problem.alpha[0]), problem.mixture[0], problem.p_preferred[0]
    ratio = policy / mixture
    risks = [population_risk(problem, law[None], "rdro") for law in (policy, p)]
    excess = bregman_divergence("logistic", problem.relative_ratio[0], ratio, mixture)
    assert excess == pytest.approx(2 * (risks[0] - risks[1]), abs=256 * EPS * (1 + abs(risks[0])))
    error = float(mixture @ (ratio - problem.relative_ratio[0]) ** 2)
    assert total_variation(policy, p) <= total_variation_bound(error) + 16 * EPS
    if ratio.max() <= 1 / alpha:
        bound = ratio_error_bound(excess + 256 * EPS, alpha)
        assert total_variation(policy, p) <= total_variation_bound(bound) + 16 * EPS


def test_p6_ratio_error_bound_is_approached():
    # A perturbation of the ratio at its bound: f'' is smallest there, and the divergence is f''/2 times the square.
    alpha, step = 0.2, 1e-4
    true, model = np.array([1 / alpha]), np.array([1 / alpha - step])
    excess = bregman_divergence("logistic", true, model, np.array([1.0]))
    # f''' / f'' = O(1), so that the two agree to O(step); rounding of the divergence is eps / (step^2 f'').
    assert step**2 == pytest.approx(ratio_error_bound(excess, alpha), rel=1e-4 + 64 * EPS * 10 / (step**2 / 30))


@given(laws(), laws(), log_ratios(limit=3.0, size=4))
@settings(max_examples=50)
@example(np.array([0.97, 0.01, 0.01, 0.01]), np.array([0.01, 0.33, 0.33, 0.33]), np.zeros(4))
def test_p6_error_of_a_direct_ratio_is_bounded_with_its_range(p, m, u):
    true, model = direct_ratio(p, m), np.exp(u)
    largest = float(max(true.max(), model.max()))
    excess = bregman_divergence("logistic", true, model, m)
    error = float(m @ (model - true) ** 2)
    # The divergence is rounded at eps of its terms g log g; errors of the bound are those times 2 G (1 + G).
    assert error <= ddro_error_bound(excess + 64 * EPS * (1 + largest * (1 + abs(math.log(largest)))), largest)


def test_p6_ddro_error_bound_is_approached_and_has_no_content_without_a_range():
    largest, step = 9.0, 1e-4
    excess = bregman_divergence("logistic", [largest], [largest - step], [1.0])
    # f''(g) = 1/(g (1 + g)): the bound's constant is 2/f''(G).
    assert step**2 == pytest.approx(ddro_error_bound(excess, largest), rel=1e-4 + 64 * EPS * 40 * 180 / step**2)
    assert ddro_error_bound(1e-9, math.inf) == math.inf
    assert ddro_error_bound(0.0, math.inf) == 0.0


def test_total_variation_bound_is_attained():
    # Jensen's inequality is an equality where |r - r_alpha| is constant: two responses of mass 1/2 each.
    problem = FiniteProblem([0.7, 0.3], [0.3, 0.7], alpha=0.5)
    policy = np.array([0.6, 0.4])
    error = float(problem.mixture[0] @ ((policy - problem.p_preferred[0]) / problem.mixture[0]) ** 2)
    assert total_variation(policy, problem.p_preferred[0]) == pytest.approx(total_variation_bound(error), rel=16 * EPS)


def estimate_errors(sample_p, sample_m, problem):
    """E_m |r_hat - r_alpha| of the unnormalised tabular estimate, and the L1 errors of both empirical laws."""
    alpha = float(problem.alpha[0])
    estimate = relative_ratio(sample_p, sample_m, alpha)
    # Responses without any count have the estimate 0/0: the decomposition holds with every value in [0, 1/alpha].
    error = problem.mixture[0] @ np.abs(estimate - problem.relative_ratio[0])
    laws_error = [
        np.abs(a - b[0]).sum() for a, b in ((sample_p, problem.p_preferred), (sample_m, problem.p_nonpreferred))
    ]
    return float(error), laws_error


@given(samples())
def test_deterministic_inequality_behind_the_sample_bound(sample):
    p, m = sample.preferred / sample.preferred.sum(), sample.nonpreferred / sample.nonpreferred.sum()
    error, (up, down) = estimate_errors(p, m, sample.problem)
    alpha = float(sample.problem.alpha[0])
    assert error <= (2 * up + (1 - alpha) / alpha * down) * (1 + 32 * EPS) + 32 * EPS


@pytest.mark.parametrize(("n", "alpha"), [(20, 0.2), (200, 0.5), (2000, 0.8)])
def test_sample_bound_covers_with_its_confidence(n, alpha):
    problem = FiniteProblem([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], alpha=alpha)
    rng = np.random.default_rng(11)
    up = rng.multinomial(n, problem.p_preferred[0], 4000) / n
    down = rng.multinomial(2 * n, problem.p_nonpreferred[0], 4000) / (2 * n)
    errors = np.array([estimate_errors(a, b, problem)[0] for a, b in zip(up, down, strict=True)])
    for confidence in (0.5, 0.95):
        bound = relative_estimate_error_bound(n, 2 * n, 4, alpha, confidence)
        # Coverage is at least `confidence`; 4 standard errors of a share of 4000 draws below it would be a failure.
        assert (errors <= bound).mean() >= confidence - 4 * np.sqrt(confidence * (1 - confidence) / 4000)
        # And the bound is not empty: within a factor 30 of the mean error.
        assert bound <= 30 * errors.mean()


def test_sample_bound_falls_like_the_root_of_n_and_grows_with_confidence():
    bounds = [relative_estimate_error_bound(n, n, 10, 0.3) for n in (100, 400)]
    assert bounds[0] == pytest.approx(2 * bounds[1], rel=8 * EPS)
    assert relative_estimate_error_bound(100, 100, 10, 0.3, 0.99) > bounds[0]
    assert relative_estimate_error_bound(100, 100, 1, 0.3) < bounds[0]


class Cubic(Generator):
    """A generator outside the built-in families."""

    name = "cubic"

    def value(self, ratio):
        return ratio**3

    def slope(self, log_ratio):
        return 3 * np.exp(2 * log_ratio)

    def conjugate(self, log_ratio):
        return 2 * np.exp(3 * log_ratio)

    def weight(self, log_ratio):
        return 6 * np.exp(2 * log_ratio)

    def weight_slope(self, log_ratio):
        return 12 * np.exp(2 * log_ratio)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lipschitz_bound(1.0), ValueError, r"alpha must lie strictly between 0 and 1, got 1"),
        (lambda: smoothness_bound(0.0), ValueError, r"alpha must lie strictly between 0 and 1, got 0"),
        (lambda: curvature_bound(0.5, "cubic"), ValueError, r"generator must be one of"),
        (lambda: curvature_bound(0.5, Cubic()), TypeError, r"generator must belong to a built-in family"),
        (lambda: ratio_error_bound(-0.1, 0.5), ValueError, r"excess_risk must .*got -0\.1"),
        (lambda: ratio_error_bound(math.inf, 0.5), ValueError, r"excess_risk must be finite"),
        (lambda: ddro_error_bound(0.1, 0.0), ValueError, r"largest_ratio must be greater than 0, got 0\.0"),
        (lambda: ddro_error_bound(0.1, math.nan), ValueError, r"largest_ratio must be greater than 0, got nan"),
        (lambda: total_variation_bound(-1.0), ValueError, r"squared_ratio_error must be finite"),
        (lambda: relative_estimate_error_bound(0, 5, 3, 0.5), ValueError, r"must be at least 1, got \(0, 5, 3\)"),
        (
            lambda: relative_estimate_error_bound(5, 5, 3, 0.5, 1.0),
            ValueError,
            r"confidence must lie strictly between 0 and 1",
        ),
    ],
)
def test_errors_state_the_rule_and_what_was_received(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_curvature_that_vanishes_bounds_nothing():
    assert ratio_error_bound(0.1, 0.5, power(2.0)) == math.inf
