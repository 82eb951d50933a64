"""Numerical helpers of the losses against 50 digits, and the conversions of their arguments."""

import array_api_compat
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import EPS, assert_within_eps
from theory.arrays import log1mexp, log_sigmoid, prepare, prepare_alpha, prepare_margins

XP = array_api_compat.array_namespace(np.zeros(1))


@given(st.floats(-745.0, -1e-300))
@example(-1e-300)
@example(-5e-17)
@example(-np.log(2.0))
@example(-745.0)
def test_log1mexp_is_exact_on_both_branches(v):
    with mpmath.workdps(400):  # 1 - e^-1e-300 needs 300 digits
        expected = float(mpmath.log(1 - mpmath.exp(mpmath.mpf(v))))
    assert_within_eps(log1mexp(np.array([v]), XP), [expected], multiple=4, size=max(abs(expected), 1e-307))


@given(st.floats(-1e4, 1e4))
@example(-1e4)
@example(1e4)
def test_log_sigmoid_is_exact(x):
    with mpmath.workdps(50):
        expected = float(-mpmath.log1p(mpmath.exp(-mpmath.mpf(x))))
    # e^-x has the relative error |x| eps where it decides the result.
    size = max(abs(expected) * (1 + min(abs(x), 745.0)), 1e-307)
    assert_within_eps(log_sigmoid(np.array([x])), [expected], multiple=4, size=size)


def test_log1mexp_has_finite_gradients_on_both_sides_of_its_branch():
    v = torch.tensor([-1e-10, -0.1, -0.6931, -0.6932, -40.0, -800.0], dtype=torch.float64, requires_grad=True)
    log1mexp(v, array_api_compat.array_namespace(v)).sum().backward()
    expected = [1.0 / np.expm1(-float(x)) if x > -700 else 0.0 for x in v.detach()]  # d/dv log(1 - e^v) = -1/(e^-v - 1)
    np.testing.assert_allclose(v.grad.numpy(), -np.array(expected), rtol=64 * EPS, atol=1e-300)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)],
)
def test_half_precision_is_computed_in_float32(dtype, expected):
    u, preferred, _ = prepare(np.zeros(2, dtype=dtype), np.array([True, False]))
    assert u.dtype == expected and preferred.dtype == np.bool_


def test_plain_python_input_becomes_an_array():
    u, preferred, _ = prepare([0.0, 1.0], [True, False])
    assert u.dtype == np.float64 and preferred.dtype == np.bool_
    assert prepare(0.5, True)[0].shape == ()
    assert prepare_margins([1.0], [0.25]) == 0.75


def test_gradients_reach_half_precision_inputs():
    u = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    prepare(u, torch.tensor([True, False]))[0].sum().backward()
    assert u.grad.dtype == torch.bfloat16 and (u.grad == 1).all()


def test_alpha_takes_the_dtype_of_the_log_ratios():
    u = torch.zeros(2, dtype=torch.float32)
    xp = array_api_compat.array_namespace(u)
    assert prepare_alpha(np.float64(0.3), u, xp) == 0.3
    assert prepare_alpha(np.array(0.3), u, xp) == 0.3
    for alpha in ([0.3, 0.4], np.array([0.3, 0.4]), torch.tensor([0.3, 0.4], dtype=torch.float64)):
        assert prepare_alpha(alpha, u, xp).dtype == torch.float32
    assert prepare_alpha(torch.tensor(0.3), u, xp).ndim == 0


def test_mixed_kinds_of_arrays_are_refused():
    with pytest.raises(TypeError, match="Multiple namespaces"):
        prepare(np.zeros(2), torch.tensor([True, False]))
