"""Contract of every generator: f, f', c and w belong together, f is strictly convex, values are exact."""

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import EPS, assert_within_eps, laws, log_ratios
from theory import GENERATORS, Generator, bregman_divergence, get_generator, power

# Powers below and above 1, as a user may pass them.
ALL = [*GENERATORS.values(), power(0.05), power(2.0)]
REFERENCES = {
    "logistic": lambda r: r * mpmath.log(r) - (1 + r) * mpmath.log(1 + r),
    "kl": lambda r: r * mpmath.log(r) - r,
    "least_squares": lambda r: (r - 1) ** 2 / 2,
    "power": lambda r: (r ** mpmath.mpf(1.5) - r) / mpmath.mpf(0.5) - (r - 1),
}

each_generator = pytest.mark.parametrize("generator", ALL, ids=lambda generator: generator.name)


def conditions(generator, u):
    """Sizes of the terms that f', c and w are differences of, for tolerances."""
    r = np.exp(u)
    b = getattr(generator, "exponent", 1.0)
    return 1.0 + np.abs(u) + r + r ** (1 + b) + (1 + b) / b * (1 + r**b)


def test_registry_holds_the_four_generators():
    assert set(GENERATORS) == set(REFERENCES)
    for name, generator in GENERATORS.items():
        assert isinstance(generator, Generator) and generator.name == name and get_generator(name) is generator


@each_generator
@given(log_ratios(limit=8.0))
@example(np.zeros(6))
def test_conjugate_is_slope_times_ratio_minus_value(generator, u):
    r = np.exp(u)
    expected = generator.slope(u) * r - generator.value(r)
    size = conditions(generator, u) * (1 + r)
    # Rounded exponents: an error of eps in u or b u is multiplied by |u| in r.
    assert_within_eps(generator.conjugate(u), expected, multiple=32, size=size)


@each_generator
@given(log_ratios(limit=8.0))
def test_derivatives_agree_with_central_differences(generator, u):
    # Step h: truncation h^2/6 times the third derivative, below (1 + b)^3 times the terms themselves, and rounding
    # eps / h; both are about 1e-10 of the terms at h = 1e-5.
    h, size = 1e-5, conditions(generator, u) * 30
    pairs = [
        (generator.slope, generator.weight),
        (generator.conjugate, generator.conjugate_slope),
        (generator.weight, generator.weight_slope),
        (generator.conjugate_slope, generator.conjugate_curvature),
    ]
    for function, derivative in pairs:
        difference = (function(u + h) - function(u - h)) / (2 * h)
        assert (np.abs(derivative(u) - difference) <= 1e-9 * size).all()


@each_generator
@given(log_ratios(limit=8.0))
@example(np.linspace(-8, 8, 6))
def test_slopes_are_linked_by_the_ratio(generator, u):
    r = np.exp(u)
    assert_within_eps(generator.conjugate_slope(u), r * generator.weight(u), multiple=16)
    size = r * (generator.weight(u) + np.abs(generator.weight_slope(u)))
    expected = r * (generator.weight(u) + generator.weight_slope(u))
    assert_within_eps(generator.conjugate_curvature(u), expected, multiple=32, size=size)


@each_generator
@given(log_ratios(limit=8.0), st.floats(0.05, 0.95))
def test_relative_loss_is_its_definition(generator, u, alpha):
    expected = alpha * generator.conjugate(u) - generator.slope(u)
    assert_within_eps(generator.relative_loss(u, alpha), expected, multiple=16, size=conditions(generator, u))


@each_generator
@given(log_ratios(limit=8.0, size=2), st.floats(0.01, 0.99))
def test_generators_are_strictly_convex(generator, u, share):
    assert (generator.weight(u) > 0).all()
    r = np.exp(u)
    middle = share * r[0] + (1 - share) * r[1]
    chord = share * generator.value(r)[0] + (1 - share) * generator.value(r)[1]
    size = conditions(generator, u).sum() * (1 + r.sum())
    assert generator.value(middle) <= chord + 16 * EPS * size
    if abs(r[0] - r[1]) > 1e-2 * max(r):
        assert generator.value(middle) < chord


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("u", [-40.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 40.0])
def test_values_agree_with_mpmath(name, u):
    generator, f = GENERATORS[name], REFERENCES[name]
    with mpmath.workdps(150):  # numerical derivatives lose up to 100 digits at r = e^40
        r = mpmath.exp(mpmath.mpf(u))
        slope = mpmath.diff(f, r)
        expected = float(slope), float(slope * r - f(r)), float(r * mpmath.diff(f, r, 2)), float(f(r))
    u = np.array(u)
    computed = generator.slope(u), generator.conjugate(u), generator.weight(u), generator.value(np.exp(u))
    # f of a rounded r: eps (1 + |u|) of every term that f is a sum of, r^(1+b) and r |u| among them.
    terms = (1 + np.exp(u)) * (1 + np.abs(u)) * (1 + np.exp(u) * (name in ("least_squares", "power")))
    sizes = np.abs(expected[0]), np.abs(expected[1]), np.abs(expected[2]), terms
    for value, reference, size in zip(computed, expected, sizes, strict=True):
        assert_within_eps(value, reference, multiple=8 * (1 + abs(float(u))), size=size)


@each_generator
def test_value_at_zero_is_its_limit(generator):
    limit = generator.value(np.array(1e-300))
    assert generator.value(np.array(0.0)) == pytest.approx(float(limit), abs=1e-12)


@each_generator
@given(laws(), log_ratios(limit=4.0, size=4), log_ratios(limit=4.0, size=4))
@example(np.full(4, 0.25), np.zeros(4), np.zeros(4))
def test_bregman_divergence_is_not_negative_and_zero_only_at_equality(generator, weights, u, v):
    true, model = np.exp(u), np.exp(v)
    assert bregman_divergence(generator, true, true, weights) == 0.0
    divergence = bregman_divergence(generator, true, model, weights)
    assert divergence >= 0.0
    # Divergences are at least f''(..)/2 (t - m)^2 weight; f'' >= 1e-4 on these ratios, weights >= 1e-4.
    if np.abs(true - model).max() > 1e-2:
        assert divergence > 0.0


@each_generator
@given(laws(), log_ratios(limit=3.0, size=4), log_ratios(limit=3.0, size=4))
def test_bregman_divergence_is_its_definition(generator, weights, u, v):
    true, model = np.exp(u), np.exp(v)
    gaps = generator.value(true) - generator.value(model) - generator.slope(v) * (true - model)
    size = ((conditions(generator, u) + conditions(generator, v)) * (1 + true + model)).sum()
    computed = bregman_divergence(generator, true, model, weights)
    assert_within_eps(computed, np.dot(weights, gaps), multiple=32, size=size)


def test_bregman_divergence_at_empty_cells():
    # Cells without weight do not count, whatever their ratios; a true ratio of 0 has no 0 * inf.
    assert bregman_divergence("kl", [1.0, 5.0], [1.0, 0.0], [1.0, 0.0]) == 0.0
    assert bregman_divergence("kl", [0.0], [2.0], [1.0]) == 2.0
    assert bregman_divergence("logistic", [1.0], [0.0], [1.0]) == np.inf
    assert bregman_divergence("logistic", [0.0], [0.0], [1.0]) == 0.0
    assert bregman_divergence("logistic", [0.0], [1.0], [1.0]) == pytest.approx(np.log(2), rel=4 * EPS)


@given(log_ratios(limit=5.0))
def test_power_family_contains_kl_and_least_squares(u):
    # b -> 0: (r^(1+b) - r)/b - (r - 1) = r log r - r + 1 + b/2 r log^2 r + ..., so that f' differs by O(b).
    b, r = 1e-6, np.exp(u)
    assert (np.abs(power(b).slope(u) - GENERATORS["kl"].slope(u)) <= b * (np.abs(u) + u**2) * (1 + r**b) + EPS).all()
    # b = 1: f = r^2 - r - (r - 1) = (r - 1)^2, twice least squares.
    twice = 2 * GENERATORS["least_squares"].conjugate(u)
    assert_within_eps(power(1.0).conjugate(u), twice, multiple=4)
    assert_within_eps(power(1.0).slope(u), 2 * GENERATORS["least_squares"].slope(u), multiple=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: get_generator("logistics"),
            r"generator must be one of .*; got 'logistics' \(did you mean 'logistic'\?\)",
        ),
        (lambda: power(0.0), r"exponent of the power generator must be finite and greater than 0, got 0\.0"),
        (lambda: power(np.inf), r"must be finite and greater than 0, got inf"),
        (lambda: bregman_divergence("kl", [1.0], [1.0, 2.0], [1.0]), r"must have the same shape"),
        (lambda: bregman_divergence("kl", [-1.0], [1.0], [1.0]), r"true_ratio must be finite and not negative, got -1"),
        (lambda: bregman_divergence("kl", [1.0], [np.inf], [1.0]), r"model_ratio must be finite"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
