"""Direct and relative density ratios, the conversions between them, and the bound of the relative one."""

import numpy as np
from numpy.typing import ArrayLike

from theory.checks import FloatArray, as_floats, check_alpha, check_nonnegative, check_same_shape

__all__ = [
    "direct_from_relative",
    "direct_ratio",
    "log_direct_ratio",
    "log_relative_ratio",
    "relative_from_direct",
    "relative_ratio",
    "relative_ratio_bound",
]


def direct_ratio(p_preferred: ArrayLike, p_nonpreferred: ArrayLike) -> FloatArray:
    """Direct density ratio of the preferred to the non-preferred law.

    ``g = p_preferred / p_nonpreferred``, the quantity that DDRO estimates; it has no upper bound.

    Parameters
    ----------
    p_preferred, p_nonpreferred : array_like
        Densities or probabilities, of one shape, finite and not negative.

    Returns
    -------
    ndarray
        Ratios in [0, inf], of the same shape.

    Raises
    ------
    ValueError
        If a value is negative or not finite, or the shapes differ.

    Notes
    -----
    A cell that is empty under both laws carries no evidence: its ratio is 1, the value at which the laws agree.
    A cell empty under the non-preferred law alone has ratio inf.

    References
    ----------
    .. [1] Higuchi and Suzuki, "Direct Density Ratio Optimization", arXiv 2505.07558, section 3.

    Examples
    --------
    >>> direct_ratio([0.5, 0.3, 0.2, 0.0], [0.1, 0.3, 0.0, 0.6])
    array([ 5.,  1., inf,  0.])
    """
    preferred = check_nonnegative("p_preferred", p_preferred)
    nonpreferred = check_nonnegative("p_nonpreferred", p_nonpreferred)
    check_same_shape(p_preferred=preferred, p_nonpreferred=nonpreferred)
    ratio = np.ones_like(preferred)
    # A quotient of a normal by a subnormal number may overflow: inf is then its correctly rounded value.
    with np.errstate(divide="ignore", over="ignore"):
        np.divide(preferred, nonpreferred, out=ratio, where=(preferred > 0) | (nonpreferred > 0))
    return ratio


def relative_ratio(p_preferred: ArrayLike, p_nonpreferred: ArrayLike, alpha: ArrayLike) -> FloatArray:
    """Relative density ratio of the preferred law to the mixture of both.

    ``r_alpha = p_preferred / (alpha p_preferred + (1 - alpha) p_nonpreferred)``, which never exceeds ``1/alpha``.

    Parameters
    ----------
    p_preferred, p_nonpreferred : array_like
        Densities or probabilities, of one shape, finite and not negative.
    alpha : float or array_like
        Weight of the preferred law in the mixture, in (0, 1): one number, or one per cell (same shape).

    Returns
    -------
    ndarray
        Ratios in [0, 1/alpha], of the same shape. Cells empty under both laws have ratio 1.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1), a density is negative or not finite, or the shapes differ.

    Notes
    -----
    Proposition P1: bounded by ``1/alpha``, monotone in the direct ratio, 1 where the laws agree, mean 1 under the
    mixture, and equal to the direct ratio in the limit alpha -> 0. The quotient of the two densities is formed
    with the larger one as divisor, so that neither overflow nor underflow of a density reaches the result.

    References
    ----------
    .. [1] Takahashi et al., "Relative Density Ratio Optimization", arXiv 2604.04410.
    .. [2] Yamada et al., "Relative Density-Ratio Estimation for Robust Distribution Comparison", 2013, eq. (1).

    Examples
    --------
    >>> relative_ratio([0.5, 0.3, 0.2, 0.0], [0.1, 0.3, 0.0, 0.6], alpha=0.5).round(4)
    array([1.6667, 1.    , 2.    , 0.    ])
    """
    preferred = check_nonnegative("p_preferred", p_preferred)
    nonpreferred = check_nonnegative("p_nonpreferred", p_nonpreferred)
    weight = _check_alpha_for(alpha, preferred, "p_preferred")
    check_same_shape(p_preferred=preferred, p_nonpreferred=nonpreferred)
    larger = np.maximum(preferred, nonpreferred)
    mantissa, exponent = np.frexp(np.where(larger > 0, larger, 1.0))
    # Times 2^500: a quotient below the normal numbers would lose digits that count where 1 - alpha is small.
    scaled_preferred, scaled_nonpreferred = (np.ldexp(x, 500 - exponent) / mantissa for x in (preferred, nonpreferred))
    mixture = weight * scaled_preferred + (1.0 - weight) * scaled_nonpreferred
    ratio = np.ones_like(preferred)
    np.divide(scaled_preferred, mixture, out=ratio, where=mixture > 0)
    # 1/(alpha 1 + (1-alpha) 0) and 1/alpha are one number, but a sum in between may round up by an eps.
    return np.minimum(ratio, 1.0 / weight)


def log_direct_ratio(log_p_preferred: ArrayLike, log_p_nonpreferred: ArrayLike) -> FloatArray:
    """Natural logarithm of the direct ratio, from log-densities.

    ``log g = log_p_preferred - log_p_nonpreferred``.

    Parameters
    ----------
    log_p_preferred, log_p_nonpreferred : array_like
        Log-densities in nats, of one shape; -inf stands for an empty cell.

    Returns
    -------
    ndarray
        Values in [-inf, inf], of the same shape; 0 where both cells are empty.

    Raises
    ------
    ValueError
        If a value is NaN or +inf, or the shapes differ.

    Examples
    --------
    >>> log_direct_ratio([-1000.0, -1.0], [-1001.0, -np.inf])
    array([ 1., inf])
    """
    preferred, nonpreferred = _check_log_densities(log_p_preferred, log_p_nonpreferred)
    ratio = np.zeros_like(preferred)
    np.subtract(preferred, nonpreferred, out=ratio, where=np.isfinite(preferred) | np.isfinite(nonpreferred))
    return ratio


def log_relative_ratio(log_p_preferred: ArrayLike, log_p_nonpreferred: ArrayLike, alpha: ArrayLike) -> FloatArray:
    """Natural logarithm of the relative ratio, from log-densities.

    ``log r_alpha = log p+ - logaddexp(log alpha + log p+, log1p(-alpha) + log p-)``, computed without leaving
    log space.

    Parameters
    ----------
    log_p_preferred, log_p_nonpreferred : array_like
        Log-densities in nats, of one shape; -inf stands for an empty cell.
    alpha : float or array_like
        Weight of the preferred law in the mixture, in (0, 1): one number, or one per cell (same shape).

    Returns
    -------
    ndarray
        Values in [-inf, -log(alpha)], of the same shape; 0 where both cells are empty.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1), a log-density is NaN or +inf, or the shapes differ.

    Notes
    -----
    Dividing numerator and denominator by the preferred density gives ``-logaddexp(log alpha, log1p(-alpha) - log g)``,
    which has no difference of large numbers left except ``log g`` itself.

    References
    ----------
    .. [1] Takahashi et al., arXiv 2604.04410; log form derived here (proposition P1).

    Examples
    --------
    >>> log_relative_ratio([-1000.0, -np.inf], [-2000.0, -3.0], alpha=0.25).round(4)
    array([1.3863,   -inf])
    """
    log_g = log_direct_ratio(log_p_preferred, log_p_nonpreferred)
    weight = _check_alpha_for(alpha, log_g, "log_p_preferred")
    # Equal laws give exactly r = 1; the two logarithms below would leave an eps.
    log_r = -np.logaddexp(np.log(weight), np.log1p(-weight) - log_g)
    return np.where(log_g == 0.0, 0.0, np.minimum(log_r, -np.log(weight)))


def relative_from_direct(direct: ArrayLike, alpha: ArrayLike) -> FloatArray:
    """Relative ratio of a direct ratio.

    ``r = g / (alpha g + 1 - alpha)`` with ``g = direct``.

    Parameters
    ----------
    direct : array_like
        Direct ratios in [0, inf].
    alpha : float or array_like
        Weight of the preferred law, in (0, 1): one number, or one per ratio (same shape).

    Returns
    -------
    ndarray
        Relative ratios in [0, 1/alpha]; a direct ratio of inf becomes exactly ``1/alpha``.

    Raises
    ------
    ValueError
        If a ratio is negative or NaN, or alpha lies outside (0, 1).

    Examples
    --------
    >>> relative_from_direct([0.0, 1.0, np.inf], alpha=0.2)
    array([0., 1., 5.])
    """
    g = as_floats("direct", direct)
    if (g < 0).any():
        raise ValueError(f"direct must not be negative, got {g.min():g}")
    weight = _check_alpha_for(alpha, g, "direct")
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.divide(1.0, g)  # g = inf and g = 0 both come out right this way round
        ratio = 1.0 / (weight + (1.0 - weight) * inverse)
    return np.where(g == 1.0, 1.0, np.minimum(ratio, 1.0 / weight))


def direct_from_relative(relative: ArrayLike, alpha: ArrayLike) -> FloatArray:
    """Direct ratio of a relative ratio.

    ``g = (1 - alpha) r / (1 - alpha r)`` with ``r = relative``, defined for ``r <= 1/alpha``.

    Parameters
    ----------
    relative : array_like
        Relative ratios in [0, 1/alpha].
    alpha : float or array_like
        Weight of the preferred law, in (0, 1): one number, or one per ratio (same shape).

    Returns
    -------
    ndarray
        Direct ratios in [0, inf]; ``r = 1/alpha`` becomes inf.

    Raises
    ------
    ValueError
        If a ratio is negative, NaN or above ``1/alpha``, or alpha lies outside (0, 1).

    Notes
    -----
    The condition number of the map is ``1 / (1 - alpha r)``: close to the bound the direct ratio cannot be
    recovered from a rounded relative one. That loss of information is what the bound costs.

    Examples
    --------
    >>> direct_from_relative([0.0, 1.0, 5.0], alpha=0.2)
    array([ 0.,  1., inf])
    """
    r = as_floats("relative", relative)
    weight = _check_alpha_for(alpha, r, "relative")
    outside = (r < 0) | (r > 1.0 / weight)
    if outside.any():
        bound = np.broadcast_to(1.0 / weight, r.shape)[outside][0]
        raise ValueError(f"relative must lie in [0, 1/alpha] = [0, {bound:g}], got {r[outside][0]:g}")
    with np.errstate(divide="ignore", over="ignore"):
        ratio = np.divide((1.0 - weight) * r, np.maximum(1.0 - weight * r, 0.0))
    return np.where(r == 1.0, 1.0, np.where(r == 1.0 / weight, np.inf, ratio))


def relative_ratio_bound(alpha: ArrayLike) -> FloatArray:
    """Upper bound ``1/alpha`` of every relative ratio (proposition P1).

    Parameters
    ----------
    alpha : float or array_like
        Weight of the preferred law in the mixture, in (0, 1).

    Returns
    -------
    ndarray
        The bound, of the shape of `alpha`.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1).

    Examples
    --------
    >>> float(relative_ratio_bound(0.2))
    5.0
    """
    return np.asarray(1.0 / check_alpha(alpha))


def _check_alpha_for(alpha: ArrayLike, values: FloatArray, name: str) -> FloatArray:
    """Return alpha as a scalar array or one of the shape of `values`; other shapes are refused."""
    weight = check_alpha(alpha)
    if weight.ndim and weight.shape != values.shape:
        raise ValueError(f"alpha must be one number or have the shape of {name} {values.shape}, got {weight.shape}")
    return weight


def _check_log_densities(log_p_preferred: ArrayLike, log_p_nonpreferred: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return two log-densities of one shape, without NaN or +inf."""
    preferred = as_floats("log_p_preferred", log_p_preferred)
    nonpreferred = as_floats("log_p_nonpreferred", log_p_nonpreferred)
    check_same_shape(log_p_preferred=preferred, log_p_nonpreferred=nonpreferred)
    for name, values in (("log_p_preferred", preferred), ("log_p_nonpreferred", nonpreferred)):
        if np.isposinf(values).any():
            raise ValueError(f"{name} must be below +inf, got inf")
    return preferred, nonpreferred
