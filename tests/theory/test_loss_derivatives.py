"""Closed-form derivatives against autograd, and the bounds of proposition P4."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.strategies import EPS, alphas, log_ratios
from theory import (
    EXTENSION_MARGIN,
    GENERATORS,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
    lipschitz_bound,
    loss_derivatives,
    mle_losses,
    pair_loss_derivatives,
    power,
    rdro_losses,
    sft_losses,
    smoothness_bound,
)

ALL = [*GENERATORS.values(), power(2.0)]
LOSSES = {
    "rdro": rdro_losses,
    "ddro": ddro_losses,
    "mle": lambda u, c, alpha, generator: mle_losses(u, c, alpha),
    "sft": lambda u, c, alpha, generator: sft_losses(u, c) + 0.0 * u**2,  # keeps a graph for the second derivative
}
CASES = [(m, g) for m in ("rdro", "ddro") for g in ALL] + [("mle", ALL[0]), ("sft", ALL[0])]


def slopes(loss, u):
    """Return the first derivative of a loss, and a central difference of it, both by autograd in float64."""

    def slope(values):
        inputs = torch.tensor(values, requires_grad=True)
        loss(inputs).sum().backward()
        return inputs.grad.numpy()

    h = 1e-5
    return slope(u), (slope(u + h) - slope(u - h)) / (2 * h)


def autograd(method, u, preferred, alpha, generator):
    """Return the derivatives of an unpaired loss of one class."""
    flags = torch.full(u.shape, preferred)
    return slopes(lambda inputs: LOSSES[method](inputs, flags, alpha, generator), u)


@pytest.mark.parametrize(("method", "generator"), CASES, ids=lambda case: getattr(case, "name", case))
@pytest.mark.parametrize("preferred", [True, False])
@settings(max_examples=40)
@given(log_ratios(limit=1.0))
@example(np.zeros(6))
def test_derivatives_agree_with_autograd(method, generator, preferred, u):
    alpha = None if method == "sft" else 0.3
    first, second = autograd(method, u, preferred, alpha, generator)
    computed = loss_derivatives(method, u, np.full(u.shape, preferred), alpha, generator)
    # k = 1/(1 - t r) <= 5.5 carries a relative error of k eps; powers of k and g up to the fourth enter.
    np.testing.assert_allclose(computed.first, first, rtol=1e-13, atol=1e-13)
    # Differences of slopes: truncation h^2/6 times derivatives up to 1e5, rounding eps/h of the slopes.
    np.testing.assert_allclose(computed.second, second, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("generator", ALL, ids=lambda generator: generator.name)
@pytest.mark.parametrize("preferred", [True, False])
@settings(max_examples=40)
@given(log_ratios(limit=1.0))
@example(np.array([0.0, 1.0, -1.0, 0.5, 0.9, 0.1]))
def test_extended_ddro_agrees_with_autograd_on_both_sides_of_the_knot(generator, preferred, u):
    knot = np.log((1 - EXTENSION_MARGIN) / 0.6)  # 0.46: inside the drawn range
    u = np.where(np.abs(u - knot) < 1e-4, u + 1e-3, u)  # the second derivative jumps on the knot
    flags = torch.full(u.shape, preferred)
    first, second = slopes(lambda inputs: ddro_losses(inputs, flags, 0.6, generator, "extend"), u)
    computed = loss_derivatives("ddro", u, np.full(u.shape, preferred), 0.6, generator, beyond_domain="extend")
    # Here log g reaches 2 + 20 x 0.54 = 13 with an error of k eps (13 eps in the exponent); power(2) takes g^3.
    np.testing.assert_allclose(computed.first, first, rtol=1e-12)
    # Differences of slopes over h = 1e-5: rounding eps/h and truncation (3 x 20 h)^2 / 6, relative.
    np.testing.assert_allclose(computed.second, second, rtol=1e-5, atol=1e-7)


def test_extended_ddro_has_a_continuous_slope_and_a_jump_in_curvature():
    knot = np.log((1 - EXTENSION_MARGIN) / 0.3)
    for preferred in (True, False):
        sides = loss_derivatives("ddro", knot + np.array([-1e-9, 1e-9]), [preferred] * 2, 0.3, beyond_domain="extend")
        assert sides.first[0] == pytest.approx(sides.first[1], rel=1e-5)  # 2e-9 times a curvature of at most 500
        assert abs(sides.second[1] - sides.second[0]) > 1.0


@pytest.mark.parametrize("preferred", [True, False])
@given(log_ratios(limit=50.0), st.sampled_from([0.1, 1.0, 3.0]), st.sampled_from([0.0, 0.7]))
def test_kto_agrees_with_autograd_at_a_constant_reference_point(preferred, u, beta, kl):
    flags = torch.full(u.shape, preferred)
    first, second = slopes(lambda inputs: kto_losses(inputs, flags, beta, kl), u)
    computed = loss_derivatives("kto", u, np.full(u.shape, preferred), beta=beta, kl=kl)
    # An exponent of up to beta |u| = 150 carries 150 eps; slopes are at most beta/4.
    np.testing.assert_allclose(computed.first, first, rtol=1e-12, atol=1e-16)
    # Truncation (beta h)^2 beta^2 and rounding eps/h times slopes of beta.
    np.testing.assert_allclose(computed.second, second, rtol=1e-6, atol=1e-9)
    each = loss_derivatives("kto", u, np.full(u.shape, preferred), beta=beta, kl=np.full(u.shape, kl))
    np.testing.assert_array_equal(each.first, computed.first)


@pytest.mark.parametrize(("method", "loss"), [("dpo", dpo_losses), ("ipo", ipo_losses)])
@given(log_ratios(limit=50.0), st.sampled_from([0.1, 1.0, 3.0]))
def test_pair_derivatives_agree_with_autograd(method, loss, margin, beta):
    first, second = slopes(lambda inputs: loss(inputs, torch.zeros_like(inputs), beta), margin)
    computed = pair_loss_derivatives(method, margin, beta)
    np.testing.assert_allclose(computed.first, first, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(computed.second, second, rtol=1e-6, atol=1e-8)  # eps/h times slopes of up to 110


@given(log_ratios(limit=1e4), alphas(1e-9, 1 - 1e-9))
@example(np.array([0.0, -1e4, 1e4, -40.0, 40.0, 1e-300]), 0.5)
@example(np.zeros(6), 1e-9)
@example(np.zeros(6), 1 - 1e-9)
def test_p4_logistic_rdro_is_lipschitz_and_smooth(u, alpha):
    for preferred in (True, False):
        derivatives = loss_derivatives("rdro", u, np.full(u.shape, preferred), alpha)
        assert (np.abs(derivatives.first) <= lipschitz_bound(alpha) * (1 + 4 * EPS)).all()
        assert (derivatives.second >= 0).all()
        assert (derivatives.second <= smoothness_bound(alpha) * (1 + 16 * EPS)).all()


@pytest.mark.parametrize("alpha", [1e-9, 0.3, 1 - 1e-9])
def test_p4_constants_are_attained(alpha):
    # The Lipschitz constant 1 is approached as u -> -inf, the smoothness constant reached at u = 0.
    far = loss_derivatives("rdro", [-50.0], [True], alpha)
    assert abs(far.first[0]) == pytest.approx(lipschitz_bound(alpha), rel=1e-15)
    assert loss_derivatives("rdro", [0.0], [True], alpha).second[0] == pytest.approx(
        smoothness_bound(alpha), rel=8 * EPS
    )


@given(alphas(0.05, 0.95))
@example(0.5)
def test_p4_ddro_has_an_unbounded_derivative(alpha):
    # d loss-/du = sigmoid(log g)/(1 - t r): with 1 - t r = gap it is at least (1 - t)(1 - gap)/gap, because
    # sigmoid(log g) = (1 - t) r/(1 + (1 - 2t) r) and t r = 1 - gap.
    slopes = []
    for gap in (1e-2, 1e-4, 1e-6):
        u = np.array([np.log1p(-gap) - np.log(alpha)])
        slope = loss_derivatives("ddro", u, [False], alpha).first[0]
        r = np.exp(u[0])
        expected = (1 - alpha) * r / (1 + (1 - 2 * alpha) * r) / gap
        # The condition number of 1 - t r is 1/gap.
        assert slope == pytest.approx(expected, rel=32 * EPS * (1 + abs(np.log(alpha))) / gap)
        slopes.append(slope)
    assert slopes[0] > 1.0 or alpha > 0.9
    assert slopes[1] > 50 * slopes[0] and slopes[2] > 50 * slopes[1]


@pytest.mark.parametrize("method", ["ddro", "mle"])
def test_derivatives_vanish_beyond_the_domain(method):
    u = -np.log(0.3) + np.array([0.0, 1e-6, 5.0, 1e4])
    for preferred in (True, False):
        derivatives = loss_derivatives(method, u, np.full(4, preferred), 0.3)
        np.testing.assert_array_equal(derivatives.first[1:], 0.0)
        np.testing.assert_array_equal(derivatives.second[1:], 0.0)


def test_alpha_may_be_one_number_an_example():
    u, flags, alpha = np.array([0.1, -0.2]), np.array([True, False]), np.array([0.2, 0.6])
    for method in ("rdro", "ddro", "mle"):
        together = loss_derivatives(method, u, flags, alpha)
        for i in range(2):
            alone = loss_derivatives(method, u[i : i + 1], flags[i : i + 1], float(alpha[i]))
            np.testing.assert_allclose(together.first[i], alone.first[0], rtol=16 * EPS)
            np.testing.assert_allclose(together.second[i], alone.second[0], rtol=16 * EPS)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("dpo", [0.0], [True], 0.5), ValueError, r"method must be one of ddro, kto, mle, rdro, sft; got 'dpo'"),
        (("rdro", [0.0], [True]), ValueError, r"alpha must be given for rdro, got None"),
        (("rdro", [0.0], [True], 1.0), ValueError, r"alpha must lie strictly between 0 and 1, got 1"),
        (
            ("rdro", [0.0], [True], [0.5, 0.5]),
            ValueError,
            r"alpha must be one number or have the shape of log_ratio \(1,\)",
        ),
        (("rdro", [0.0], [1], 0.5), TypeError, r"preferred must be boolean, got int64"),
        (("rdro", [0.0, 1.0], [True], 0.5), ValueError, r"log_ratio and preferred must have the same shape"),
        (("rdro", [np.nan], [True], 0.5), ValueError, r"log_ratio must not contain NaN"),
        (("ddro", [0.0], [True], 0.5, "basu"), ValueError, r"generator must be one of"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(arguments, error, message):
    with pytest.raises(error, match=message):
        loss_derivatives(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss_derivatives("kto", [0.0], [True]), r"beta must be given for kto, got None"),
        (lambda: loss_derivatives("kto", [0.0], [True], beta=0.0), r"beta must be finite and greater than 0, got 0.0"),
        (lambda: loss_derivatives("kto", [0.0], [True], beta=0.1, kl=[0.0, 1.0]), r"kl must be one number or have"),
        (lambda: loss_derivatives("ddro", [0.0], [True], 0.5, beyond_domain="clip"), r"beyond_domain must be one of"),
        (lambda: pair_loss_derivatives("kto", [0.0], 0.1), r"method must be one of dpo, ipo; got 'kto'"),
        (lambda: pair_loss_derivatives("dpo", [0.0], -1.0), r"beta must be finite and greater than 0, got -1.0"),
    ],
)
def test_errors_of_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
