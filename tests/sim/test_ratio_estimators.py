"""RuLSIF, uLSIF and KLIEP against loops, optimality conditions, known ratios and an independent package."""

import warnings

import densratio
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from sim.continuous.ratio_estimators import KernelRatio, fit_kliep, fit_rulsif, fit_ulsif, rulsif_score
from theory import relative_from_direct

FIXED = {"bandwidths": [0.8], "ridges": [0.1]}


def samples(numerator=60, denominator=90, dimension=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0.5, 1, (numerator, dimension)), rng.normal(-0.5, 1, (denominator, dimension))


def kernel(point, centre, bandwidth):
    return np.exp(-sum((a - b) ** 2 for a, b in zip(point, centre, strict=True)) / (2 * bandwidth**2))


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_closed_form_equals_a_plain_loop(alpha):
    above, below = samples(7, 11)
    fit = (
        fit_ulsif(above, below, np.random.default_rng(0), **FIXED)
        if alpha == 0
        else fit_rulsif(above, below, alpha, np.random.default_rng(0), **FIXED)
    )
    size = len(fit.centres)
    second, first = np.zeros((size, size)), np.zeros(size)
    for weight, sample in ((alpha / 7, above), ((1 - alpha) / 11, below)):
        for y in sample:
            k = np.array([kernel(y, c, 0.8) for c in fit.centres])
            second += weight * np.outer(k, k)
    for y in above:
        first += np.array([kernel(y, c, 0.8) for c in fit.centres]) / 7
    expected = np.linalg.solve(second + 0.1 * np.eye(size), first)
    expected = np.maximum(expected, 0) if alpha == 0 else expected
    np.testing.assert_allclose(fit.coefficients, expected, rtol=1e-10)
    np.testing.assert_allclose(
        fit(below), [sum(t * kernel(y, c, 0.8) for t, c in zip(expected, fit.centres, strict=True)) for y in below]
    )


def test_centres_come_from_the_numerator_without_repetition():
    above, below = samples()
    fit = fit_rulsif(above, below, 0.5, np.random.default_rng(0), kernels=20, **FIXED)
    assert fit.centres.shape == (20, 2) and len(np.unique(fit.centres, axis=0)) == 20
    assert (fit.centres[:, None] == above[None]).all(axis=2).any(axis=1).all()
    assert fit_rulsif(above, below, 0.5, np.random.default_rng(0), **FIXED).centres.shape == (60, 2)


def test_cross_validation_picks_the_best_held_out_criterion():
    # The criterion of each candidate, from fits of each fold's rest with that candidate alone.
    above, below = samples(40, 90)
    grid = {"bandwidths": [0.2, 0.8, 3.0], "ridges": [0.01, 1.0]}
    chosen = fit_rulsif(above, below, 0.4, np.random.default_rng(1), kernels=15, **grid)
    rng = np.random.default_rng(1)
    rng.choice(40, 15, replace=False)
    folds = [np.array_split(rng.permutation(size), 5) for size in (40, 90)]
    scores = {}
    for sigma in grid["bandwidths"]:
        for ridge in grid["ridges"]:
            parts = []
            for up, down in zip(*folds, strict=True):
                fit = fit_rulsif(
                    np.delete(above, up, axis=0),
                    np.delete(below, down, axis=0),
                    0.4,
                    np.random.default_rng(0),
                    bandwidths=[sigma],
                    ridges=[ridge],
                    centres=chosen.centres,
                )
                parts.append(rulsif_score(fit(above[up]), fit(below[down]), 0.4))
            scores[sigma, ridge] = np.mean(parts)
    assert (chosen.bandwidth, chosen.ridge) == min(scores, key=scores.get)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_criterion_is_unbiased_for_unequal_sample_sizes(alpha):
    # For a fixed ratio and samples of 5 and 300 the mean over repetitions is the population value, within 4 errors.
    def ratio(y):
        return 1.5 / (1 + y**2)

    grid = np.linspace(-12, 12, 4001)
    step = grid[1] - grid[0]
    p, q = norm.pdf(grid, 0.5), norm.pdf(grid, -0.5)
    exact = step * (ratio(grid) ** 2 * (alpha * p + (1 - alpha) * q) / 2 - ratio(grid) * p).sum()
    rng = np.random.default_rng(0)
    values = [rulsif_score(ratio(rng.normal(0.5, 1, 5)), ratio(rng.normal(-0.5, 1, 300)), alpha) for _ in range(4000)]
    assert abs(np.mean(values) - exact) <= 4 * np.std(values) / np.sqrt(4000)


def exact_ratio(points):
    return np.exp(points[:, 0])  # of N(1/2, 1) to N(-1/2, 1)


@pytest.mark.parametrize("method", ["rulsif", "ulsif", "kliep"])
def test_known_ratio_is_approached(method):
    # Errors under the mixture fall with n: by more than a quarter from 100 to 10^4 in the mean of five data sets.
    errors = []
    for n in (100, 10_000):
        some = []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            above, below = rng.normal(0.5, 1, (n // 4, 1)), rng.normal(-0.5, 1, (n - n // 4, 1))
            points = np.concatenate([rng.normal(0.5, 1, (1000, 1)), rng.normal(-0.5, 1, (1000, 1))])
            true = relative_from_direct(exact_ratio(points), 0.5)
            if method == "rulsif":
                found = fit_rulsif(above, below, 0.5, rng)(points)
            else:
                found = relative_from_direct(
                    (fit_ulsif if method == "ulsif" else fit_kliep)(above, below, rng)(points), 0.5
                )
            some.append(np.sqrt(np.mean((found - true) ** 2)))
        errors.append(np.mean(some))
    assert errors[1] < 0.75 * errors[0] and errors[1] < 0.15


def test_rulsif_may_leave_its_range_and_converted_direct_ratios_may_not():
    # Well separated samples: the exact ratio is close to 1/alpha on one side and to 0 on the other.
    rng = np.random.default_rng(0)
    above, below = rng.normal(2, 1, (200, 1)), rng.normal(-2, 1, (200, 1))
    points = np.linspace(-5, 5, 201)[:, None]
    relative = fit_rulsif(above, below, 0.5, rng)(points)
    assert relative.max() > 2.0 and relative.min() < 0.0
    for fit in (fit_ulsif, fit_kliep):
        direct = fit(above, below, rng)(points)
        assert direct.min() >= 0.0 and relative_from_direct(direct, 0.5).max() <= 2.0


def test_kliep_is_optimal_and_normalised():
    # Concavity: the mean of k_l(y)/(b_l r(y)) is at most 1 + gap for every kernel, and 1 for those in use.
    above, below = samples(150, 200)
    fit = fit_kliep(above, below, np.random.default_rng(0), bandwidths=[0.7])
    assert fit.converged and (fit.coefficients >= 0).all()
    assert fit(below).mean() == pytest.approx(1.0, abs=1e-12)
    kernels = [np.exp(-((s[:, None] - fit.centres) ** 2).sum(axis=2) / (2 * 0.7**2)) for s in (above, below)]
    gains = (kernels[0] / kernels[1].mean(axis=0) / fit(above)[:, None]).mean(axis=0)
    assert gains.max() <= 1.0 + 1e-3
    assert gains[fit.coefficients > 0.01 * fit.coefficients.max()].min() >= 1.0 - 1e-2


def test_kliep_equals_a_general_solver():
    above, below = samples(40, 50)
    centres = above[:6]
    fit = fit_kliep(above, below, np.random.default_rng(0), bandwidths=[1.0], centres=centres)
    top, bottom = (np.exp(-((s[:, None] - centres) ** 2).sum(axis=2) / 2) for s in (above, below))
    found = minimize(
        lambda t: -np.mean(np.log(top @ t)),
        np.full(6, 1 / bottom.mean(axis=0).sum()),
        bounds=[(0, None)] * 6,
        constraints={"type": "eq", "fun": lambda t: bottom.mean(axis=0) @ t - 1},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert np.mean(np.log(fit(above))) == pytest.approx(-found.fun, abs=1e-3)  # the duality gap that counts as solved


def test_kliep_bandwidth_maximises_the_held_out_likelihood():
    above, below = samples(50, 80)
    bandwidths = [0.1, 0.7, 5.0]
    chosen = fit_kliep(above, below, np.random.default_rng(1), kernels=10, bandwidths=bandwidths)
    rng = np.random.default_rng(1)
    rng.choice(50, 10, replace=False)
    folds = np.array_split(rng.permutation(50), 5)
    scores = {}
    for sigma in bandwidths:
        parts = []
        for out in folds:
            rest = np.delete(above, out, axis=0)
            fit = fit_kliep(rest, below, np.random.default_rng(0), bandwidths=[sigma], centres=chosen.centres)
            parts.append(np.log(fit(above[out])))
        scores[sigma] = np.mean(np.concatenate(parts))
    assert chosen.bandwidth == max(scores, key=scores.get)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_estimates_agree_with_the_package_densratio(alpha):
    # Given one bandwidth and ridge the package solves the same system at any sizes, and cuts negative coefficients.
    above, below = samples(80, 80)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = densratio.densratio(
            above, below, method="RuLSIF", alpha=alpha, sigma_range=[0.8], lambda_range=[0.1], verbose=False
        )
    centres = np.asarray(peer.kernel_info.centers)
    points = np.concatenate([above, below])
    if alpha == 0:
        ours = fit_ulsif(above, below, np.random.default_rng(0), centres=centres, **FIXED)(points)
    else:
        free = fit_rulsif(above, below, alpha, np.random.default_rng(0), centres=centres, **FIXED)
        cut = KernelRatio(free.centres, free.bandwidth, np.maximum(free.coefficients, 0), free.ridge, True)
        ours = cut(points)
    np.testing.assert_allclose(ours, peer.compute_density_ratio(points), rtol=1e-8)


def test_same_seed_same_estimate():
    above, below = samples()
    for fit in (lambda rng: fit_rulsif(above, below, 0.5, rng), lambda rng: fit_kliep(above, below, rng)):
        first, second = (fit(np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first.coefficients, second.coefficients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.0}, "alpha must lie strictly between 0 and 1, got 1"),
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"kernels": 0}, "kernels must be at least 1, got 0"),
        ({"folds": 70}, "each sample must hold at least 70 examples, got 60 and 90"),
        ({"bandwidths": [0.0]}, "bandwidth must be finite and greater than 0, got 0.0"),
        ({"bandwidths": []}, "bandwidths must hold at least one value, got none"),
        ({"ridges": []}, "ridges must hold at least one value, got none"),
        ({"ridges": [-1.0]}, "ridge must be finite and greater than 0, got -1.0"),
        ({"denominator": np.zeros((90, 3))}, "samples and centres must have one dimension, got 2, 3 and 2"),
        ({"numerator": np.zeros(60)}, "numerator must be finite and have shape .examples, dimension., got shape"),
    ],
)
def test_wrong_arguments_state_the_rule(change, message):
    above, below = samples()
    arguments = {"numerator": above, "denominator": below, "alpha": 0.5, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=message):
        fit_rulsif(**{**arguments, **change})


def test_equal_examples_have_no_bandwidth():
    with pytest.raises(ValueError, match="examples must differ from the centres"):
        fit_ulsif(np.zeros((10, 1)), np.zeros((10, 1)), np.random.default_rng(0))
