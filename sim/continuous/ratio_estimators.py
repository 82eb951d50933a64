"""Classical kernel estimators of density ratios from samples: RuLSIF, uLSIF and KLIEP.

All three model a ratio as ``r(y) = sum_l theta_l exp(-|y - c_l|^2 / (2 sigma^2))`` with centres c drawn from the
numerator sample, and choose the bandwidth sigma (and the ridge weight) by cross-validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dposv
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from sim.preferences.arguments import check_integer, check_rng
from theory.checks import FloatArray, as_floats, check_alpha, check_positive

__all__ = ["KernelRatio", "fit_kliep", "fit_rulsif", "fit_ulsif", "rulsif_score"]

BANDWIDTH_FACTORS = (0.3, 0.5, 0.8, 1.2, 2.0)
"""Candidate bandwidths, in units of the median distance between centres and examples."""
RIDGES = (0.001, 0.01, 0.1, 1.0)
"""Candidate ridge weights."""
_KLIEP_GAP = 1e-3


@dataclass(frozen=True, eq=False)
class KernelRatio:
    """A fitted ratio, a sum of Gaussian kernels.

    Attributes
    ----------
    centres : ndarray
        Shape (kernels, d).
    bandwidth : float
        sigma.
    coefficients : ndarray
        theta, shape (kernels,).
    ridge : float
        Weight of the squared coefficients in the fit; 0 for KLIEP.
    converged : bool
        Whether the solver reached its tolerance; always true for the closed forms.

    Examples
    --------
    >>> ratio = KernelRatio(np.zeros((1, 1)), 1.0, np.array([2.0]), 0.1, True)
    >>> ratio(np.array([[0.0], [1.0]])).round(4)
    array([2.    , 1.2131])
    """

    centres: FloatArray
    bandwidth: float
    coefficients: FloatArray
    ridge: float
    converged: bool

    def __call__(self, points: ArrayLike) -> FloatArray:
        """Return the ratio at points of shape (m, d)."""
        return np.asarray(_kernel(_points("points", points), self.centres, self.bandwidth) @ self.coefficients)


def rulsif_score(at_numerator: FloatArray, at_denominator: FloatArray, alpha: float) -> float:
    """Squared-error criterion of a relative ratio on held-out samples, up to a constant.

    ``alpha/2 mean(r(y)^2) + (1 - alpha)/2 mean(r(y')^2) - mean(r(y))`` with y from the numerator and y' from the
    denominator: an unbiased estimate of ``1/2 E_m (r - r_alpha)^2 - 1/2 E_m r_alpha^2`` for any two sample sizes.

    Parameters
    ----------
    at_numerator, at_denominator : ndarray
        Values of the ratio at the two samples, of any two lengths.
    alpha : float
        Weight of the numerator's law in the mixture m, in [0, 1).

    Returns
    -------
    float
        The criterion; lower is better.

    References
    ----------
    .. [1] Yamada et al., "Relative Density-Ratio Estimation for Robust Distribution Comparison", Neural Computation
       2013, criterion of section 2.

    Examples
    --------
    >>> rulsif_score(np.array([2.0, 2.0]), np.array([0.0]), alpha=0.5)
    -1.0
    """
    return float(
        0.5 * alpha * np.mean(at_numerator**2)
        + 0.5 * (1.0 - alpha) * np.mean(at_denominator**2)
        - np.mean(at_numerator)
    )


def fit_rulsif(
    numerator: ArrayLike,
    denominator: ArrayLike,
    alpha: float,
    rng: np.random.Generator,
    *,
    bandwidths: Sequence[float] | None = None,
    ridges: Sequence[float] = RIDGES,
    kernels: int = 100,
    folds: int = 5,
    centres: ArrayLike | None = None,
) -> KernelRatio:
    """Estimate the relative ratio ``p / (alpha p + (1 - alpha) q)`` by least squares (RuLSIF).

    ``theta = (H + lambda I)^-1 h`` with ``H = alpha mean k(y) k(y)^T + (1 - alpha) mean k(y') k(y')^T`` and
    ``h = mean k(y)`` over y of the numerator p and y' of the denominator q.

    Parameters
    ----------
    numerator, denominator : array_like
        Samples of p and q, shapes (n, d) and (n', d), at least `folds` examples each.
    alpha : float
        In (0, 1); see `fit_ulsif` for 0.
    rng : numpy.random.Generator
        Draws the centres and the folds.
    bandwidths : sequence of float, optional
        Candidates for sigma; default `BANDWIDTH_FACTORS` times the median distance.
    ridges : sequence of float
        Candidates for lambda, greater than 0.
    kernels : int
        Number of centres, at most n are used.
    folds : int
        Folds of cross-validation with `rulsif_score`; both samples are split. Skipped for a single candidate.
    centres : array_like, optional
        Centres to use instead of drawn ones, shape (kernels, d).

    Returns
    -------
    KernelRatio
        The estimate. It is not constrained: it may be negative and may exceed ``1/alpha``.

    Raises
    ------
    ValueError
        If shapes differ, samples are smaller than the number of folds, or a parameter is out of range.

    References
    ----------
    .. [1] Yamada et al., "Relative Density-Ratio Estimation for Robust Distribution Comparison", Neural Computation
       2013.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ratio = fit_rulsif(rng.normal(1, 1, (500, 1)), rng.normal(-1, 1, (500, 1)), 0.5, rng)
    >>> bool(np.abs(ratio([[-2.0], [0.0], [2.0]]) - [0.036, 1.0, 1.964]).max() < 0.2)  # the true values
    True
    """
    return _least_squares(
        numerator, denominator, float(check_alpha(alpha)), rng, bandwidths, ridges, kernels, folds, centres, False
    )


def fit_ulsif(
    numerator: ArrayLike,
    denominator: ArrayLike,
    rng: np.random.Generator,
    *,
    bandwidths: Sequence[float] | None = None,
    ridges: Sequence[float] = RIDGES,
    kernels: int = 100,
    folds: int = 5,
    centres: ArrayLike | None = None,
) -> KernelRatio:
    """Estimate the direct ratio ``p / q`` by least squares (uLSIF): RuLSIF at alpha = 0, negative coefficients cut.

    ``theta = max(0, (H + lambda I)^-1 h)`` with ``H = mean k(y') k(y')^T`` and ``h = mean k(y)``.

    Parameters
    ----------
    numerator, denominator, rng, bandwidths, ridges, kernels, folds, centres
        As in `fit_rulsif`.

    Returns
    -------
    KernelRatio
        The estimate, not negative.

    Raises
    ------
    ValueError
        As `fit_rulsif`.

    References
    ----------
    .. [1] Kanamori, Hido and Sugiyama, "A Least-squares Approach to Direct Importance Estimation", JMLR 2009.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ratio = fit_ulsif(rng.normal(0, 1, (500, 1)), rng.normal(0, 1, (800, 1)), rng)
    >>> bool(np.abs(ratio([[-1.0], [0.0], [1.0]]) - 1).max() < 0.25)  # equal laws: the ratio is 1
    True
    """
    return _least_squares(numerator, denominator, 0.0, rng, bandwidths, ridges, kernels, folds, centres, True)


def fit_kliep(
    numerator: ArrayLike,
    denominator: ArrayLike,
    rng: np.random.Generator,
    *,
    bandwidths: Sequence[float] | None = None,
    kernels: int = 100,
    folds: int = 5,
    centres: ArrayLike | None = None,
) -> KernelRatio:
    """Estimate the direct ratio ``p / q`` by Kullback-Leibler importance estimation (KLIEP).

    Maximises ``mean log r(y)`` subject to ``mean r(y') = 1`` and ``theta >= 0``. The bandwidth is the one of largest
    held-out ``mean log r(y)``; the numerator sample alone is split.

    Parameters
    ----------
    numerator, denominator, rng, bandwidths, kernels, folds, centres
        As in `fit_rulsif`.

    Returns
    -------
    KernelRatio
        The estimate, not negative. Not `converged` if the duality gap stayed above 1e-3 nats.

    Raises
    ------
    ValueError
        As `fit_rulsif`.

    Notes
    -----
    With ``b_l = mean k_l(y')`` and ``w_l = b_l theta_l`` the weights w lie on the simplex and the problem is that of
    the proportions of a mixture. It is solved without the constraint, which ``- sum w`` in the objective enforces at
    the optimum, and ``max_l mean_y[(k_l(y)/b_l) / r(y)] - 1`` bounds the distance from the maximum (derived here from
    concavity).

    References
    ----------
    .. [1] Sugiyama et al., "Direct Importance Estimation for Covariate Shift Adaptation", AISM 2008.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> denominator = rng.normal(0, 1, (800, 1))
    >>> ratio = fit_kliep(rng.normal(0.5, 1, (500, 1)), denominator, rng)
    >>> round(float(ratio(denominator).mean()), 6), ratio.converged
    (1.0, True)
    """
    above, below, basis, candidates = _prepare(numerator, denominator, rng, bandwidths, kernels, folds, centres)
    best = candidates[0]
    if len(candidates) > 1:
        splits = [(out, np.setdiff1d(np.arange(len(above)), out)) for out in _folds(len(above), folds, rng)]

        def score(bandwidth: float) -> float:
            top, bottom = _kernel(above, basis, bandwidth), _kernel(below, basis, bandwidth)
            parts = [np.log(np.maximum(top[out] @ _solve_kliep(top[rest], bottom)[0], 1e-300)) for out, rest in splits]
            return -float(np.mean(np.concatenate(parts)))

        best = min(candidates, key=score)
    theta, gap = _solve_kliep(_kernel(above, basis, best), _kernel(below, basis, best))
    return KernelRatio(basis, best, theta, 0.0, bool(gap <= _KLIEP_GAP))


def _solve_kliep(top: FloatArray, bottom: FloatArray) -> tuple[FloatArray, float]:
    """Return KLIEP's coefficients for kernels at numerator and denominator, and a bound of the log-likelihood gap."""
    means = bottom.mean(axis=0)
    usable = means > 0  # a kernel that sees no denominator example would be an unbounded gain
    scaled = top[:, usable] / means[usable]
    size = scaled.shape[1]

    def negative(weights: FloatArray) -> tuple[float, FloatArray]:
        ratio = np.maximum(scaled @ weights, 1e-300)
        return weights.sum() - float(np.mean(np.log(ratio))), 1.0 - (1.0 / ratio) @ scaled / len(scaled)

    found = minimize(
        negative,
        np.full(size, 1.0 / size),
        jac=True,
        bounds=[(0.0, None)] * size,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 0.0, "gtol": 0.1 * _KLIEP_GAP},
    )
    weights = found.x / found.x.sum()
    gap = -float(negative(weights)[1].min())
    theta = np.zeros(len(means))
    theta[usable] = weights / means[usable]
    return theta, gap


def _least_squares(
    numerator: ArrayLike,
    denominator: ArrayLike,
    alpha: float,
    rng: np.random.Generator,
    bandwidths: Sequence[float] | None,
    ridges: Sequence[float],
    kernels: int,
    folds: int,
    centres: ArrayLike | None,
    cut: bool,
) -> KernelRatio:
    """Fit RuLSIF or uLSIF with cross-validated bandwidth and ridge."""
    above, below, basis, candidates = _prepare(numerator, denominator, rng, bandwidths, kernels, folds, centres)
    grid = [(sigma, check_positive(ridge, "ridge")) for sigma in candidates for ridge in ridges]
    if not grid:
        raise ValueError("ridges must hold at least one value, got none")
    best = grid[0]
    if len(grid) > 1:
        parts = [
            [_squared_distances(sample[out], basis) for out in _folds(len(sample), folds, rng)]
            for sample in (above, below)
        ]
        scores = np.array([_held_out(parts[0], parts[1], sigma, ridges, alpha, cut) for sigma in candidates])
        best = grid[int(np.argmin(scores.ravel()))]
    moments = [_Moments.of(_squared_distances(sample, basis), best[0]) for sample in (above, below)]
    theta = _solve_ridge(*_mixed(moments[0], moments[1], alpha), best[1:], cut)[:, 0]
    return KernelRatio(basis, best[0], theta, best[1], True)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Sums of k and of ``k k^T`` over some examples, and their number."""

    first: FloatArray
    second: FloatArray
    count: int

    @classmethod
    def of(cls, squared_distances: FloatArray, bandwidth: float) -> "_Moments":
        """Return the moments of the kernels at points of given distances from the centres."""
        kernels = _gaussian(squared_distances, bandwidth)
        return cls(kernels.sum(axis=0), kernels.T @ kernels, len(kernels))

    def __add__(self, other: "_Moments") -> "_Moments":
        """Return the moments of two sets of examples together."""
        return _Moments(self.first + other.first, self.second + other.second, self.count + other.count)


def _mixed(above: _Moments, below: _Moments, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Return ``H`` and ``h`` of the moments at numerator and denominator."""
    second = (alpha / above.count) * above.second + ((1.0 - alpha) / below.count) * below.second
    return second, above.first / above.count


def _held_out(
    above: list[FloatArray],
    below: list[FloatArray],
    bandwidth: float,
    ridges: Sequence[float],
    alpha: float,
    cut: bool,
) -> FloatArray:
    """Return the cross-validated criterion of one bandwidth for every ridge, from squared distances, fold by fold.

    A fit and its criterion (`rulsif_score`) need the moments of the kernels alone, and those of a fold serve all fits.
    """
    moments = [[_Moments.of(part, bandwidth) for part in sample] for sample in (above, below)]
    scores = np.zeros(len(ridges))
    for out in range(len(above)):
        rest = [reduce(add, sample[:out] + sample[out + 1 :]) for sample in moments]
        thetas = _solve_ridge(*_mixed(rest[0], rest[1], alpha), ridges, cut)
        second, first = _mixed(moments[0][out], moments[1][out], alpha)
        scores += 0.5 * (thetas * (second @ thetas)).sum(axis=0) - first @ thetas
    return scores / len(above)


def _solve_ridge(second: FloatArray, first: FloatArray, ridges: Sequence[float], cut: bool) -> FloatArray:
    """Return ``(H + lambda I)^-1 h``, a column for every lambda, negative entries set to 0 on request."""
    thetas = np.empty((len(first), len(ridges)))
    for column, ridge in enumerate(ridges):
        matrix = second.copy()
        matrix.ravel()[:: len(first) + 1] += ridge
        _, thetas[:, column], status = dposv(matrix.T, first, lower=True, overwrite_a=True)
        if status:
            raise LinAlgError(f"H + lambda I must be positive definite, got the ridge {ridge:g}; take a larger one")
    return np.maximum(thetas, 0.0) if cut else thetas


def _prepare(
    numerator: ArrayLike,
    denominator: ArrayLike,
    rng: np.random.Generator,
    bandwidths: Sequence[float] | None,
    kernels: int,
    folds: int,
    centres: ArrayLike | None,
) -> tuple[FloatArray, FloatArray, FloatArray, list[float]]:
    """Return checked samples, centres and candidate bandwidths."""
    check_rng(rng)
    check_integer("folds", folds, 2)
    check_integer("kernels", kernels, 1)
    above, below = _points("numerator", numerator), _points("denominator", denominator)
    if min(len(above), len(below)) < folds:
        raise ValueError(f"each sample must hold at least {folds} examples, got {len(above)} and {len(below)}")
    if centres is None:
        basis = above[rng.choice(len(above), min(kernels, len(above)), replace=False)]
    else:
        basis = _points("centres", centres)
    if not above.shape[1] == below.shape[1] == basis.shape[1]:
        raise ValueError(
            f"samples and centres must have one dimension, got {above.shape[1]}, {below.shape[1]} and {basis.shape[1]}"
        )
    if bandwidths is None:
        median = float(np.median(cdist(np.concatenate([above, below]), basis)))
        if median <= 0:
            raise ValueError("examples must differ from the centres for a bandwidth to be found, got median distance 0")
        return above, below, basis, [factor * median for factor in BANDWIDTH_FACTORS]
    candidates = [check_positive(sigma, "bandwidth") for sigma in bandwidths]
    if not candidates:
        raise ValueError("bandwidths must hold at least one value, got none")
    return above, below, basis, candidates


def _points(name: str, values: ArrayLike) -> FloatArray:
    """Return points of shape (m, d)."""
    points = as_floats(name, values)
    if points.ndim != 2 or points.shape[1] == 0 or not np.isfinite(points).all():
        raise ValueError(f"{name} must be finite and have shape (examples, dimension), got shape {points.shape}")
    return points


def _kernel(points: FloatArray, centres: FloatArray, bandwidth: float) -> FloatArray:
    """Return Gaussian kernels, shape (points, centres)."""
    return _gaussian(_squared_distances(points, centres), bandwidth)


def _squared_distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    """Return squared distances, shape (points, centres)."""
    return np.asarray(cdist(points, centres, "sqeuclidean"))


def _gaussian(squared_distances: FloatArray, bandwidth: float) -> FloatArray:
    """Return Gaussian kernels at squared distances."""
    return np.exp(squared_distances / (-2.0 * bandwidth**2))


def _folds(size: int, folds: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Return the held-out indices of a random split into nearly equal folds."""
    return np.array_split(rng.permutation(size), folds)
