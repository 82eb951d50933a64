"""Losses at extreme log-ratios and at the edge of their domain: closed forms in 50 digits, in every dtype (P8)."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import EPS, alphas, assert_within_eps, log_ratios
from theory import (
    EXTENSION_MARGIN,
    ddro_log_direct_ratio,
    ddro_losses,
    dpo_losses,
    kto_losses,
    mle_losses,
    rdro_losses,
)

# Losses whose value and gradient are finite at every log-ratio of a language model.
BOUNDED_GRADIENTS = {
    "rdro": lambda u, c: rdro_losses(u, c, 0.3),
    "ddro_extend": lambda u, c: ddro_losses(u, c, 0.3, beyond_domain="extend"),
    "kto": lambda u, c: kto_losses(u, c, 0.1, 0.5),
    "dpo": lambda u, c: dpo_losses(u, -u * (1.0 * c), 0.1),
}
DTYPES = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7, torch.float32: 2.0**-23, torch.float64: 2.0**-52}


def reference_values(name, u, preferred):
    """Loss and derivative in u of a `BOUNDED_GRADIENTS` loss, in 50 digits."""
    with mpmath.workdps(50):
        u, t = mpmath.mpf(u), mpmath.mpf(0.3)
        softplus, sigmoid = lambda v: mpmath.log1p(mpmath.exp(v)), lambda v: 1 / (1 + mpmath.exp(-v))
        if name == "rdro":
            if preferred:
                return (1 + t) * softplus(u) - u, (1 + t) * sigmoid(u) - 1
            return (1 - t) * softplus(u), (1 - t) * sigmoid(u)
        if name == "kto":
            gain = mpmath.mpf(0.1) * (u - mpmath.mpf(0.5)) * (1 if preferred else -1)
            slope = mpmath.mpf(0.1) * (1 if preferred else -1)
            return sigmoid(-gain), -slope * sigmoid(gain) * sigmoid(-gain)
        if name == "dpo":
            factor = mpmath.mpf(0.1) * (2 if preferred else 1)
            return softplus(-factor * u), -factor * sigmoid(-factor * u)
        delta = mpmath.mpf(EXTENSION_MARGIN)
        knot = mpmath.log((1 - delta) / t)
        if u < knot:
            log_g, slope = mpmath.log(1 - t) + u - mpmath.log(1 - t * mpmath.exp(u)), 1 / (1 - t * mpmath.exp(u))
        else:
            log_g, slope = mpmath.log((1 - t) * (1 - delta) / (t * delta)) + (u - knot) / delta, 1 / delta
        sign = -1 if preferred else 1
        return softplus(sign * log_g), sign * slope * sigmoid(sign * log_g)


EXTREMES = (-1e4, -800.0, -100.0, -20.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 1.1, 1.3, 20.0, 100.0, 800.0, 1e4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDED_GRADIENTS)
@pytest.mark.parametrize("preferred", [True, False])
def test_bounded_losses_agree_with_mpmath_at_extreme_log_ratios(name, preferred, dtype):
    u = torch.tensor(EXTREMES, dtype=dtype)
    inputs = u.clone().requires_grad_()
    losses = BOUNDED_GRADIENTS[name](inputs, torch.full(u.shape, preferred))
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(inputs.grad).all()
    expected = [reference_values(name, float(value), preferred) for value in u]
    value, slope = (np.array([float(pair[i]) for pair in expected]) for i in (0, 1))
    eps = DTYPES[torch.float64 if dtype == torch.float64 else torch.float32]
    # alpha, beta and delta are rounded to float32 too; log g has the slope 20 beyond the knot, so that its error is
    # eps * 20 |u|. Inside the domain 1/(1 - t r) = 1/0.099 at u = 1.1 plays that part.
    condition = 20.0 if name == "ddro_extend" else 1.0
    size = 1.0 + condition * np.abs(u.double().numpy())
    assert_within_eps(losses.detach().double().numpy(), value, multiple=8, size=size, eps=eps)
    # A sigmoid's relative error is the absolute error of its argument; gradients are rounded to the inputs' dtype.
    rounding = max(DTYPES[dtype], eps) * np.abs(slope)
    error = np.abs(inputs.grad.double().numpy() - slope)
    smallest = torch.finfo(dtype).tiny  # smaller gradients underflow
    assert (
        error <= rounding + 16 * eps * np.minimum(size * np.abs(slope), condition) * (1 + condition) + smallest
    ).all()


@pytest.mark.parametrize("name", BOUNDED_GRADIENTS)
@given(st.floats(-1e4, 1e4), st.booleans())
@example(1e4, True)
@example(-1e4, False)
def test_bounded_losses_are_accurate_everywhere_in_float64(name, u, preferred):
    loss = BOUNDED_GRADIENTS[name](np.array([u]), np.array([preferred]))
    value, _ = reference_values(name, u, preferred)
    size = (1.0 + abs(u)) * (20.0 if name == "ddro_extend" else 1.0)
    assert_within_eps(loss, [float(value)], multiple=8, size=size)


@pytest.mark.parametrize("name", BOUNDED_GRADIENTS)
@given(st.floats(30.0, 600.0), st.booleans())
def test_small_losses_keep_their_relative_accuracy(name, distance, preferred):
    # The tail in which a loss falls exponentially to 0: rdro's is the non-preferred one as u -> -inf.
    u = -distance if name == "rdro" or not preferred else distance
    if name == "rdro":
        preferred = False
    if name == "dpo":
        u = abs(u)
    value = float(reference_values(name, u, preferred)[0])
    loss = float(BOUNDED_GRADIENTS[name](np.array([u]), np.array([preferred]))[0])
    # The relative error of e^-x is the absolute error of x: a few eps of x = 20 u at most.
    if value > 2.3e-308:
        assert loss == pytest.approx(value, rel=8 * EPS * (1 + 20 * distance + 40))
    else:
        assert 0.0 <= loss <= 2.3e-308


@pytest.mark.parametrize("loss", [ddro_losses, mle_losses])
@pytest.mark.parametrize("alpha", [1e-6, 0.3, 0.5, 1 - 1e-6])
def test_losses_are_infinite_beyond_their_domain(loss, alpha):
    u = -math.log(alpha) + np.array([0.0, 1e-9, 1.0, 1e4])
    for preferred in (True, False):
        assert np.isposinf(loss(u, np.full(4, preferred), alpha)[1:]).all()
        inputs = torch.tensor(u, requires_grad=True)
        values = loss(inputs, torch.full((4,), preferred), alpha)
        assert torch.isposinf(values[1:]).all()
        values[1:].sum().backward()
        assert (inputs.grad == 0).all()  # never NaN: training must see +inf, not a poisoned policy


@given(st.floats(1e-12, 0.5), alphas(0.05, 0.95), st.booleans())
@example(1e-12, 0.5, True)
@example(1e-12, 0.05, False)
def test_accuracy_close_to_the_edge_of_the_domain(distance, alpha, preferred):
    u = -math.log(alpha) - distance
    with mpmath.workdps(50):
        t, r = mpmath.mpf(alpha), mpmath.exp(mpmath.mpf(u))
        rest = 1 - t * r
        log_g = mpmath.log((1 - t) * r / rest)
        ddro = float(mpmath.log1p(mpmath.exp(-log_g if preferred else log_g)))
        mle = float(-mpmath.log(t * r) if preferred else -mpmath.log(rest))
        condition = float(1 / rest)
    # u + log t has an absolute error of eps |log t| (one rounded logarithm, one sum); it moves log(1 - t r) by that
    # times 1/(1 - t r), and the losses by no more.
    size = 1.0 + abs(math.log1p(-alpha)) + (1.0 + abs(u)) * condition
    flags = np.array([preferred])
    assert_within_eps(ddro_losses(np.array([u]), flags, alpha), [ddro], multiple=4, size=size)
    assert_within_eps(mle_losses(np.array([u]), flags, alpha), [mle], multiple=4, size=size)


@given(alphas())
@example(1e-6)
@example(1 - 1e-6)
def test_extension_is_continuously_differentiable_at_its_knot(alpha):
    knot = math.log1p(-EXTENSION_MARGIN) - math.log(alpha)
    gap = 1e-9 * (1 + abs(knot))
    u = torch.tensor([knot - gap, knot + gap], dtype=torch.float64, requires_grad=True)
    log_g = ddro_log_direct_ratio(u, alpha, "extend")
    log_g.sum().backward()
    # Slopes are 20 on both sides, d2 log g/du2 = t r/(1 - t r)^2 = 380 below the knot: log g differs by 2 gap * 20
    # and its slope by 380 gap, plus 1/(1 - t r)^2 times the rounding eps (1 + |knot|) of u.
    value, slope = log_g.detach().numpy(), u.grad.numpy()
    assert abs(value[1] - value[0] - 40 * gap) <= 400 * gap**2 + 400 * EPS * (1 + abs(knot) + abs(np.log1p(-alpha)))
    assert abs(slope[0] - 20) <= 400 * gap + 4000 * EPS * (1 + abs(knot)) and slope[1] == pytest.approx(20, rel=4 * EPS)


@given(log_ratios(limit=1.0), alphas(0.05, 0.3))
def test_extension_changes_nothing_inside_the_domain(u, alpha):
    values, preferred = np.concatenate([u, u]), np.repeat([True, False], len(u))
    np.testing.assert_array_equal(
        ddro_losses(values, preferred, alpha, beyond_domain="extend"), ddro_losses(values, preferred, alpha)
    )


# KL, least squares and power grow like powers of e^u: +inf beyond float range, without a warning and never NaN.
@pytest.mark.parametrize("generator", ["kl", "least_squares", "power"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_growing_losses_overflow_to_infinity_and_never_to_nan(generator, dtype):
    u = torch.tensor(EXTREMES, dtype=dtype)
    for preferred in (True, False):
        losses = rdro_losses(u, torch.full(u.shape, preferred), 0.3, generator)
        assert not torch.isnan(losses).any() and losses[-1] == math.inf
        with np.errstate(over="ignore"):
            same = rdro_losses(u.double().numpy(), np.full(u.shape, preferred), 0.3, generator)
        assert not np.isnan(same).any() and same[-1] == math.inf
