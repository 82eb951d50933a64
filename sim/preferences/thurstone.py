"""Thurstone's law of comparative judgement: each response has a normal worth, and the larger one wins."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr

from sim.preferences.arguments import (
    check_absent,
    check_exactly_one,
    check_given,
    check_number,
    check_random_size,
    check_rng,
)
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_gradient, unit_rms
from theory.bradley_terry_fit import score_differences
from theory.checks import FloatArray, check_choice, check_positive, check_same_shape

_CASES = ("V", "III", "I")


def thurstone(
    responses: int | None = None,
    prompts: int = 1,
    *,
    case: str = "V",
    means: ArrayLike | None = None,
    variances: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    signal: float | None = None,
    log_spread: float = 1.0,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences ``P_ij = Phi((m_i - m_j) / sqrt(v_i + v_j - 2 c_ij))`` of normal worths.

    A judge perceives response i at worth ``N(m_i, v_i)``, with covariance c_ij between two responses, and prefers the
    one that came out higher; Phi is the standard normal distribution function.

    - case V: all variances 1 and no covariances, ``P_ij = Phi((m_i - m_j) / sqrt(2))``;
    - case III: variances differ, no covariances;
    - case I: any covariance matrix.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random worths, read off `means` otherwise.
    prompts : int, default 1
        Number of prompts of the random worths, each with worths of its own.
    case : {"V", "III", "I"}, default "V"
        Thurstone's case.
    means : array_like, shape (prompts, K) or (K,), optional
        The means m. Exactly one of `means` and `signal` must be given.
    variances : array_like, shape (prompts, K) or (K,), optional
        The variances v > 0; with the means of case III, and only there.
    covariance : array_like, shape (prompts, K, K) or (K, K), optional
        Symmetric covariance matrix; with the means of case I, and only there. Each ``v_i + v_j - 2 c_ij`` must be
        positive.
    signal : float, optional
        Root mean square logit > 0 of the random model over the pairs i != j, in nats: normal means are rescaled
        until the logits of P have it.
    log_spread : float, default 1
        Standard deviation >= 0 of the logarithms of random variances, in the cases III and I.
    rng : numpy.random.Generator, optional
        Source of the random worths.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `means` and `signal` is given, what a case needs is missing or superfluous, or an
        argument is out of range or of the wrong type.

    Notes
    -----
    Case V is nearly Bradley-Terry, with a normal link instead of a logistic one: it tests a wrong link, not cyclic
    preferences, and satisfies strong stochastic transitivity. All three cases satisfy weak stochastic transitivity,
    as P_ij > 1/2 where m_i > m_j. Equal variances and equal covariances are case V again, which is why case V may
    assume them. In case I the random correlations are those of a Gaussian K x K matrix times its transpose.

    References
    ----------
    .. [1] L. L. Thurstone, "A law of comparative judgment", Psychological Review 34, 1927 (after; the cases).
    .. [2] F. Mosteller, "Remarks on the method of paired comparisons: III. A test of significance for paired
       comparisons when equal standard deviations and equal correlations are assumed", Psychometrika 16, 1951 (after).

    Examples
    --------
    >>> thurstone(means=[1.0, 0.0]).probabilities.round(4)
    array([[[0.5   , 0.7602],
            [0.2398, 0.5   ]]])
    >>> thurstone(case="III", means=[1.0, 0.0], variances=[4.0, 5.0]).probabilities.round(4)
    array([[[0.5   , 0.6306],
            [0.3694, 0.5   ]]])
    """
    check_choice("case", case, _CASES)
    check_exactly_one(means=means, signal=signal)
    if means is None:
        check_absent("must only be given together with means", variances=variances, covariance=covariance)
        shape = check_random_size("worths", responses, prompts)
        spread = check_number("log_spread", log_spread)
        generator = check_rng(rng)
        gradient = unit_gradient(generator.standard_normal(shape))
        z = unit_rms(gradient / np.sqrt(_difference_variances(_random_covariance(case, shape, spread, generator))))
        return PairwisePreference("thurstone", ndtr(_scale_to_signal(z, check_positive(signal, "signal"))))
    centre = check_given("means", means, "K", responses, prompts)
    worths = _given_covariance(case, centre, variances, covariance)
    z = score_differences(centre) / np.sqrt(_difference_variances(worths))
    return PairwisePreference("thurstone", ndtr(z))


def _given_covariance(
    case: str, means: FloatArray, variances: ArrayLike | None, covariance: ArrayLike | None
) -> FloatArray:
    """Return the covariance matrices (prompts, K, K) of given worths, or raise unless they fit the case."""
    size = {"responses": means.shape[1], "prompts": len(means)}
    if case != "III":
        check_absent('must only be given for case = "III"', variances=variances)
    if case != "I":
        check_absent('must only be given for case = "I"', covariance=covariance)
    if case == "V":
        return np.broadcast_to(np.eye(means.shape[1]), (*means.shape, means.shape[1]))
    needed, given = ("variances", variances) if case == "III" else ("covariance", covariance)
    if given is None:
        raise ValueError(f'{needed} must be given for case = "{case}", got None')
    if case == "III":
        spreads = check_given("variances", given, "K", **size)
        check_same_shape(variances=spreads, means=means)
        if np.any(spreads <= 0.0):
            raise ValueError(f"variances must be positive, got {spreads.min():g}")
        return np.eye(means.shape[1]) * spreads[:, np.newaxis]
    matrices = check_given("covariance", given, "K, K", **size)
    check_same_shape(covariance=matrices[:, 0], means=means)
    if not np.allclose(matrices, matrices.swapaxes(1, 2), rtol=1e-12, atol=0.0):
        raise ValueError("covariance must be symmetric, got a matrix that differs from its transpose")
    return matrices


def _difference_variances(covariance: FloatArray) -> FloatArray:
    """Return ``v_i + v_j - 2 c_ij``, and 1 on the diagonal, where the means do not differ either; or raise."""
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    twice_common = covariance + covariance.swapaxes(1, 2)
    spread = variances[:, :, np.newaxis] + variances[:, np.newaxis, :] - twice_common
    spread = np.where(np.eye(covariance.shape[1], dtype=bool), 1.0, spread)
    if np.any(spread <= 0.0):
        x, i, j = (int(k) for k in np.argwhere(spread <= 0.0)[0])
        raise ValueError(
            f"covariance must leave each difference of worths a positive variance, got {spread[x, i, j]:g} for "
            f"responses {i} and {j} at prompt {x}"
        )
    return spread


def _random_covariance(case: str, shape: tuple[int, int], log_spread: float, rng: np.random.Generator) -> FloatArray:
    """Return random covariance matrices (prompts, K, K) of a case."""
    unit = np.broadcast_to(np.eye(shape[1]), (*shape, shape[1]))
    if case == "V":
        return unit
    deviations = np.exp(log_spread * rng.standard_normal(shape) / 2.0)
    scales = deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :]
    if case == "III":
        return unit * scales
    factors = rng.standard_normal((*shape, shape[1]))
    factors /= np.linalg.norm(factors, axis=-1, keepdims=True)
    return scales * (factors @ factors.swapaxes(1, 2))


def _scale_to_signal(z: FloatArray, signal: float) -> FloatArray:
    """Return the matrices a z (prompts, K, K) whose logits of Phi have the root mean square `signal`.

    z has unit root mean square. The logit of Phi(x) is odd, increasing, and at least ``4 phi(0) x`` for x > 0, with
    phi(0) = .3989 the normal density: its slope phi/(Phi (1 - Phi)) is smallest at 0. So a lies between 0 and
    signal / 1.5957.
    """
    from scipy.optimize import brentq  # not above: no other world needs it, and its import takes long

    pairs = z.shape[1] * (z.shape[1] - 1)

    def excess(scale: float, matrix: FloatArray) -> float:
        logits = log_ndtr(scale * matrix) - log_ndtr(-scale * matrix)
        return float(np.sqrt(np.square(logits).sum() / pairs)) - signal

    scales = [brentq(excess, 0.0, signal / 1.59, args=(matrix,), xtol=1e-15 * signal) for matrix in z]
    return np.array(scales)[:, np.newaxis, np.newaxis] * z
