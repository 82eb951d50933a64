"""The general preference model: responses as vectors, compared through a rotation by a right angle."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import (
    check_exactly_one,
    check_given,
    check_integer,
    check_random_size,
    check_rng,
)
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_rms
from theory.checks import FloatArray, check_positive


def general_preference(
    responses: int | None = None,
    prompts: int = 1,
    *,
    vectors: ArrayLike | None = None,
    blocks: int | None = None,
    tau: float | None = None,
    signal: float | None = None,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences ``P_ij = sigma(<R v_i, v_j> / tau)`` of given or random embedding vectors v.

    R turns each of the k coordinate planes by a right angle: it is block-diagonal with blocks ``[[0, -1], [1, 0]]``,
    so that ``<R v_i, v_j> = sum_l (v_i,2l v_j,2l+1 - v_i,2l+1 v_j,2l)`` with l = 0, ..., k - 1.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random vectors, read off `vectors` otherwise.
    prompts : int, default 1
        Number of prompts of the random vectors, each with vectors of its own.
    vectors : array_like, shape (prompts, K, 2k) or (K, 2k), optional
        The embeddings v, of even dimension. Exactly one of `vectors` and `blocks` must be given.
    blocks : int, optional
        Number k >= 1 of planes of random vectors, which are uniform on the unit sphere.
    tau : float, optional
        Temperature > 0. Exactly one of `tau` and `signal` must be given.
    signal : float, optional
        Root mean square logit > 0 over the pairs i != j, in nats; sets the temperature of each prompt.
    rng : numpy.random.Generator, optional
        Source of the random vectors.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `vectors` and `blocks` or of `tau` and `signal` is given, or an argument is out of range
        or of the wrong type.

    Notes
    -----
    One plane with ``v_i = (s_i, c)`` gives ``<R v_i, v_j> = c (s_i - s_j)``: Bradley-Terry is a special case. Unit
    vectors in one plane give ``sin(theta_j - theta_i)``, the sine kind of `rock_paper_scissors`. Since any
    skew-symmetric matrix is a sum of K/2 such planes, every matrix of preferences is reached with K/2 blocks.

    References
    ----------
    .. [1] Y. Zhang, G. Zhang, Y. Wu, K. Xu and Q. Gu, "Beyond Bradley-Terry models: a general preference model for
       language model alignment", arXiv 2410.02197 (the score <R v_i, v_j>); the temperature and the sign of R: after
       the same.

    Examples
    --------
    >>> general_preference(vectors=[[np.log(3.0), 1.0], [0.0, 1.0]], tau=1.0).probabilities
    array([[[0.5 , 0.75],
            [0.25, 0.5 ]]])
    """
    check_exactly_one(vectors=vectors, blocks=blocks)
    check_exactly_one(tau=tau, signal=signal)
    if vectors is None:
        shape = check_random_size("vectors", responses, prompts)
        normal = check_rng(rng).standard_normal((*shape, 2 * check_integer("blocks", blocks, 1)))
        embedding = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    else:
        embedding = check_given("vectors", vectors, "K, 2k", responses, prompts)
        if embedding.shape[-1] % 2:
            raise ValueError(f"vectors must have an even dimension 2k, got {embedding.shape[-1]}")
    flow = _turned_products(embedding)
    logits = flow / check_positive(tau, "tau") if signal is None else check_positive(signal, "signal") * unit_rms(flow)
    return PairwisePreference("general_preference", expit(logits))


def _turned_products(vectors: FloatArray) -> FloatArray:
    """Return <R v_i, v_j>, (prompts, K, K), of vectors (prompts, K, 2k)."""
    half = np.einsum("xil,xjl->xij", vectors[..., ::2], vectors[..., 1::2])
    return half - half.swapaxes(1, 2)
