"""Observed comparisons as a preference model: each pair's share of wins is taken for its probability."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import IntArray
from sim.preferences.base import PairwisePreference
from theory.bradley_terry_fit import fit_bradley_terry, score_differences
from theory.checks import FloatArray, check_choice, check_nonnegative


def from_counts(counts: ArrayLike, names: Sequence[str] | None = None, *, fit: str = "shares") -> PairwisePreference:
    """Build the preferences ``P_ij = wins_ij / (wins_ij + wins_ji)`` of an observed table of wins, or a fit to them.

    Parameters
    ----------
    counts : array_like of whole numbers, shape (K, K)
        Entry (i, j) counts the decisive comparisons that item i won against item j. Zero diagonal.
    names : sequence of str, optional
        Names of the K items, used in error messages; their indices otherwise.
    fit : {"shares", "bradley_terry"}
        The observed shares, or ``sigma(s_i - s_j)`` with the Bradley-Terry scores that fit the table best: the same
        votes as they would be if scores explained them.

    Returns
    -------
    PairwisePreference
        One prompt, one response an item.

    Raises
    ------
    ValueError
        If the table is not square, holds negative or fractional numbers or a nonzero diagonal, or if a pair was never
        decided; the pair is named.

    Notes
    -----
    The empirical shares are taken as the truth of a simulated world, as in a non-parametric bootstrap. They are the
    maximum-likelihood estimate of the matrix without any model, and may be 0 or 1.

    References
    ----------
    .. [1] Shares of wins as maximum-likelihood estimates of independent binomials: derived here.

    Examples
    --------
    >>> from_counts([[0, 3], [1, 0]]).probabilities
    array([[[0.5 , 0.75],
            [0.25, 0.5 ]]])
    """
    wins = check_win_counts(counts, names)
    decisive = wins + wins.T
    undecided = np.argwhere((decisive == 0) & ~np.eye(len(wins), dtype=bool))
    if undecided.size:
        first, second = (_label(int(i), names) for i in undecided[0])
        raise ValueError(
            f"every pair must have at least one decisive comparison, got none between {first} and {second} "
            f"({len(undecided) // 2} such pairs in all)"
        )
    if check_choice("fit", fit, ("shares", "bradley_terry")) == "bradley_terry":
        return PairwisePreference("from_counts", expit(score_differences(fit_bradley_terry(wins, names).scores)))
    return PairwisePreference("from_counts", win_shares(wins))


def win_shares(wins: IntArray) -> FloatArray:
    """Return ``wins_ij / (wins_ij + wins_ji)``, and 1/2 where a pair was never decided (the diagonal among them)."""
    decisive = wins + wins.swapaxes(-1, -2)
    return np.where(decisive > 0, wins / np.maximum(decisive, 1), 0.5)


def check_win_counts(counts: ArrayLike, names: Sequence[str] | None = None) -> IntArray:
    """Return `counts` as a square int64 table of wins with a zero diagonal, or raise naming the pair that breaks it."""
    values = check_nonnegative("counts", counts)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 2:
        raise ValueError(f"counts must have shape (K, K) with K >= 2, got {values.shape}")
    if names is not None and len(names) != len(values):
        raise ValueError(f"names must have one entry for each of the {len(values)} items, got {len(names)}")
    broken = np.argwhere(values != np.floor(values))
    if broken.size:
        i, j = (int(k) for k in broken[0])
        raise ValueError(
            f"counts must be whole numbers, got {values[i, j]:g} for {_label(i, names)} against {_label(j, names)}"
        )
    if np.diagonal(values).any():
        i = int(np.flatnonzero(np.diagonal(values))[0])
        raise ValueError(
            f"counts must be 0 on the diagonal, got {values[i, i]:g} for {_label(i, names)} against itself"
        )
    return values.astype(np.int64)


def _label(index: int, names: Sequence[str] | None) -> str:
    """Return what messages call an item."""
    return f"item {index}" if names is None else repr(names[index])
