"""The Bradley-Terry model: one score per response explains every comparison."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import check_exactly_one, check_given, check_random_size, check_rng
from sim.preferences.base import PairwisePreference
from theory.bradley_terry_fit import score_differences
from theory.checks import FloatArray, check_positive


def bradley_terry(
    responses: int | None = None,
    prompts: int = 1,
    *,
    scores: ArrayLike | None = None,
    signal: float | None = None,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the Bradley-Terry model ``P_ij = sigma(s_i - s_j)`` with given or random scores.

    Random scores are Gaussian, rescaled so that the root mean square of the logits s_i - s_j over the pairs i != j of
    each prompt is exactly `signal`.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random scores, read off `scores` otherwise.
    prompts : int, default 1
        Number of prompts of the random scores, each with scores of its own.
    scores : array_like, shape (prompts, K) or (K,), optional
        The scores s in nats. Exactly one of `scores` and `signal` must be given.
    signal : float, optional
        Root mean square logit rho > 0 of the random scores, in nats.
    rng : numpy.random.Generator, optional
        Source of the random scores.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError
        If not exactly one of `scores` and `signal` is given, or an argument is out of range.
    TypeError
        If an argument has the wrong type.

    References
    ----------
    .. [1] R. A. Bradley and M. E. Terry, "Rank analysis of incomplete block designs: I. The method of paired
       comparisons", Biometrika 39, 1952.

    Examples
    --------
    >>> bradley_terry(scores=[np.log(3.0), 0.0]).probabilities
    array([[[0.5 , 0.75],
            [0.25, 0.5 ]]])
    """
    check_exactly_one(scores=scores, signal=signal)
    if scores is not None:
        values = check_given("scores", scores, "K", responses, prompts)
        return PairwisePreference("bradley_terry", expit(score_differences(values)))
    shape = check_random_size("scores", responses, prompts)
    gradient = unit_gradient(check_rng(rng).standard_normal(shape))
    return PairwisePreference("bradley_terry", expit(check_positive(signal, "signal") * gradient))


def unit_gradient(scores: FloatArray) -> FloatArray:
    """Return the gradient of the scores, scaled to unit root mean square over the pairs i != j."""
    return unit_rms(score_differences(scores))


def unit_rms(flow: FloatArray) -> FloatArray:
    """Return skew-symmetric matrices (..., K, K) scaled to unit root mean square over the pairs i != j."""
    responses = flow.shape[-1]
    mean_square = np.square(flow).sum(axis=(-2, -1), keepdims=True) / (responses * (responses - 1))
    if np.any(mean_square == 0.0):
        raise ValueError("a flow must have a nonzero entry to be scaled to unit root mean square, got all zeros")
    return flow / np.sqrt(mean_square)
