"""Losses: one contract for all of them, NumPy and torch alike, gradients, identities and errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.strategies import EPS, alphas, assert_within_eps, log_ratios
from theory import (
    GENERATORS,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
    mle_losses,
    rdro_losses,
    sft_losses,
)

# Every loss of an unpaired example as a function (u, preferred); alpha = t = 0.3 puts the edge of ddro at u = 1.204.
UNPAIRED = {
    **{f"rdro_{g}": lambda u, c, g=g: rdro_losses(u, c, 0.3, g) for g in GENERATORS},
    **{f"ddro_{g}": lambda u, c, g=g: ddro_losses(u, c, 0.3, g) for g in GENERATORS},
    **{f"ddro_{g}_extend": lambda u, c, g=g: ddro_losses(u, c, 0.3, g, "extend") for g in GENERATORS},
    "mle": lambda u, c: mle_losses(u, c, 0.3),
    "sft": sft_losses,
    "kto": lambda u, c: kto_losses(u, c, 0.1, 0.5),
}
PAIRED = {"dpo": dpo_losses, "ipo": ipo_losses}
DTYPES = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7, torch.float32: 2.0**-23, torch.float64: 2.0**-52}

each_unpaired = pytest.mark.parametrize("name", UNPAIRED)


def both_classes(u):
    """Repeat log-ratios for both classes."""
    return np.concatenate([u, u]), np.repeat([True, False], len(u))


@each_unpaired
@given(log_ratios(limit=1.0))
def test_contract_of_shape_dtype_and_kind(name, u):
    values, preferred = both_classes(u)
    loss = UNPAIRED[name](values, preferred)
    assert loss.shape == values.shape and loss.dtype == np.float64 and np.isfinite(loss).all()
    matrix = UNPAIRED[name](values.reshape(2, -1), preferred.reshape(2, -1))
    np.testing.assert_array_equal(matrix.ravel(), loss)
    assert UNPAIRED[name](values.astype(np.float32), preferred).dtype == np.float32
    assert UNPAIRED[name](values.astype(np.float16), preferred).dtype == np.float32


@each_unpaired
def test_empty_batches_have_empty_losses(name):
    assert UNPAIRED[name](np.zeros(0), np.zeros(0, dtype=bool)).shape == (0,)


ORDER = np.random.default_rng(5).permutation(12)


@each_unpaired
@given(log_ratios(limit=1.0))
def test_losses_follow_permutations_of_the_batch(name, u):
    values, preferred = both_classes(u)
    expected = UNPAIRED[name](values, preferred)[ORDER]
    # SIMD loops may round the last lanes of an array differently from its body.
    moved = UNPAIRED[name](values[ORDER], preferred[ORDER])
    assert_within_eps(moved, expected, multiple=64, size=1.0 + np.abs(expected))


@each_unpaired
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15)  # times 60 combinations
@given(log_ratios(limit=1.0))
def test_numpy_and_torch_agree(name, dtype, u):
    values, preferred = both_classes(u)
    tensor = torch.tensor(values, dtype=dtype)
    computed = UNPAIRED[name](tensor, torch.tensor(preferred))
    assert computed.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = UNPAIRED[name](tensor.double().numpy(), preferred)
    # Inputs are identical, so that only the arithmetic differs: a few eps of float32 (or 64) times the condition
    # number, at most |u| / (1 - t e^u) = 5.4 at u = 1, and the largest derivative of a generator, r^2 g' < 400.
    eps = 2.0**-52 if dtype == torch.float64 else 2.0**-23
    assert_within_eps(computed.double().numpy(), expected, multiple=2000, size=1.0 + np.abs(expected), eps=eps)


@each_unpaired
@settings(max_examples=50)
@given(log_ratios(limit=1.0))
@example(np.zeros(6))
def test_gradients_agree_with_central_differences(name, u):
    values, preferred = both_classes(u)
    tensor = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    UNPAIRED[name](tensor, torch.tensor(preferred)).sum().backward()
    # Third derivatives of ddro grow like (1 - t r)^-3 g^2 < 4e5 at u = 1: h^2/6 times that is 7e-7 of h = 1e-5.
    # "extend" has a kink in its second derivative at u = 1.15, outside the range drawn here.
    h = 1e-5
    difference = (UNPAIRED[name](values + h, preferred) - UNPAIRED[name](values - h, preferred)) / (2 * h)
    np.testing.assert_allclose(tensor.grad.numpy(), difference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", PAIRED)
@given(log_ratios(limit=30.0), log_ratios(limit=30.0), st.floats(0.01, 2.0))
def test_paired_losses_agree_with_torch_and_differences(name, chosen, rejected, beta):
    loss = PAIRED[name]
    expected = loss(chosen, rejected, beta)
    first, second = torch.tensor(chosen, requires_grad=True), torch.tensor(rejected, requires_grad=True)
    computed = loss(first, second, beta)
    computed.sum().backward()
    size = 1.0 + expected + np.abs(chosen - rejected) ** 2 + beta**-2
    assert_within_eps(computed.detach().numpy(), expected, multiple=8, size=size)
    h = 1e-5
    difference = (loss(chosen + h, rejected, beta) - loss(chosen - h, rejected, beta)) / (2 * h)
    # Rounding eps size / h, truncation h^2/6 beta^3.
    assert (np.abs(first.grad.numpy() - difference) <= 8 * EPS * size / h + 1e-9).all()
    np.testing.assert_array_equal(first.grad.numpy(), -second.grad.numpy())
    assert loss(chosen.astype(np.float16), rejected.astype(np.float16), beta).dtype == np.float32


@pytest.mark.parametrize("name", PAIRED)
@given(log_ratios(limit=30.0), log_ratios(limit=30.0), st.floats(-50.0, 50.0))
def test_paired_losses_depend_on_differences_alone(name, chosen, rejected, shift):
    size = 1.0 + (np.abs(chosen) + np.abs(rejected) + abs(shift) + 5.0) ** 2
    moved = PAIRED[name](chosen + shift, rejected + shift, 0.1)
    assert_within_eps(moved, PAIRED[name](chosen, rejected, 0.1), multiple=8, size=size)


@given(log_ratios(limit=1e4), alphas())
@example(np.zeros(6), 0.5)
def test_logistic_rdro_is_its_printed_form(u, alpha):
    softplus = np.logaddexp(u, 0)
    preferred, nonpreferred = np.full(6, True), np.full(6, False)
    size = 1 + np.abs(u)
    assert_within_eps(rdro_losses(u, preferred, alpha), (1 + alpha) * softplus - u, multiple=8, size=size)
    assert_within_eps(rdro_losses(u, nonpreferred, alpha), (1 - alpha) * softplus, multiple=8)


@given(log_ratios(limit=30.0), alphas())
def test_logistic_rdro_with_matching_pool_is_discrimination_of_preferred_from_pooled(u, alpha):
    # pi = alpha, class means weighted alike: E+[loss+] + E-[loss-] = E_pool[softplus(u)] + E+[softplus(-u)].
    p, m = np.arange(1.0, 7.0) / 21.0, np.arange(6.0, 0.0, -1.0) / 21.0
    risk = p @ rdro_losses(u, np.full(6, True), alpha) + m @ rdro_losses(u, np.full(6, False), alpha)
    pooled = (alpha * p + (1 - alpha) * m) @ np.logaddexp(u, 0) + p @ np.logaddexp(-u, 0)
    assert_within_eps(risk, pooled, multiple=16, size=1 + np.abs(u).max())


@given(log_ratios(limit=0.69))
@example(np.full(6, 0.69))
@example(np.full(6, -600.0))
def test_p7_ddro_at_one_half_is_the_class_posterior_likelihood(u):
    values, preferred = both_classes(u)
    # log g has the condition number 1/(1 - r/2); both losses carry it.
    size = (1 + np.abs(values)) / -np.expm1(values - np.log(2))
    assert_within_eps(ddro_losses(values, preferred, 0.5), mle_losses(values, preferred, 0.5), multiple=8, size=size)


def test_values_at_the_reference():
    zero, up, down = np.zeros(1), np.array([True]), np.array([False])
    for alpha in (0.1, 0.5, 0.9):
        assert rdro_losses(zero, up, alpha)[0] == pytest.approx((1 + alpha) * np.log(2), rel=4 * EPS)
        assert rdro_losses(zero, down, alpha)[0] == pytest.approx((1 - alpha) * np.log(2), rel=4 * EPS)
        assert ddro_losses(zero, up, alpha)[0] == pytest.approx(np.log(2), rel=16 * EPS)  # g = 1 at u = 0
        assert mle_losses(zero, up, alpha)[0] == pytest.approx(-np.log(alpha), rel=4 * EPS)
        assert mle_losses(zero, down, alpha)[0] == pytest.approx(-np.log1p(-alpha), rel=16 * EPS)
    assert sft_losses(zero, up)[0] == sft_losses(zero, down)[0] == 0.0
    assert dpo_losses(zero, zero, 0.1)[0] == pytest.approx(np.log(2), rel=4 * EPS)
    assert ipo_losses(zero, zero, 0.1)[0] == 25.0
    assert kto_losses(zero, up, 0.1, 0.0)[0] == 0.5


def test_impossible_responses_have_infinite_or_vanishing_losses():
    u = np.full(2, -np.inf)
    flags = np.array([True, False])
    for loss in (rdro_losses, ddro_losses, mle_losses):
        np.testing.assert_array_equal(loss(u, flags, 0.3), [np.inf, 0.0])
    np.testing.assert_array_equal(sft_losses(u, flags), [np.inf, 0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_log_ratios_make_no_nan_of_logistic_rdro(dtype):
    u = torch.tensor([-math.inf, math.inf, -math.inf, math.inf], dtype=dtype, requires_grad=True)
    flags, expected = torch.tensor([True, True, False, False]), [math.inf, math.inf, 0.0, math.inf]
    losses = rdro_losses(u, flags, 0.3)
    losses.sum().backward()
    with np.errstate(over="ignore"):
        assert losses.tolist() == expected == rdro_losses(u.detach().numpy(), flags.numpy(), 0.3).tolist()
    assert torch.isfinite(u.grad).all()


@each_unpaired
def test_nan_log_ratios_are_never_hidden_by_a_finite_loss(name):
    flags = torch.tensor([True, False])
    assert not torch.isfinite(UNPAIRED[name](torch.full((2,), math.nan), flags))[: 1 if name == "sft" else 2].any()
    with np.errstate(invalid="ignore"):  # NumPy's logaddexp warns of NaN
        assert not np.isfinite(UNPAIRED[name](np.full(2, np.nan), flags.numpy()))[: 1 if name == "sft" else 2].any()


# --- alpha and bad input ----------------------------------------------------------------------------------------

WITH_ALPHA = {
    "rdro": rdro_losses,
    "ddro": ddro_losses,
    "ddro_extend": lambda u, c, t: ddro_losses(u, c, t, beyond_domain="extend"),
    "mle": mle_losses,
}


@pytest.mark.parametrize("name", WITH_ALPHA)
@given(log_ratios(limit=0.3, size=3))
def test_alpha_may_be_one_number_an_example(name, u):
    preferred, alpha = np.array([True, False, True]), np.array([0.2, 0.3, 0.7])
    expected = [WITH_ALPHA[name](u[i : i + 1], preferred[i : i + 1], float(alpha[i]))[0] for i in range(3)]
    # Scalars go through math.log, arrays through np.log: one eps of log t, times 1/(1 - t r) < 20.
    assert_within_eps(WITH_ALPHA[name](u, preferred, alpha), expected, multiple=200, size=1 + np.abs(expected))
    computed = WITH_ALPHA[name](torch.tensor(u), torch.tensor(preferred), torch.tensor(alpha))
    assert_within_eps(computed.numpy(), expected, multiple=200, size=1 + np.abs(expected))
    assert_within_eps(WITH_ALPHA[name](u, preferred, list(alpha)), expected, multiple=200, size=1 + np.abs(expected))


@pytest.mark.parametrize("name", WITH_ALPHA)
@pytest.mark.parametrize(
    "alpha", [0.0, 1.0, -0.5, 1.2, float("nan"), np.array([0.5, 1.2]), torch.tensor([0.5, 0.0]), [0.5, 2.0]]
)
def test_alpha_outside_the_interval_is_refused(name, alpha):
    make = torch.tensor if isinstance(alpha, torch.Tensor) else np.array
    with pytest.raises(ValueError, match=r"alpha must (lie strictly between 0 and 1|not contain NaN)"):
        WITH_ALPHA[name](make([0.0, 0.0]), make([True, False]), alpha)


U, FLAGS = np.zeros(2), np.array([True, False])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: rdro_losses(U, FLAGS, np.full(3, 0.5)),
            ValueError,
            r"alpha must have the shape of log_ratio \(2,\), got \(3,\)",
        ),
        (
            lambda: rdro_losses(U, FLAGS[:1], 0.5),
            ValueError,
            r"preferred must have the shape of log_ratio \(2,\), got \(1,\)",
        ),
        (lambda: rdro_losses(U, FLAGS.astype(float), 0.5), TypeError, r"preferred must be boolean, got float64"),
        (
            lambda: rdro_losses(np.zeros(2, dtype=int), FLAGS, 0.5),
            TypeError,
            r"log_ratio must be floating point, got int64",
        ),
        (
            lambda: rdro_losses(U, FLAGS, 0.5, "logit"),
            ValueError,
            r"generator must be one of .*did you mean 'logistic'",
        ),
        (
            lambda: ddro_losses(U, FLAGS, 0.5, beyond_domain="clip"),
            ValueError,
            r"beyond_domain must be one of extend, infinite; got 'clip'",
        ),
        (lambda: kto_losses(U, FLAGS, 0.0, 0.0), ValueError, r"beta must be finite and greater than 0, got 0\.0"),
        (lambda: kto_losses(U, FLAGS, 0.1, np.zeros(3)), ValueError, r"kl must have the shape of log_ratio"),
        (
            lambda: dpo_losses(U, np.zeros(3), 0.1),
            ValueError,
            r"log_ratio_rejected must have the shape of log_ratio_chosen \(2,\), got \(3,\)",
        ),
        (lambda: ipo_losses(U, U, -1.0), ValueError, r"beta must be finite and greater than 0, got -1\.0"),
        (lambda: dpo_losses(np.zeros(2, dtype=int), U, 0.1), TypeError, r"must be floating point, got int64"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(call, error, message):
    with pytest.raises(error, match=message):
        call()
