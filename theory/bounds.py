"""Constants behind the guarantees, each naming its proposition: Lipschitz, curvature and finite-sample ones.

Excess risks are those of the unweighted ratio-fitting risk ``E_den[c] - E_num[f']``, that is twice the class-balanced
risk of `theory.weighting` for rdro under assumption M.
"""

import math

import numpy as np

from theory.bregman import Generator, KullbackLeibler, Logistic, Power, get_generator
from theory.checks import check_alpha, check_nonnegative

__all__ = [
    "curvature_bound",
    "ddro_error_bound",
    "lipschitz_bound",
    "ratio_error_bound",
    "relative_estimate_error_bound",
    "smoothness_bound",
    "total_variation_bound",
]


def lipschitz_bound(alpha: float) -> float:
    """Largest absolute derivative of the logistic RDRO losses in the log-ratio (proposition P4).

    ``sup_u |d loss/du| = 1``: the preferred derivative ``(alpha r - 1)/(1 + r)`` runs from -1 to alpha, the
    non-preferred one ``(1 - alpha) r/(1 + r)`` from 0 to 1 - alpha. For DDRO there is no such bound.

    Parameters
    ----------
    alpha : float
        Weight of the preferred law, in (0, 1).

    Returns
    -------
    float
        1, for every alpha.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1).

    Examples
    --------
    >>> lipschitz_bound(0.3)
    1.0
    """
    check_alpha(alpha)
    return 1.0


def smoothness_bound(alpha: float) -> float:
    """Largest second derivative of the logistic RDRO losses in the log-ratio (proposition P4).

    ``(1 + alpha)/4``, reached at u = 0 by the preferred loss ``(1 + alpha) softplus(u) - u``.

    Parameters
    ----------
    alpha : float
        Weight of the preferred law, in (0, 1).

    Returns
    -------
    float
        The bound, in (1/4, 1/2).

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1).

    Examples
    --------
    >>> smoothness_bound(0.5)
    0.375
    """
    return float((1.0 + check_alpha(alpha)) / 4.0)


def curvature_bound(alpha: float, generator: str | Generator = "logistic") -> float:
    """Smallest second derivative of a generator over the relative ratios (proposition P6).

    ``inf_{0 < r <= 1/alpha} f''(r)``: logistic ``alpha^2/(1 + alpha)``, least squares 1, KL ``alpha``, power b
    ``(1 + b) alpha^(1-b)`` for b <= 1 and 0 for b > 1.

    Parameters
    ----------
    alpha : float
        Weight of the preferred law, in (0, 1).
    generator : str or Generator
        The generator.

    Returns
    -------
    float
        The bound, in [0, inf).

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1) or the generator is unknown.
    TypeError
        If the generator is not one of the built-in families, whose infima are known.

    Examples
    --------
    >>> round(curvature_bound(0.5), 6)
    0.166667
    """
    weight = float(check_alpha(alpha))
    match get_generator(generator):
        case Logistic():
            return weight**2 / (1.0 + weight)
        case KullbackLeibler():
            return weight
        case Power(exponent=b, scale=scale):
            return scale * (1.0 + b) * weight ** (1.0 - b) if b <= 1.0 else 0.0
        case other:
            raise TypeError(f"generator must belong to a built-in family, got {other!r}")


def ratio_error_bound(excess_risk: float, alpha: float, generator: str | Generator = "logistic") -> float:
    """Largest squared error of a relative ratio with a given excess risk (proposition P6).

    ``||r - r_alpha||^2_{L2(m)} <= 2 excess_risk / inf f''``, for r <= 1/alpha; logistic
    ``2 (1 + alpha)/alpha^2 excess_risk``.

    Parameters
    ----------
    excess_risk : float
        Excess of ``E_m[c(r)] - E_+[f'(r)]`` over its minimum, in nats, not negative.
    alpha : float
        Weight of the preferred law, in (0, 1).
    generator : str or Generator
        The generator.

    Returns
    -------
    float
        The bound; inf where the curvature vanishes.

    Raises
    ------
    ValueError
        If the excess risk is negative or not finite, or alpha lies outside (0, 1).

    Examples
    --------
    >>> round(ratio_error_bound(0.01, 0.5), 6)
    0.12
    """
    excess = _check_excess(excess_risk)
    curvature = curvature_bound(alpha, generator)
    return math.inf if curvature == 0 else 2.0 * excess / curvature


def ddro_error_bound(excess_risk: float, largest_ratio: float) -> float:
    """Largest squared error of a direct ratio with a given excess risk (proposition P6).

    ``||g - g*||^2_{L2(p-)} <= 2 G (1 + G) excess_risk`` for ratios up to ``G = largest_ratio`` (logistic generator):
    it has no content as G grows without bound.

    Parameters
    ----------
    excess_risk : float
        Excess of ``E_-[c(g)] - E_+[f'(g)]`` over its minimum, in nats, not negative.
    largest_ratio : float
        G > 0, the largest direct ratio; may be inf.

    Returns
    -------
    float
        The bound, in [0, inf].

    Raises
    ------
    ValueError
        If the excess risk is negative or not finite, or G is not positive.

    Examples
    --------
    >>> ddro_error_bound(0.01, 9.0)
    1.8
    >>> ddro_error_bound(0.01, float("inf"))
    inf
    """
    excess = _check_excess(excess_risk)
    if not largest_ratio > 0:
        raise ValueError(f"largest_ratio must be greater than 0, got {largest_ratio!r}")
    return 0.0 if excess == 0 else 2.0 * largest_ratio * (1.0 + largest_ratio) * excess


def total_variation_bound(squared_ratio_error: float) -> float:
    """Total variation between a policy and p+ from the error of its ratio (proposition P6, under assumption M).

    ``TV(p_theta, p+) <= 1/2 ||r - r_alpha||_{L2(p_ref)}``, by Jensen's inequality.

    Parameters
    ----------
    squared_ratio_error : float
        ``||r - r_alpha||^2_{L2(p_ref)}``, not negative.

    Returns
    -------
    float
        The bound.

    Raises
    ------
    ValueError
        If the error is negative or not finite.

    Examples
    --------
    >>> total_variation_bound(0.04)
    0.1
    """
    return 0.5 * math.sqrt(_check_excess(squared_ratio_error, "squared_ratio_error"))


def relative_estimate_error_bound(
    n_preferred: int, n_nonpreferred: int, responses: int, alpha: float, confidence: float = 0.95
) -> float:
    """Finite-sample bound on the mean error of the unnormalised tabular estimate (from proposition P2; ours).

    With ``r_hat = p_hat+ / m_hat`` and probability at least `confidence`,
    ``E_m|r_hat - r_alpha| <= 2 e(n+) + (1 - alpha)/alpha e(n-)``, where
    ``e(n) = sqrt((K - 1)/n) + sqrt(2 log(2/(1 - confidence))/n)``. No such bound holds for the direct estimate, which
    is infinite with positive probability at every n.

    Parameters
    ----------
    n_preferred, n_nonpreferred : int
        Independent examples of each class, at least 1.
    responses : int
        Number K of responses, at least 1.
    alpha : float
        Weight of the preferred law, in (0, 1).
    confidence : float
        Probability with which the bound holds, in (0, 1).

    Returns
    -------
    float
        The bound.

    Raises
    ------
    ValueError
        If a count is below 1 or alpha or confidence lies outside (0, 1).

    Notes
    -----
    Derivation: ``m (r_hat - r) = (p_hat+ - p+) - r_hat (m_hat - m)`` and ``r_hat <= 1/alpha`` (P2), so that
    ``m |r_hat - r| <= 2 |p_hat+ - p+| + (1 - alpha)/alpha |p_hat- - p-|`` for every sample and response. The sum of
    ``|p_hat - p|`` has mean at most ``sqrt((K - 1)/n)`` (Cauchy-Schwarz) and changes by at most 2/n with one example
    (McDiarmid), each class with half of the error probability.

    References
    ----------
    .. [1] Derived here.

    Examples
    --------
    >>> round(relative_estimate_error_bound(10_000, 10_000, responses=10, alpha=0.5), 4)
    0.1715
    """
    counts = (n_preferred, n_nonpreferred, responses)
    if min(counts) < 1:
        raise ValueError(f"n_preferred, n_nonpreferred and responses must be at least 1, got {counts}")
    weight = float(check_alpha(alpha))
    tail = 2.0 * np.log(2.0 / (1.0 - float(check_alpha(confidence, "confidence"))))

    def error(n: int) -> float:
        return float(np.sqrt((responses - 1) / n) + np.sqrt(tail / n))

    return 2.0 * error(n_preferred) + (1.0 - weight) / weight * error(n_nonpreferred)


def _check_excess(value: float, name: str = "excess_risk") -> float:
    """Return a finite number that is not negative."""
    return float(check_nonnegative(name, value))
