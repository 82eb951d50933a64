"""How far preferences are from Bradley-Terry: three numbers (size, shape, order), for one of them alone misleads."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, kl_div

from sim.preferences.arguments import IntArray, check_integer, check_rng
from sim.preferences.base import PairwisePreference
from sim.preferences.from_counts import check_win_counts, win_shares
from theory.bradley_terry_fit import fit_bradley_terry, newton_scores, score_differences, win_chains
from theory.checks import FloatArray, check_nonnegative, check_same_shape

# Probabilities carry rounding errors of a few eps = 2.2e-16; a violation of transitivity must exceed them clearly.
_ORDER_TOLERANCE = 1e-12

# A replicate equal to the observed table must count as reaching its statistic, whatever the rounding of the two fits.
_TIE_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class BTDistance:
    """Distance from Bradley-Terry in size, shape and order; arrays where many tables were measured at once.

    Parameters
    ----------
    size : float or ndarray
        K, the smallest mean Kullback-Leibler divergence to a Bradley-Terry model, in nats per comparison.
    shape : float or ndarray
        Share in [0, 1] of the weighted squared logits that no scores explain.
    weak, moderate, strong : float or ndarray
        Order: shares in [0, 1] of the triples that violate weak, moderate and strong stochastic transitivity.
    """

    size: float | FloatArray
    shape: float | FloatArray
    weak: float | FloatArray
    moderate: float | FloatArray
    strong: float | FloatArray


@dataclass(frozen=True, eq=False)
class BTTest:
    """Test of the Bradley-Terry model on observed counts against its parametric-bootstrap null.

    Parameters
    ----------
    observed : BTDistance
        Distance of the observed counts. Sampling noise adds to each of its numbers: compare with `null`.
    statistic : float
        Likelihood ratio ``2 N K`` against the model with a free probability for each pair; N decisive comparisons.
    p_value : float
        ``(1 + #{null >= statistic} + #{failed replicates}) / (1 + replicates)``, in (0, 1].
    excess_size : float
        ``(statistic - mean of null_statistic) / (2 N)``: the size K less its mean under Bradley-Terry, in nats per
        comparison. May be negative.
    degrees_of_freedom : int
        Compared pairs less K - 1 free scores: the mean of the chi-square law that the null approaches.
    null : BTDistance
        Distances of the replicates drawn from the fitted Bradley-Terry model, arrays of shape (replicates kept,).
    null_statistic : ndarray, shape (replicates kept,)
        Likelihood ratios of the replicates.
    failed : int
        Replicates without a maximum-likelihood fit (no strongly connected graph, or not converged). They count as
        exceeding the statistic, which can only raise the p-value.
    scores : ndarray, shape (K,)
        The fitted scores in nats, with mean zero.
    """

    observed: BTDistance
    statistic: float
    p_value: float
    excess_size: float
    degrees_of_freedom: int
    null: BTDistance
    null_statistic: FloatArray
    failed: int
    scores: FloatArray


def bt_distance(probabilities: ArrayLike, weights: ArrayLike | None = None) -> BTDistance:
    """Measure how far a preference matrix is from Bradley-Terry.

    - size: ``K = min_s sum_{i<j} w_ij KL(P_ij || sigma(s_i - s_j))``, KL between Bernoulli laws in nats;
    - shape: ``min_s sum_{i<j} w_ij (Y_ij - (s_i - s_j))^2 / sum_{i<j} w_ij Y_ij^2`` of the logits Y, 0 if all are 0;
    - order: shares of the triples in which, for some ordering with P_ij >= 1/2 and P_jk >= 1/2, P_ik falls below 1/2
      (weak), below min(P_ij, P_jk) (moderate), below max(P_ij, P_jk) (strong).

    Parameters
    ----------
    probabilities : array_like, shape (K, K)
        Complementary win probabilities, strictly between 0 and 1 where the weight is positive; K >= 3.
    weights : array_like, shape (K, K), optional
        Symmetric weights w_ij >= 0 of the pairs, rescaled to sum to one over pairs; for pairs drawn from a policy mu
        they are ``mu_i mu_j``. All pairs weigh the same by default. Order takes the triples whose pairs all have
        positive weight, each once.

    Returns
    -------
    BTDistance
        Size, shape and order.

    Raises
    ------
    ValueError
        If the matrix is not complementary, a weighted probability is 0 or 1, the weights are not symmetric, do not
        connect all items, or leave no triple.

    References
    ----------
    .. [1] Shape: X. Jiang, L.-H. Lim, Y. Yao and Y. Ye, Mathematical Programming 127, 2011. Order: after A. Tversky and
       J. E. Russo, Journal of Mathematical Psychology 6, 1969, and the surveys they gave rise to. Size: derived here.

    Examples
    --------
    >>> cycle = [[0.5, 0.7, 0.3], [0.3, 0.5, 0.7], [0.7, 0.3, 0.5]]
    >>> distance = bt_distance(cycle)
    >>> round(distance.size, 4), round(distance.shape, 12), distance.weak
    (0.0823, 1.0, 1.0)
    """
    matrix = PairwisePreference("probabilities", np.asarray(probabilities)).probabilities
    if len(matrix) != 1:
        raise ValueError(f"probabilities must have shape (K, K), got {matrix.shape}: measure one prompt at a time")
    shares = np.ones_like(matrix[0]) if weights is None else check_nonnegative("weights", weights)
    check_same_shape(probabilities=matrix[0], weights=shares)
    if not np.allclose(shares, shares.T, rtol=1e-12, atol=0.0):
        raise ValueError("weights must be symmetric, got a matrix that differs from its transpose")
    shares = shares * ~np.eye(len(shares), dtype=bool)
    if not shares.any():
        raise ValueError("weights must be positive for some pair of different items, got none")
    certain = np.argwhere((shares > 0.0) & ((matrix[0] == 0.0) | (matrix[0] == 1.0)))
    if certain.size:
        i, j = (int(k) for k in certain[0])
        raise ValueError(
            f"probabilities must lie strictly between 0 and 1, got {matrix[0, i, j]:g} for items {i} and {j}"
        )
    shares = shares[np.newaxis] / (shares.sum() / 2.0)
    scores = _fitted_scores(shares * matrix)
    with np.errstate(divide="ignore"):  # only where the weight is 0
        logits = np.where(shares > 0.0, np.log(matrix) - np.log(matrix.swapaxes(1, 2)), 0.0)
    return _scalar(_distances(matrix, logits, shares, scores))


def bt_distance_of_counts(counts: ArrayLike, names: Sequence[str] | None = None) -> BTDistance:
    """Measure how far observed counts are from Bradley-Terry, each pair weighed by its number of comparisons.

    Size and order are those of `bt_distance` at the observed shares of wins. Shape uses the empirical logits
    ``log((wins_ij + 1/2) / (wins_ji + 1/2))``, finite for one-sided pairs too.

    Parameters
    ----------
    counts : array_like of whole numbers, shape (K, K)
        Entry (i, j) counts the decisive comparisons that item i won against item j; K >= 3.
    names : sequence of str, optional
        Names of the K items, used in error messages.

    Returns
    -------
    BTDistance
        Size, shape and order. Sampling noise adds to each; `bt_test` gives their values under Bradley-Terry.

    Raises
    ------
    ValueError
        If the counts are not a table of wins, are not strongly connected, or have no fully compared triple.

    References
    ----------
    .. [1] Empirical logits: F. J. Anscombe, Biometrika 43, 1956; J. B. S. Haldane, Annals of Human Genetics 20, 1956.

    Examples
    --------
    >>> bt_distance_of_counts([[0, 7, 3], [3, 0, 7], [7, 3, 0]]).weak
    1.0
    """
    wins = check_win_counts(counts, names)
    return _scalar(_count_distances(wins[np.newaxis], _fitted_scores(wins, names)[np.newaxis]))


def bt_test(counts: ArrayLike, replicates: int, rng: np.random.Generator, names: Sequence[str] | None = None) -> BTTest:
    """Test whether observed counts come from a Bradley-Terry model, by parametric bootstrap.

    The statistic is the likelihood ratio ``2 sum_{i<j} N_ij KL(P_ij || sigma(s_i - s_j))`` of the observed shares P
    against the fitted scores s. Its null distribution comes from tables drawn from the fitted model with the observed
    numbers N_ij of comparisons, each fitted anew.

    Parameters
    ----------
    counts : array_like of whole numbers, shape (K, K)
        Entry (i, j) counts the decisive comparisons that item i won against item j; K >= 3.
    replicates : int
        Number of bootstrap tables, at least 1; the smallest possible p-value is 1 / (1 + replicates).
    rng : numpy.random.Generator
        Source of randomness.
    names : sequence of str, optional
        Names of the K items, used in error messages.

    Returns
    -------
    BTTest
        Observed distance, statistic, p-value and the null distributions of statistic and distance.

    Raises
    ------
    ValueError
        If the counts are not a table of wins, are not strongly connected, or have no fully compared triple.
    RuntimeError
        If the fit of the counts does not converge, or no replicate has a fit.

    References
    ----------
    .. [1] A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2 (the +1).

    Examples
    --------
    >>> result = bt_test([[0, 70, 30], [30, 0, 70], [70, 30, 0]], 99, np.random.default_rng(0))
    >>> result.p_value, result.degrees_of_freedom
    (0.01, 1)
    """
    check_integer("replicates", replicates, 1)
    check_rng(rng)
    observed = bt_distance_of_counts(counts, names)
    wins = check_win_counts(counts, names)
    scores = _fitted_scores(wins, names)
    tables = _draw_tables(wins + wins.T, scores, replicates, rng)
    tables = tables[win_chains(tables).all(axis=(1, 2))]
    fit = newton_scores(tables.astype(np.float64))
    converged = fit.status == "ok"
    if not converged.any():
        raise RuntimeError(f"a bootstrap replicate must have a Bradley-Terry fit, got none of {replicates}")
    null = _count_distances(tables[converged], fit.scores[converged])
    total = int(wins.sum())
    statistic, null_statistic = 2.0 * total * float(observed.size), 2.0 * total * np.asarray(null.size)
    failed = replicates - int(converged.sum())
    exceeding = int((null_statistic >= statistic - _TIE_TOLERANCE).sum()) + failed
    return BTTest(
        observed=observed,
        statistic=statistic,
        p_value=(1 + exceeding) / (1 + replicates),
        excess_size=(statistic - float(null_statistic.mean())) / (2.0 * total),
        degrees_of_freedom=int((wins + wins.T > 0).sum()) // 2 - (len(wins) - 1),
        null=null,
        null_statistic=null_statistic,
        failed=failed,
        scores=scores,
    )


def _fitted_scores(wins: ArrayLike, names: Sequence[str] | None = None) -> FloatArray:
    """Return Bradley-Terry scores, or raise where Newton's method does not reach them."""
    fit = fit_bradley_terry(wins, names)
    if (fit.status != "ok").any():
        raise RuntimeError(f"the Bradley-Terry fit must converge, got none after {fit.iterations} Newton steps")
    return fit.scores


def _draw_tables(decisive: IntArray, scores: FloatArray, replicates: int, rng: np.random.Generator) -> IntArray:
    """Return tables of wins (replicates, K, K) from a Bradley-Terry model with the given numbers of comparisons."""
    upper = np.triu(decisive, 1)
    wins = rng.binomial(upper, expit(score_differences(scores)), size=(replicates, *decisive.shape))
    return wins + (upper - wins).swapaxes(1, 2)


def _count_distances(wins: IntArray, scores: FloatArray) -> BTDistance:
    """Return distances of tables of counts (tables, K, K) whose Bradley-Terry scores are given."""
    decisive = wins + wins.swapaxes(1, 2)
    weights = decisive / (decisive.sum(axis=(1, 2), keepdims=True) / 2.0)
    logits = np.where(decisive > 0, np.log((wins + 0.5) / (wins.swapaxes(1, 2) + 0.5)), 0.0)
    return _distances(win_shares(wins), logits, weights, scores)


def _distances(matrix: FloatArray, logits: FloatArray, weights: FloatArray, scores: FloatArray) -> BTDistance:
    """Return size, shape and order of matrices (tables, K, K) whose weights sum to one over the pairs i < j."""
    model = expit(score_differences(scores))
    # kl_div(p, q) = p log(p/q) - p + q >= 0; both halves of the matrix together hold both outcomes of each pair, and
    # the extra terms cancel between them.
    size = np.maximum((weights * kl_div(matrix, model)).sum(axis=(1, 2)), 0.0)  # rounding may leave -1e-17
    weak, moderate, strong = (
        np.array([_order(p, w > 0.0) for p, w in zip(matrix, weights, strict=True)]).reshape(-1, 3).T
    )
    return BTDistance(size, _residual_share(logits, weights), weak, moderate, strong)


def _residual_share(logits: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted share of the squared logits that is not a gradient, 0 where all logits are 0."""
    items = logits.shape[1]
    degree = weights.sum(axis=2)
    laplacian = (
        np.eye(items) * degree[:, :, np.newaxis] - weights + degree.mean(axis=1)[:, np.newaxis, np.newaxis] / items
    )
    flow = (weights * logits).sum(axis=2)
    scores = np.linalg.solve(laplacian, flow[:, :, np.newaxis])[:, :, 0]
    residual = (weights * np.square(logits - score_differences(scores))).sum(axis=(1, 2))
    signal = (weights * np.square(logits)).sum(axis=(1, 2))
    return np.where(signal > 0.0, residual / np.where(signal > 0.0, signal, 1.0), 0.0)


def _order(matrix: FloatArray, compared: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return shares of the fully compared triples that violate weak, moderate and strong stochastic transitivity."""
    items = len(matrix)
    different = ~np.eye(items, dtype=bool)
    compared = compared & different
    first, second, direct = matrix[:, :, np.newaxis], matrix[np.newaxis, :, :], matrix[:, np.newaxis, :]
    triple = compared[:, :, np.newaxis] & compared[np.newaxis, :, :] & compared[:, np.newaxis, :]
    if not triple.any():
        raise ValueError("order must have at least one triple of items with all three pairs compared, got none")
    premise = triple & (first >= 0.5) & (second >= 0.5)
    required = (np.float64(0.5), np.minimum(first, second), np.maximum(first, second))
    shares = []
    for level in required:
        violated = premise & (direct < level - _ORDER_TOLERANCE)
        # A triple counts once, whichever of its six orderings shows the violation.
        anyhow = np.logical_or.reduce([violated.transpose(axes) for axes in permutations(range(3))])
        shares.append(float(anyhow.sum() / triple.sum()))
    return shares[0], shares[1], shares[2]


def _scalar(distance: BTDistance) -> BTDistance:
    """Return the distance of a single table as numbers."""
    size, shape, weak, moderate, strong = (
        float(np.asarray(value).item())
        for value in (distance.size, distance.shape, distance.weak, distance.moderate, distance.strong)
    )
    return BTDistance(size, shape, weak, moderate, strong)
