"""Distances between policies, and what a policy is worth against another one under a preference matrix."""

import numpy as np
from numpy.typing import ArrayLike

from theory.checks import FloatArray, as_floats, check_probabilities, check_same_shape

__all__ = [
    "chi_square_divergence",
    "hellinger_distance",
    "kl_divergence",
    "nash_gap",
    "total_variation",
    "win_rate",
]


def total_variation(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """Total variation distance.

    ``1/2 sum_y |p(y) - q(y)|`` over the last axis.

    Parameters
    ----------
    p, q : array_like
        Probabilities of one shape (..., responses).

    Returns
    -------
    ndarray
        Distances in [0, 1], shape (...).

    Raises
    ------
    ValueError
        If a law is not a probability vector or the shapes differ.

    Examples
    --------
    >>> float(total_variation([0.5, 0.5], [1.0, 0.0]))
    0.5
    """
    first, second = _laws(p, q)
    return np.asarray(0.5 * np.abs(first - second).sum(axis=-1))


def kl_divergence(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """Kullback-Leibler divergence.

    ``sum_y p(y) log(p(y)/q(y))`` over the last axis, with ``0 log 0 = 0``.

    Parameters
    ----------
    p, q : array_like
        Probabilities of one shape (..., responses).

    Returns
    -------
    ndarray
        Divergences in nats, in [0, inf], shape (...); inf where q misses a response of p.

    Raises
    ------
    ValueError
        If a law is not a probability vector or the shapes differ.

    Notes
    -----
    The summands ``p log(p/q) - p + q`` are not negative, so that nothing cancels in their sum; what remains is the
    rounding of each, a relative error of about eps q / abs(p - q) where the laws nearly agree.

    Examples
    --------
    >>> float(kl_divergence([0.5, 0.5], [0.25, 0.75]).round(6))
    0.143841
    """
    first, second = _laws(p, q)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # log1p keeps the digits of a ratio near one; a plain log keeps those of a ratio far from one.
        relative = (first - second) / second
        logs = np.where(np.abs(relative) < 0.5, np.log1p(relative), np.log(first) - np.log(second))
    terms = second - first + np.where(first > 0, first * np.where(first > 0, logs, 0.0), 0.0)
    return np.asarray(np.maximum(terms, 0.0).sum(axis=-1))


def hellinger_distance(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """Hellinger distance.

    ``sqrt(1/2 sum_y (sqrt p(y) - sqrt q(y))^2)`` over the last axis.

    Parameters
    ----------
    p, q : array_like
        Probabilities of one shape (..., responses).

    Returns
    -------
    ndarray
        Distances in [0, 1], shape (...).

    Raises
    ------
    ValueError
        If a law is not a probability vector or the shapes differ.

    Examples
    --------
    >>> float(hellinger_distance([1.0, 0.0], [0.0, 1.0]))
    1.0
    """
    first, second = _laws(p, q)
    return np.asarray(np.sqrt(0.5 * ((np.sqrt(first) - np.sqrt(second)) ** 2).sum(axis=-1)))


def chi_square_divergence(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """Pearson chi-square divergence.

    ``sum_y (p(y) - q(y))^2 / q(y)`` over the last axis.

    Parameters
    ----------
    p, q : array_like
        Probabilities of one shape (..., responses).

    Returns
    -------
    ndarray
        Divergences in [0, inf], shape (...); inf where q misses a response of p.

    Raises
    ------
    ValueError
        If a law is not a probability vector or the shapes differ.

    Examples
    --------
    >>> float(chi_square_divergence([0.5, 0.5], [0.25, 0.75]).round(6))
    0.333333
    """
    first, second = _laws(p, q)
    terms = np.zeros_like(first)
    with np.errstate(divide="ignore", over="ignore"):
        np.divide((first - second) ** 2, second, out=terms, where=first != second)
    return np.asarray(terms.sum(axis=-1))


def win_rate(policy: ArrayLike, opponent: ArrayLike, preference: ArrayLike) -> FloatArray:
    """Probability that a response of one policy beats a response of another.

    ``sum_ij policy_i opponent_j P_ij`` with ``P_ij = P(i beats j)``.

    Parameters
    ----------
    policy, opponent : array_like
        Probabilities of one shape (..., responses).
    preference : array_like
        P, shape (..., responses, responses), with ``P_ij + P_ji = 1``; leading axes, from the first on, may be left
        out and then share one P.

    Returns
    -------
    ndarray
        Win rates in [0, 1], shape (...).

    Raises
    ------
    ValueError
        If a law is not a probability vector, shapes differ, or P is not a preference matrix.

    Examples
    --------
    >>> float(win_rate([1.0, 0.0], [0.0, 1.0], [[0.5, 0.8], [0.2, 0.5]]))
    0.8
    """
    first, second = _laws(policy, opponent)
    matrix = _preference(preference, first)
    return np.asarray(np.einsum("...i,...ij,...j->...", first, matrix, second))


def nash_gap(policy: ArrayLike, preference: ArrayLike) -> FloatArray:
    """How much the best response to a policy wins beyond one half.

    ``max_i sum_j P_ij policy_j - 1/2``: zero exactly at a Nash policy of the symmetric preference game.

    Parameters
    ----------
    policy : array_like
        Probabilities, shape (..., responses).
    preference : array_like
        P, shape (..., responses, responses), with ``P_ij + P_ji = 1``; leading axes, from the first on, may be left
        out and then share one P.

    Returns
    -------
    ndarray
        Gaps in [0, 1/2], shape (...).

    Raises
    ------
    ValueError
        If the policy is not a probability vector, shapes differ, or P is not a preference matrix.

    References
    ----------
    .. [1] Munos et al., "Nash Learning from Human Feedback", arXiv 2312.00886, section 3.

    Examples
    --------
    >>> float(nash_gap([1.0, 0.0], [[0.5, 0.2], [0.8, 0.5]]).round(6))
    0.3
    """
    law = check_probabilities("policy", policy)
    matrix = _preference(preference, law)
    return np.asarray(np.einsum("...ij,...j->...i", matrix, law).max(axis=-1) - 0.5)


def _laws(p: ArrayLike, q: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return two probability arrays of one shape."""
    first, second = check_probabilities("p", p), check_probabilities("q", q)
    check_same_shape(p=first, q=second)
    return first, second


def _preference(preference: ArrayLike, policy: FloatArray) -> FloatArray:
    """Return a preference matrix for policies of the given shape, or for the last axes of it."""
    matrix = as_floats("preference", preference)
    full = (*policy.shape, policy.shape[-1])
    if matrix.ndim < 2 or matrix.shape != full[-matrix.ndim :]:
        raise ValueError(f"preference must have shape {full}, or the last axes of it, got {matrix.shape}")
    if matrix.min() < 0 or np.abs(matrix + np.swapaxes(matrix, -1, -2) - 1.0).max() > 1e-9:
        raise ValueError("preference must satisfy P_ij >= 0 and P_ij + P_ji = 1, got a matrix that does not")
    return matrix
