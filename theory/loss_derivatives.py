"""First and second derivatives of the unpaired losses in the log-ratio, in closed form.

The asymptotic covariances and the plots of gradients use them; the tests compare them with autograd and finite
differences of `theory.losses`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.bregman import Generator, get_generator
from theory.checks import FloatArray, as_floats, check_alpha, check_choice, check_same_shape
from theory.losses import ddro_log_direct_ratio

__all__ = ["LossDerivatives", "loss_derivatives"]


@dataclass(frozen=True)
class LossDerivatives:
    """Derivatives of one loss per example with respect to its log-ratio."""

    first: FloatArray
    second: FloatArray


def loss_derivatives(
    method: str,
    log_ratio: ArrayLike,
    preferred: ArrayLike,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
) -> LossDerivatives:
    """First and second derivatives of an unpaired loss with respect to the log-ratio.

    With ``r = e^u``, ``w`` the generator's weight, ``k = 1 / (1 - alpha r)`` and ``v = log g``:
    rdro ``alpha r w - w`` and ``(1 - alpha) r w``; ddro ``-w(v) k`` and ``g w(v) k``; mle ``-1`` and ``k - 1``;
    sft ``-1`` and ``0`` (preferred and non-preferred first derivatives).

    Parameters
    ----------
    method : {"rdro", "ddro", "mle", "sft"}
        The loss; ddro beyond its domain is the "infinite" one.
    log_ratio : array_like
        Log-ratios u in nats, any shape.
    preferred : array_like of bool
        True for preferred examples, same shape.
    alpha : float or array_like, optional
        Weight of the preferred law, in (0, 1): one number, or one per example. Not used by sft.
    generator : str or Generator
        Generator of rdro and ddro.

    Returns
    -------
    LossDerivatives
        First and second derivatives, of the shape of `log_ratio`. For ddro and mle both are 0 where
        ``alpha r >= 1``: the loss is a constant +inf there.

    Raises
    ------
    ValueError
        If the method or generator is unknown, alpha is missing or outside (0, 1), or shapes differ.

    References
    ----------
    .. [1] Derived here from the losses of arXiv 2604.04410 and arXiv 2505.07558; bounds in proposition P4.

    Examples
    --------
    >>> loss_derivatives("rdro", [0.0, 0.0], [True, False], alpha=0.5).first
    array([-0.25,  0.25])
    """
    check_choice("method", method, ("rdro", "ddro", "mle", "sft"))
    u = as_floats("log_ratio", log_ratio)
    is_preferred = np.asarray(preferred)
    if is_preferred.dtype != np.bool_:
        raise TypeError(f"preferred must be boolean, got {is_preferred.dtype}")
    check_same_shape(log_ratio=u, preferred=is_preferred)
    if method == "sft":
        return LossDerivatives(np.where(is_preferred, -1.0, 0.0), np.zeros_like(u))
    if alpha is None:
        raise ValueError(f"alpha must be given for {method}, got None")
    weight = check_alpha(alpha)
    if weight.ndim and weight.shape != u.shape:
        raise ValueError(f"alpha must be one number or have the shape of log_ratio {u.shape}, got {weight.shape}")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if method == "rdro":
            return _rdro(u, is_preferred, weight, get_generator(generator))
        return _beyond_domain(_ddro_or_mle(method, u, is_preferred, weight, get_generator(generator)), u, weight)


def _rdro(u: FloatArray, preferred: NDArray[np.bool_], alpha: FloatArray, generator: Generator) -> LossDerivatives:
    """Return the derivatives of ``alpha c - f'`` and ``(1 - alpha) c``."""
    share = np.where(preferred, alpha, 1.0 - alpha)
    first = share * generator.conjugate_slope(u) - np.where(preferred, generator.weight(u), 0.0)
    second = share * generator.conjugate_curvature(u) - np.where(preferred, generator.weight_slope(u), 0.0)
    return LossDerivatives(first, second)


def _ddro_or_mle(
    method: str, u: FloatArray, preferred: NDArray[np.bool_], alpha: FloatArray, generator: Generator
) -> LossDerivatives:
    """Return the derivatives inside the domain, by the chain rule through log g for ddro."""
    stretch = -1.0 / np.expm1(u + np.log(alpha))  # k = 1/(1 - alpha r) = d log g / du
    bend = stretch * (stretch - 1.0)  # d2 log g / du2
    if method == "mle":
        return LossDerivatives(np.where(preferred, -1.0, stretch - 1.0), np.where(preferred, 0.0, bend))
    log_g = ddro_log_direct_ratio(u, alpha)
    slope = np.where(preferred, -generator.weight(log_g), generator.conjugate_slope(log_g))
    curvature = np.where(preferred, -generator.weight_slope(log_g), generator.conjugate_curvature(log_g))
    return LossDerivatives(slope * stretch, curvature * stretch**2 + slope * bend)


def _beyond_domain(inside: LossDerivatives, u: FloatArray, alpha: FloatArray) -> LossDerivatives:
    """Replace values where ``alpha e^u >= 1``: the loss is a constant +inf there."""
    beyond = u + np.log(alpha) >= 0
    return LossDerivatives(np.where(beyond, 0.0, inside.first), np.where(beyond, 0.0, inside.second))
