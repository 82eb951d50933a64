"""Noisy sorting: the better response wins with one and the same probability, however much better it is."""

import numpy as np
from numpy.typing import ArrayLike

from sim.preferences.arguments import check_given, check_number, check_random_size, check_rng
from sim.preferences.base import PairwisePreference
from theory.bradley_terry_fit import score_differences


def noisy_sorting(
    responses: int | None = None,
    prompts: int = 1,
    *,
    gamma: float,
    ranks: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences ``P_ij = 1/2 + gamma sgn(rank_j - rank_i)`` of a given or random ranking.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for a random ranking, read off `ranks` otherwise.
    prompts : int, default 1
        Number of prompts of the random ranking, each with a uniformly random ranking of its own.
    gamma : float
        Margin in [0, 1/2] by which the better response is preferred. All logits have the size ``2 artanh(2 gamma)``.
    ranks : array_like, shape (prompts, K) or (K,), optional
        Rank of each response, different numbers of which the smallest is the best.
    rng : numpy.random.Generator, optional
        Source of the random ranking.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If two ranks of a prompt are equal, or an argument is out of range or of the wrong type.

    Notes
    -----
    Strong stochastic transitivity holds everywhere: where i is preferred to j and j to k, P_ik is as large as both.
    Still no scores explain the probabilities of three responses or more unless gamma = 0, as the logits would have to
    add up along the ranking: preferences need no cycles to be different from Bradley-Terry.

    References
    ----------
    .. [1] M. Braverman and E. Mossel, "Noisy sorting without resampling", SODA 2008, arXiv 0707.1051 (a comparison is
       right with probability 1/2 + gamma).

    Examples
    --------
    >>> noisy_sorting(gamma=0.25, ranks=[2, 1, 3]).probabilities
    array([[[0.5 , 0.25, 0.75],
            [0.75, 0.5 , 0.75],
            [0.25, 0.25, 0.5 ]]])
    """
    margin = check_number("gamma", gamma, 0.5)
    if ranks is None:
        shape = check_random_size("ranks", responses, prompts)
        places = check_rng(rng).permuted(np.broadcast_to(np.arange(shape[1], dtype=float), shape), axis=1)
    else:
        places = check_given("ranks", ranks, "K", responses, prompts)
        ordered = np.sort(places, axis=1)
        ties = ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]]
        if ties.size:
            raise ValueError(f"ranks must differ between the responses of a prompt, got {ties[0]:g} twice")
    return PairwisePreference("noisy_sorting", 0.5 + margin * np.sign(score_differences(-places)))
