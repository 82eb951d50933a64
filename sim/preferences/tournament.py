"""Tournaments: one response of each pair is the favourite, and which one follows no ranking."""

import numpy as np
from numpy.typing import ArrayLike

from sim.preferences.arguments import check_given, check_number, check_random_size, check_rng
from sim.preferences.base import PairwisePreference
from theory.checks import FloatArray


def tournament(
    responses: int | None = None,
    prompts: int = 1,
    *,
    gamma: float,
    beats: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences ``P_ij = 1/2 + gamma (2 T_ij - 1)`` of a given or random tournament T.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for a random tournament, read off `beats` otherwise.
    prompts : int, default 1
        Number of prompts of the random tournament, each with a tournament of its own.
    gamma : float
        Margin in [0, 1/2] by which the favourite of a pair is preferred. All logits have the size
        ``2 artanh(2 gamma)``.
    beats : array_like, shape (prompts, K, K) or (K, K), optional
        T: entry (i, j) is 1 (or True) if i is preferred to j and 0 otherwise, one of each for a pair, and 0 on the
        diagonal.
        By default the favourite of each pair is drawn by a fair coin.
    rng : numpy.random.Generator, optional
        Source of the random tournament.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If `beats` is not a tournament, or an argument is out of range or of the wrong type.

    Notes
    -----
    A transitive tournament is `noisy_sorting`. A random one has a quarter of its triples cyclic on average, and these
    are the triples that violate weak stochastic transitivity.

    References
    ----------
    .. [1] J. W. Moon, "Topics on tournaments", 1968 (after; tournaments and their cyclic triples). The margin: derived
       here.

    Examples
    --------
    >>> tournament(gamma=0.2, beats=[[0, 1, 0], [0, 0, 1], [1, 0, 0]]).probabilities
    array([[[0.5, 0.7, 0.3],
            [0.3, 0.5, 0.7],
            [0.7, 0.3, 0.5]]])
    """
    margin = check_number("gamma", gamma, 0.5)
    if beats is None:
        shape = check_random_size("tournaments", responses, prompts)
        coins = np.triu(np.where(check_rng(rng).random((*shape, shape[1])) < 0.5, 1.0, -1.0), 1)
        favourite = coins - coins.swapaxes(1, 2)
    else:
        wins = _check_tournament(beats, responses, prompts)
        favourite = wins - wins.swapaxes(1, 2)
    return PairwisePreference("tournament", 0.5 + margin * favourite)


def cyclic_triples(beats: ArrayLike) -> int:
    """Return the number of triples of a tournament that form a circle, ``C(K, 3) - sum_i C(d_i, 2)``.

    d_i is the number of responses that i beats: a triple is not a circle just if one of its members beats both others.

    Parameters
    ----------
    beats : array_like, shape (K, K)
        The tournament T, as in `tournament`.

    Returns
    -------
    int
        Number of cyclic triples, at most (K^3 - K)/24 for odd K and (K^3 - 4 K)/24 for even K.

    Raises
    ------
    ValueError
        If `beats` is not a tournament.

    References
    ----------
    .. [1] After M. G. Kendall and B. Babington Smith, "On the method of paired comparisons", Biometrika 31, 1940. The
       count: derived here.

    Examples
    --------
    >>> cyclic_triples([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    1
    """
    wins = _check_tournament(beats, None, 1)
    if len(wins) != 1:
        raise ValueError(f"beats must have shape (K, K), got {wins.shape}: count one tournament at a time")
    number, beaten = wins.shape[1], wins[0].sum(axis=1)
    return number * (number - 1) * (number - 2) // 6 - int((beaten * (beaten - 1.0)).sum()) // 2


def _check_tournament(beats: ArrayLike, responses: int | None, prompts: int) -> FloatArray:
    """Return T as zeros and ones (prompts, K, K), or raise unless one response of each pair beats the other."""
    table = np.asarray(beats)
    wins = check_given("beats", table.astype(float) if table.dtype == bool else table, "K, K", responses, prompts)
    different = ~np.eye(wins.shape[1], dtype=bool)
    wrong = (wins + wins.swapaxes(1, 2) != different) | ((wins != 0.0) & (wins != 1.0))
    if wrong.any():
        x, i, j = (int(k) for k in np.argwhere(wrong)[0])
        raise ValueError(
            "beats must hold a 1 and a 0 for each pair, and 0 on the diagonal, got "
            f"{wins[x, i, j]:g} and {wins[x, j, i]:g} for responses {i} and {j} at prompt {x}"
        )
    return wins
