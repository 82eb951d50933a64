"""The Hodge model: a dial from Bradley-Terry to purely cyclic preferences at constant signal."""

import numpy as np
from scipy.special import expit

from sim.preferences.arguments import check_integer, check_rng
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_gradient, unit_rms
from theory.checks import FloatArray, as_floats, check_positive


def hodge(
    responses: int, prompts: int = 1, *, cyclic_share: float, signal: float, rng: np.random.Generator
) -> PairwisePreference:
    """Build random preferences whose logits have an exact cyclic share and an exact size.

    ``P = sigma(rho [sqrt(1 - lam) G + sqrt(lam) C])`` elementwise, where G_ij = s_i - s_j is the gradient of Gaussian
    scores and C is a Gaussian skew-symmetric matrix without gradient part, both of unit root mean square over the
    pairs i != j; rho is `signal` and lam is `cyclic_share`.

    Parameters
    ----------
    responses : int
        Number of responses K >= 3 (two responses cannot form a cycle).
    prompts : int, default 1
        Number of prompts, each with matrices of its own.
    cyclic_share : float
        lam in [0, 1]: the share of the squared logits that no scores explain. 0 is Bradley-Terry, 1 a pure cycle flow.
    signal : float
        Root mean square logit rho > 0 in nats, the same for every lam.
    rng : numpy.random.Generator
        Source of G and C. One state gives one (G, C), whatever lam and rho, so a sweep of lam turns a single dial.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Notes
    -----
    C has zero row sums (it is divergence-free), hence ``sum_ij G_ij C_ij = 2 sum_i s_i sum_j C_ij = 0``: the parts are
    orthogonal, their squared sizes add up, and the cyclic share of the logits is lam exactly. The linear mixture
    ``(1 - lam) G + lam C`` would change the signal along with the share.

    References
    ----------
    .. [1] X. Jiang, L.-H. Lim, Y. Yao and Y. Ye, "Statistical ranking and combinatorial Hodge theory", Mathematical
       Programming 127, 2011 (the decomposition). The mixture at constant signal: derived here.

    Examples
    --------
    >>> model = hodge(5, cyclic_share=0.3, signal=1.5, rng=np.random.default_rng(0))
    >>> logits = np.log(model.probabilities[0]) - np.log(model.probabilities[0].T)
    >>> round(float(np.sqrt(np.square(logits).sum() / 20)), 12)
    1.5
    """
    shape = (check_integer("prompts", prompts, 1), check_integer("responses", responses, 3))
    check_rng(rng)
    scores = rng.standard_normal(shape)
    noise = rng.standard_normal((*shape, shape[1]))
    return PairwisePreference("hodge", expit(hodge_logits(scores, noise, cyclic_share=cyclic_share, signal=signal)))


def hodge_logits(scores: FloatArray, noise: FloatArray, *, cyclic_share: float, signal: float) -> FloatArray:
    """Return the Hodge model's logits for given scores and a given matrix to take the cyclic part from.

    Parameters
    ----------
    scores : ndarray, shape (..., K)
        Scores s whose gradient is the transitive part; not all equal.
    noise : ndarray, shape (..., K, K)
        Any matrix; only the divergence-free part of its skew-symmetric part is used.
    cyclic_share, signal : float
        As in `hodge`.

    Returns
    -------
    ndarray, shape (..., K, K)
        Skew-symmetric logits in nats.

    Examples
    --------
    >>> cycle = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    >>> hodge_logits(np.arange(3.0), cycle, cyclic_share=1.0, signal=2.0)
    array([[ 0.,  2., -2.],
           [-2.,  0.,  2.],
           [ 2., -2.,  0.]])
    """
    check_positive(signal, "signal")
    if not 0.0 <= as_floats("cyclic_share", cyclic_share) <= 1.0:
        raise ValueError(f"cyclic_share must lie in [0, 1], got {cyclic_share!r}")
    skew = noise - noise.swapaxes(-1, -2)
    divergence = skew.mean(axis=-1)  # the scores of the gradient part when all pairs weigh the same
    cyclic = unit_rms(skew - (divergence[..., :, np.newaxis] - divergence[..., np.newaxis, :]))
    return signal * (np.sqrt(1.0 - cyclic_share) * unit_gradient(scores) + np.sqrt(cyclic_share) * cyclic)
