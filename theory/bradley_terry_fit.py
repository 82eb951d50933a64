"""Maximum-likelihood fits of the Bradley-Terry model, for many tables at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.arrays import log_sigmoid
from theory.checks import FloatArray, check_nonnegative

# Newton's error is squared at each step: once a full step moves no score by more than this, the scores it leads to
# are accurate to about its square, far below rounding.
_STEP_TOLERANCE = 1e-8
_MAX_ITERATIONS = 100
_LIFT = 128 * np.finfo(float).eps
# Logistic losses are curved over a few nats: longer steps only overshoot. Within 100 of them no curvature underflows.
_LONGEST_STEP = 3.0
_MAX_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class BradleyTerryFit:
    """Bradley-Terry scores of one or many tables.

    Parameters
    ----------
    scores : ndarray, shape (..., K)
        Maximum-likelihood scores in nats, with mean zero.
    status : ndarray of str, shape (...,)
        "ok", or "nonconverged" where Newton's method ran out of steps: weights that differ by more than about 1e16
        in one table are beyond double precision.
    iterations : int
        Newton steps taken for the slowest table.
    """

    scores: FloatArray
    status: NDArray[np.str_]
    iterations: int


def fit_bradley_terry(wins: ArrayLike, names: Sequence[str] | None = None) -> BradleyTerryFit:
    """Fit Bradley-Terry scores to one or many tables of wins by maximum likelihood.

    Minimises ``-sum_ij wins_ij log sigma(s_i - s_j)`` over scores of mean zero, by Newton's method with step halving,
    for all tables at once.

    Parameters
    ----------
    wins : array_like, shape (..., K, K)
        Entry (i, j) is how often, or with what weight, item i won against item j; not negative, K >= 2. The diagonal
        plays no role.
    names : sequence of str, optional
        Names of the K items, used in error messages; their indices otherwise.

    Returns
    -------
    BradleyTerryFit
        Scores, status and number of Newton steps.

    Raises
    ------
    ValueError
        If a table is not strongly connected, so that no finite maximum-likelihood scores exist: from each item to each
        other one there must be a chain of wins. A pair without such a chain is named.

    References
    ----------
    .. [1] L. R. Ford, "Solution of a ranking problem from binary comparisons", American Mathematical Monthly 64, 1957
       (existence and uniqueness).

    Examples
    --------
    >>> fit = fit_bradley_terry([[0, 3], [1, 0]])
    >>> bool(np.isclose(fit.scores[0] - fit.scores[1], np.log(3.0)))
    True
    """
    table = check_nonnegative("wins", wins)
    if table.ndim < 2 or table.shape[-1] != table.shape[-2] or table.shape[-1] < 2:
        raise ValueError(f"wins must have shape (..., K, K) with K >= 2, got {table.shape}")
    tables = table.reshape(-1, *table.shape[-2:])
    unreachable = np.argwhere(~win_chains(tables))
    if unreachable.size:
        _, winner, loser = (int(i) for i in unreachable[0])
        label = [f"item {k}" if names is None else repr(names[k]) for k in (winner, loser)]
        raise ValueError(
            "the comparison graph must be strongly connected for Bradley-Terry scores to exist, "
            f"got no chain of wins from {label[0]} to {label[1]}"
        )
    fit = newton_scores(tables)
    return BradleyTerryFit(
        fit.scores.reshape(table.shape[:-1]), fit.status.reshape(table.shape[:-2]), iterations=fit.iterations
    )


def score_differences(scores: FloatArray) -> FloatArray:
    """Return the differences ``s_i - s_j`` of scores of shape (..., K)."""
    return np.asarray(scores[..., :, np.newaxis] - scores[..., np.newaxis, :])


def win_chains(tables: FloatArray | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether a chain of wins leads from i to j, (tables, K, K): powers of the adjacency matrix by squaring."""
    reach = ((tables > 0) | np.eye(tables.shape[-1], dtype=bool)).astype(np.float32)
    for _ in range(max(1, (tables.shape[-1] - 1).bit_length())):
        reach = np.minimum(reach @ reach, np.float32(1.0))
    return np.asarray(reach > 0)


def newton_scores(tables: FloatArray) -> BradleyTerryFit:
    """Return maximum-likelihood scores of strongly connected tables (tables, K, K), all at once."""
    batch, items = tables.shape[:2]
    tables = tables * ~np.eye(items, dtype=bool)
    tables = tables / np.maximum(tables.sum(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    total = tables + tables.swapaxes(1, 2)
    scores, status = np.zeros((batch, items)), np.full(batch, "nonconverged")
    active, iterations = np.arange(batch), 0
    while active.size and iterations < _MAX_ITERATIONS:
        iterations += 1
        step = _newton_step(tables[active], total[active], scores[active])
        scores[active], full = _line_search(tables[active], scores[active], step)
        finished = full & (np.abs(step).max(axis=1) <= _STEP_TOLERANCE)
        status[active[finished]] = "ok"
        active = active[~finished]
    return BradleyTerryFit(scores, status, iterations)


def _newton_step(tables: FloatArray, total: FloatArray, scores: FloatArray) -> FloatArray:
    """Return the step -H^-1 g of the negative log-likelihood, with mean zero, shortened where it is too long."""
    chance = np.exp(log_sigmoid(score_differences(scores)))
    # Losses times the chance of a win less wins times the chance of a loss: exact zeros cancel, unlike in N p - wins.
    gradient = (tables.swapaxes(1, 2) * chance - tables * chance.swapaxes(1, 2)).sum(axis=2)
    curvature = total * chance * chance.swapaxes(1, 2)
    # H is the Laplacian of the curvatures, singular along constant scores: hold the last score, solve for the others.
    # Scaled to a unit diagonal, and lifted by some rounding errors, it stays regular where items are barely connected.
    scale = np.sqrt(curvature.sum(axis=2))
    hessian = (1.0 + _LIFT) * np.eye(scores.shape[1]) - curvature / (scale[:, :, np.newaxis] * scale[:, np.newaxis, :])
    step = np.zeros_like(scores)
    scaled = np.linalg.solve(hessian[:, :-1, :-1], (gradient / scale)[:, :-1, np.newaxis])
    step[:, :-1] = -scaled[:, :, 0] / scale[:, :-1]
    step -= step.mean(axis=1, keepdims=True)
    return np.asarray(
        step * np.minimum(1.0, _LONGEST_STEP / np.maximum(np.abs(step).max(axis=1, keepdims=True), _STEP_TOLERANCE))
    )


def _line_search(tables: FloatArray, scores: FloatArray, step: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Halve each table's step until its loss does not rise; return the new scores and where the full step was taken."""
    loss = _loss(tables, scores)
    slack = 1e-14 * np.abs(loss)  # rounding of a sum: near the minimum the loss is flat to this order
    factor = np.ones(len(scores))
    for _ in range(_MAX_HALVINGS):
        rising = _loss(tables, scores + factor[:, np.newaxis] * step) > loss + slack
        if not rising.any():
            break
        factor[rising] /= 2.0
    return scores + factor[:, np.newaxis] * step, factor == 1.0


def _loss(tables: FloatArray, scores: FloatArray) -> FloatArray:
    """Return the negative log-likelihood of each table."""
    return np.asarray(-(tables * log_sigmoid(score_differences(scores))).sum(axis=(1, 2)))
