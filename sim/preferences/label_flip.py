"""Label flips: Bradley-Terry preferences of which a share is recorded the wrong way round."""

import numpy as np
from numpy.typing import ArrayLike

from sim.preferences.arguments import check_number
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import bradley_terry


def label_flip(
    responses: int | None = None,
    prompts: int = 1,
    *,
    flip: float,
    scores: ArrayLike | None = None,
    signal: float | None = None,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences ``P_ij = (1 - 2 e) sigma(s_i - s_j) + e`` of noisily recorded Bradley-Terry comparisons.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random scores, read off `scores` otherwise.
    prompts : int, default 1
        Number of prompts of the random scores, each with scores of its own.
    flip : float
        Probability e in [0, 1/2] that winner and loser are exchanged.
    scores : array_like, shape (prompts, K) or (K,), optional
        The scores s in nats. Exactly one of `scores` and `signal` must be given.
    signal : float, optional
        Root mean square logit > 0 of the comparisons before flipping, over the pairs i != j, in nats.
    rng : numpy.random.Generator, optional
        Source of the random scores.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `scores` and `signal` is given, or an argument is out of range or of the wrong type.

    Notes
    -----
    The order of the responses stays, and with it strong stochastic transitivity, but the logits saturate at
    ``log((1 - e)/e)``: the flips matter most where the winner was certain. With e = 0 this is `bradley_terry` with the
    same scores, drawn from the same generator state; with e = 1/2 all labels are coin flips.

    References
    ----------
    .. [1] Mixture of both outcomes with the weights 1 - e and e: derived here.

    Examples
    --------
    >>> label_flip(flip=0.1, scores=[np.log(3.0), 0.0]).probabilities
    array([[[0.5, 0.7],
            [0.3, 0.5]]])
    """
    share = check_number("flip", flip, 0.5)
    clean = bradley_terry(responses, prompts, scores=scores, signal=signal, rng=rng).probabilities
    return PairwisePreference("label_flip", (1.0 - share) * clean + share * clean.swapaxes(1, 2))
