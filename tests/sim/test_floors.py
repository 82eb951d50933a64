"""Floors are found where there is one, and the boundary test keeps its level where there is none."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

from sim.statistics.floors import fit_floor

N = np.array([300, 1000, 3000, 10_000, 30_000, 100_000])


def decay(rng, *, floor, b=0.5, error=0.01, scale=4.0):
    """Return a synthetic curve with a known floor and known relative errors."""
    mean = np.sqrt(floor**2 + scale * N ** (-2.0 * b))
    noise = error * rng.standard_normal(len(N))
    return pd.DataFrame({"n": N, "mean": mean * (1.0 + noise), "standard_error": error * mean})


def test_a_fit_agrees_with_scipy():
    curve = decay(np.random.default_rng(0), floor=0.1)
    sigma = 2.0 * curve["mean"] * curve["standard_error"]
    squares = curve["mean"] ** 2
    best, covariance = curve_fit(
        lambda n, a, c: a + c / n, N, squares, p0=[0.01, 4.0], sigma=sigma, absolute_sigma=True
    )
    fit = fit_floor(curve)
    assert (fit.square, fit.square_error) == pytest.approx((best[0], np.sqrt(covariance[0, 0])), rel=1e-5)
    assert fit.floor == pytest.approx(np.sqrt(best[0]), rel=1e-5)
    assert (fit.n_min, fit.n_max, fit.points, fit.exponent) == (300, 100_000, 6, 0.5)


def test_a_free_exponent_agrees_with_scipy():
    curve = decay(np.random.default_rng(1), floor=0.05, b=0.35)
    sigma = 2.0 * curve["mean"] * curve["standard_error"]

    def law(log_n, a, log_c, b):
        return a + np.exp(log_c - 2.0 * b * log_n)

    best, covariance = curve_fit(
        law, np.log(N / N.max()), curve["mean"] ** 2, p0=[0.0025, -6.0, 0.4], sigma=sigma, absolute_sigma=True
    )
    fit = fit_floor(curve, None)
    assert (fit.square, fit.exponent) == pytest.approx((best[0], best[2]), rel=1e-4)
    assert fit.square_error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-3)


@pytest.mark.parametrize("exponent", [0.5, None])
@pytest.mark.parametrize("floor", [0.02, 0.3])
def test_the_interval_covers_the_floor(floor, exponent):
    rng = np.random.default_rng(2)
    fits = [fit_floor(decay(rng, floor=floor), exponent) for _ in range(200)]
    covered = sum(fit.low <= floor <= fit.high for fit in fits)
    # Binomial(200, .95): four standard deviations are 12.3.
    assert abs(covered - 190) <= 13 if exponent else covered >= 177


def test_the_boundary_test_keeps_its_level_and_its_mass_at_one():
    rng = np.random.default_rng(3)
    p = np.array([fit_floor(decay(rng, floor=0.0, error=0.005)).p_zero for _ in range(2000)])
    # Binomial(2000, .05) and (2000, .5): four standard deviations are 39 and 90. The square of a mean is biased by its
    # variance, a share 2.5e-5 of it that leaves the law as it is.
    assert abs((p <= 0.05).sum() - 100) <= 40
    assert abs((p == 1.0).sum() - 1000) <= 90


def test_the_boundary_test_with_a_free_exponent_keeps_its_level():
    rng = np.random.default_rng(4)
    p = np.array([fit_floor(decay(rng, floor=0.0, error=0.005), None).p_zero for _ in range(300)])
    # Binomial(300, .05): four standard deviations are 15; half of the mass at one within four of 8.7.
    assert (p <= 0.05).sum() <= 30
    assert abs((p == 1.0).sum() - 150) <= 35


def test_a_floor_is_found_and_its_absence_bounded():
    rng = np.random.default_rng(5)
    assert fit_floor(decay(rng, floor=0.1)).p_zero < 1e-6
    none = fit_floor(decay(rng, floor=0.0))
    assert none.low == 0.0 and 0.0 < none.high < 0.005
    assert none.square - 3.0 * none.square_error < 0.0


def test_a_law_that_does_not_fit_is_found_out():
    assert fit_floor(decay(np.random.default_rng(6), floor=0.01, b=0.2)).lack_of_fit_p < 1e-6


@pytest.mark.parametrize(
    ("rows", "change", "exponent", "message"),
    [
        (2, {}, 0.5, "a floor fit must have at least 3 different sample sizes, got"),
        (3, {}, None, "a floor fit must have at least 4 different sample sizes, got"),
        (5, {"mean": 0.0}, 0.5, "mean of a floor fit must be finite and greater than 0, got 0"),
        (
            5,
            {"standard_error": np.nan},
            0.5,
            "standard_error of a floor fit must be finite and greater than 0, got nan",
        ),
        (5, {"n": 1000.0}, 0.5, "a floor fit must have at least 3 different sample sizes, got"),
        (5, {}, 0.0, "exponent must be finite and greater than 0, got 0.0"),
    ],
)
def test_a_fit_without_meaning_is_refused(rows, change, exponent, message):
    curve = decay(np.random.default_rng(8), floor=0.1).head(rows).astype(float)
    curve.loc[0, list(change)] = list(change.values())
    with pytest.raises(ValueError, match=message):
        fit_floor(curve, exponent)
