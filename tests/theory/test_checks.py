"""Every argument check states its rule and what it received."""

import numpy as np
import pytest

from theory.checks import (
    as_floats,
    check_alpha,
    check_choice,
    check_nonnegative,
    check_positive,
    check_probabilities,
    check_same_shape,
)


@pytest.mark.parametrize("good", [0.5, 1e-300, 1.0 - 1e-16, np.float32(0.25), [0.1, 0.9]])
def test_alpha_inside_the_interval_is_returned_as_float64(good):
    values = check_alpha(good)
    assert values.dtype == np.float64 and values.shape == np.shape(good)
    np.testing.assert_array_equal(values, np.asarray(good, dtype=np.float64))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_alpha(1.2), ValueError, r"^alpha must lie strictly between 0 and 1, got 1\.2$"),
        (lambda: check_alpha([0.5, 0.0], "t"), ValueError, r"^t must lie strictly between 0 and 1, got 0$"),
        (lambda: check_alpha(np.inf), ValueError, r"got inf$"),
        (lambda: check_alpha(np.nan), ValueError, r"^alpha must not contain NaN, got NaN$"),
        (lambda: check_alpha("half"), TypeError, r"^alpha must be an array of real numbers"),
        (lambda: check_alpha(0.5 + 0j), TypeError, r"got dtype complex128$"),
        (lambda: check_alpha(True), TypeError, r"got dtype bool$"),
        (lambda: check_alpha(None), TypeError, r"got dtype object$"),
        (lambda: check_alpha([[0.5], [0.5, 0.5]]), TypeError, r"^alpha must be an array of real numbers, got list"),
        (lambda: check_positive(0, "beta"), ValueError, r"^beta must be finite and greater than 0, got 0$"),
        (lambda: check_positive(-1.5, "beta"), ValueError, r"got -1\.5$"),
        (lambda: check_positive(float("nan"), "beta"), ValueError, r"got nan$"),
        (lambda: check_positive(float("inf"), "beta"), ValueError, r"got inf$"),
        (lambda: check_positive("1", "beta"), TypeError, r"^beta must be a number, got str$"),
        (lambda: check_positive(True, "beta"), TypeError, r"got bool$"),
        (
            lambda: check_choice("method", "rdo", ("rdro", "sft")),
            ValueError,
            r"rdro, sft; got 'rdo' \(did you mean 'rdro'\?\)$",
        ),
        (lambda: check_choice("method", "zzz", ("rdro", "sft")), ValueError, r"got 'zzz'$"),
        (
            lambda: check_choice("method", 3, ("rdro", "sft")),
            TypeError,
            r"^method must be a string, one of rdro, sft; got int$",
        ),
        (lambda: as_floats("x", [1.0, np.nan]), ValueError, r"^x must not contain NaN, got NaN at index \(1,\)$"),
        (
            lambda: check_nonnegative("x", [[0.0, -1.0]]),
            ValueError,
            r"^x must be finite and not negative, got -1 at index \(0, 1\)$",
        ),
        (lambda: check_nonnegative("x", [np.inf]), ValueError, r"got inf at index \(0,\)$"),
        (lambda: check_probabilities("p", 1.0), ValueError, r"at least one response on its last axis, got shape \(\)$"),
        (lambda: check_probabilities("p", np.zeros((2, 0))), ValueError, r"got shape \(2, 0\)$"),
        (
            lambda: check_probabilities("p", [[1.0, 0.0], [0.5, 0.4]]),
            ValueError,
            r"^p must sum to 1 over its last axis, got a sum of 0\.9$",
        ),
        (lambda: check_probabilities("p", [1e308, 1e308]), ValueError, r"got a sum of inf$"),
    ],
)
def test_bad_values_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_worst_offender_is_reported():
    with pytest.raises(ValueError, match=r"got a sum of 3$"):
        check_probabilities("p", [[0.5, 0.4], [2.0, 1.0]])


def test_good_values_pass():
    assert check_positive(np.float64(2.0), "beta") == check_positive(2, "beta") == 2.0
    assert check_choice("method", "sft", ("rdro", "sft")) == "sft"
    np.testing.assert_array_equal(check_nonnegative("x", [0, 3]), [0.0, 3.0])
    # Rows that were once stored in float32 sum to one to about 1e-8 only.
    assert check_probabilities("p", np.array([0.1, 0.9]) * (1 + 9e-9)).shape == (2,)


def test_inputs_are_not_changed():
    given = np.array([0.5, 0.5])
    assert check_probabilities("p", given) is not given
    np.testing.assert_array_equal(given, [0.5, 0.5])


def test_shapes_are_compared_under_their_names():
    check_same_shape(a=np.zeros(2), b=np.ones(2))
    with pytest.raises(ValueError, match=r"^a and b must have the same shape, got a \(2,\), b \(1, 2\)$"):
        check_same_shape(a=np.zeros(2), b=np.ones((1, 2)))
