"""Minima of the logistic RDRO risk with one response beyond its inflection (proposition P9).

At a minimum over the simplex at most one response can lie where its summand is concave, so that the global minimum
is the main branch or one of the candidates "response j beyond its inflection, all others before theirs". Along
candidate j the risk is a function of ``r_j`` alone: all others share one multiplier ``lambda = phi_j(r_j) / q_j``, and
the risk falls while ``S < 1`` and rises while ``S > 1``. Its minima are therefore the crossings of S from below.
Derived here.
"""

import numpy as np
from numpy.typing import NDArray

from theory.bregman import GENERATORS
from theory.checks import FloatArray
from theory.stationarity import Cells, RelativeLogistic, denominators, pointwise_minimisers

__all__ = ["better_policies"]

_GRID = 65
_BISECTIONS = 60
_MARGIN = 1e-9  # for roundings of a necessary condition
_PAIRS_AT_ONCE = 4096  # bounds memory: pairs x grid x responses doubles
_BRANCH = RelativeLogistic()


def better_policies(
    cells: Cells, q: FloatArray, policy: FloatArray, residual: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return for each problem the better of its main-branch policy and all candidates, with residuals.

    A residual that is not small marks a problem without a main-branch solution: any candidate replaces it.
    """
    rows, js = _possible(cells, q)
    if not rows.size:
        return policy, residual
    best, found = policy.copy(), residual.copy()
    lowest, known = np.full(len(q), np.inf), np.unique(rows[residual[rows] <= 1e-10])
    lowest[known] = _risk(cells[known], q[known], policy[known])
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        for row, candidate in _local_minima(cells, q, rows[part], js[part]):
            total = candidate.sum()
            risk = float(_risk(cells[np.array([row])], q[[row]], candidate[None] / total)[0])
            if risk < lowest[row]:
                best[row], lowest[row], found[row] = candidate, risk, abs(total - 1.0)
    return best, found


def _risk(cells: Cells, q: FloatArray, policy: FloatArray) -> FloatArray:
    """Return ``sum_y A c(u) - B f'(u)``, the logistic RDRO risk of each problem."""
    logistic = GENERATORS["logistic"]
    with np.errstate(divide="ignore"):
        u = np.log(policy / np.where(q > 0, q, 1.0))
    gain = np.zeros_like(u)
    np.multiply(cells.preferred, logistic.slope(u), out=gain, where=cells.preferred > 0)
    return np.asarray((denominators("rdro", cells) * logistic.conjugate(u) - gain).sum(axis=1))


def _possible(cells: Cells, q: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (problem, response) pairs that can hold a minimum; a necessary condition discards nearly all of them.

    S must fall below 1 at some r_j beyond the inflection. The others' ratios are convex in the multiplier, hence
    ``S >= q_j r_j + sum of the others' B / A + T lambda`` with T the sum of the others' slopes at 0; and the multiplier
    ``(A_j - B_j / r_j) / (q_j (1 + r_j))`` is at least ``C / (q_j (1 + r_j))`` with C the numerator at the inflection.
    With ``m = q_j (1 + r_j)`` the least value of ``m + T C / m`` thus lies below what S leaves for it. The inflection
    is at least ``2 B / A``, so that ``q_j B_j / A_j`` alone is then below ``1 - sum_y q_y B_y / A_y``: few pairs pass
    that test, and theirs are the only roots worth taking.
    """
    divisor, ratio = denominators("rdro", cells), pointwise_minimisers("rdro", cells)
    share = q * ratio
    mass = q + share
    left = 1.0 - share.sum(axis=1, keepdims=True) + mass
    near = (mass + share < left * (1.0 + 2.0 * _MARGIN)) & (divisor > 0) & (q > 0)
    rows, js = np.nonzero(near)
    if not rows.size:
        return rows, js
    slope = share * mass / np.where(divisor > 0, divisor, 1.0)
    slopes = np.maximum(slope.sum(axis=1)[rows] - slope[near], 0.0)
    a, b = divisor[near], cells.preferred[near]
    root = np.sqrt(b)
    with_root = np.sqrt(a + b) + root
    product = slopes * a * (1.0 - root / with_root)
    m = np.maximum(np.sqrt(product), q[near] * (1.0 + root * with_root / a))
    possible = m + product / m < left[near] * (1.0 + _MARGIN)
    return rows[possible], js[possible]


def _local_minima(
    cells: Cells, q: FloatArray, rows: NDArray[np.intp], js: NDArray[np.intp]
) -> list[tuple[int, FloatArray]]:
    """Return (problem, policy before normalisation) at every crossing of S from below along the candidates."""
    a, b = denominators("rdro", cells)[rows, js], cells.preferred[rows, js]
    some, reference = cells[rows], q[rows]
    ratio_sum = (reference * pointwise_minimisers("rdro", some)).sum(axis=1)
    first = np.sqrt(b) * (np.sqrt(a + b) + np.sqrt(b)) / a
    # S reaches 1 here at the latest, in exact arithmetic; the margin is for roundings.
    last = ((1.0 - ratio_sum) / q[rows, js] + b / a) * (1.0 + 1e-12)
    position = np.linspace(0.0, 1.0, _GRID) ** 2  # denser near the inflection, where the branch turns fastest
    grid = first[:, None] + (last - first)[:, None] * position
    totals = np.stack([_totals(some, reference, js, grid[:, i])[0] for i in range(_GRID)], axis=1)
    pair, left = np.nonzero((totals[:, :-1] < 1.0) & (totals[:, 1:] >= 1.0))
    low, high = grid[pair, left], grid[pair, left + 1]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        below = _totals(some[pair], reference[pair], js[pair], middle)[0] < 1.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    policies = _totals(some[pair], reference[pair], js[pair], low)[1]
    return [(int(rows[i]), policy) for i, policy in zip(pair, policies, strict=True)]


def _totals(cells: Cells, q: FloatArray, js: NDArray[np.intp], ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return S and the policies when response j has the given ratio and all others share its multiplier."""
    each = np.arange(len(js))
    a, b = denominators("rdro", cells)[each, js], cells.preferred[each, js]
    with np.errstate(divide="ignore", invalid="ignore"):
        # phi = (A r - B) / (r (1 + r)), whose limit at r = 0 is A for a response without preferred mass
        phi = np.where(b > 0, (a - b / ratio) / (1.0 + ratio), a / (1.0 + ratio))
    multiplier = phi / q[each, js]
    target = multiplier[:, None] * q
    others = np.arange(q.shape[1]) != js[:, None]
    beyond = (others & (target > _BRANCH.peak(cells))).any(axis=1)
    policies = q * np.where(others, _BRANCH.ratios(cells, target)[0], ratio[:, None])
    # Where another response has no solution at this multiplier the risk already rises: count it as S > 1.
    return np.where(beyond, np.inf, policies.sum(axis=1)), policies
