"""First and second derivatives of the losses in the log-ratio or in the margin of a pair, in closed form.

The asymptotic covariances, the log-linear fits and the plots of gradients use them; the tests compare them with
autograd and finite differences of `theory.losses`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.arrays import sigmoid, sigmoid_slope, signs
from theory.bregman import Generator, get_generator
from theory.checks import FloatArray, as_floats, check_alpha, check_choice, check_positive, check_same_shape
from theory.losses import EXTENSION_MARGIN, BeyondDomain, ddro_log_direct_ratio

__all__ = ["LossDerivatives", "loss_derivatives", "pair_loss_derivatives"]


@dataclass(frozen=True)
class LossDerivatives:
    """Derivatives of one loss per example with respect to its log-ratio, or per pair with respect to its margin."""

    first: FloatArray
    second: FloatArray


def loss_derivatives(
    method: str,
    log_ratio: ArrayLike,
    preferred: ArrayLike,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
    *,
    beyond_domain: BeyondDomain = "infinite",
    beta: float | None = None,
    kl: ArrayLike = 0.0,
) -> LossDerivatives:
    """First and second derivatives of an unpaired loss with respect to the log-ratio.

    With ``r = e^u``, ``w`` the generator's weight, ``k = 1 / (1 - alpha r)``, ``v = log g`` and
    ``s = sigmoid(beta (u - kl))``: rdro ``alpha r w - w`` and ``(1 - alpha) r w``; ddro ``-w(v) k`` and ``g w(v) k``;
    mle ``-1`` and ``k - 1``; kto ``-beta s (1 - s)`` and ``beta s (1 - s)``; sft ``-1`` and ``0`` (preferred and
    non-preferred first derivatives).

    Parameters
    ----------
    method : {"rdro", "ddro", "mle", "sft", "kto"}
        The loss.
    log_ratio : array_like
        Log-ratios u in nats, any shape.
    preferred : array_like of bool
        True for preferred examples, same shape.
    alpha : float or array_like, optional
        Weight of the preferred law, in (0, 1): one number, or one per example. Not used by sft and kto.
    generator : str or Generator
        Generator of rdro and ddro.
    beyond_domain : {"infinite", "extend"}
        For ddro only, as in `theory.losses.ddro_losses`.
    beta : float, optional
        For kto only, greater than 0.
    kl : float or array_like
        For kto only: reference point in nats, one number or one per example. A constant, as in
        `theory.losses.kto_losses`: it is not differentiated.

    Returns
    -------
    LossDerivatives
        First and second derivatives, of the shape of `log_ratio`. For mle and "infinite" ddro both are 0 where
        ``alpha r >= 1``: the loss is a constant +inf there. "extend" has its second derivative jump at
        ``u = log((1 - EXTENSION_MARGIN)/alpha)``, and takes the one on the right there.

    Raises
    ------
    ValueError
        If the method, generator or option is unknown, alpha or beta is missing or out of range, or shapes differ.
    TypeError
        If `preferred` is not boolean.

    References
    ----------
    .. [1] Derived here from the losses of arXiv 2604.04410, 2505.07558 and 2402.01306; bounds in proposition P4.

    Examples
    --------
    >>> loss_derivatives("rdro", [0.0, 0.0], [True, False], alpha=0.5).first
    array([-0.25,  0.25])
    >>> loss_derivatives("kto", [0.0, 0.0], [True, False], beta=0.1).first
    array([-0.025,  0.025])
    """
    check_choice("method", method, ("rdro", "ddro", "mle", "sft", "kto"))
    check_choice("beyond_domain", beyond_domain, ("infinite", "extend"))
    u = as_floats("log_ratio", log_ratio)
    is_preferred = np.asarray(preferred)
    if is_preferred.dtype != np.bool_:
        raise TypeError(f"preferred must be boolean, got {is_preferred.dtype}")
    check_same_shape(log_ratio=u, preferred=is_preferred)
    if method == "sft":
        return LossDerivatives(np.where(is_preferred, -1.0, 0.0), np.zeros_like(u))
    if method == "kto":
        return _kto(u, is_preferred, beta, kl)
    if alpha is None:
        raise ValueError(f"alpha must be given for {method}, got None")
    weight = _one_or_each("alpha", check_alpha(alpha), u)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if method == "rdro":
            return LossDerivatives(*get_generator(generator).relative_derivatives(u, is_preferred, weight))
        if method == "ddro" and beyond_domain == "extend":
            return _ddro_extended(u, is_preferred, weight, get_generator(generator))
        return _beyond_domain(_ddro_or_mle(method, u, is_preferred, weight, get_generator(generator)), u, weight)


def pair_loss_derivatives(method: str, margin: ArrayLike, beta: float) -> LossDerivatives:
    """First and second derivatives of a paired loss with respect to the margin.

    With the margin ``m = u_chosen - u_rejected`` and ``s = sigmoid(beta m)``: dpo ``-beta (1 - s)`` and
    ``beta^2 s (1 - s)``; ipo ``2 (m - 1/(2 beta))`` and 2.

    Parameters
    ----------
    method : {"dpo", "ipo"}
        The loss.
    margin : array_like
        Margins m in nats, any shape.
    beta : float
        Inverse temperature of dpo, regularisation of ipo, greater than 0.

    Returns
    -------
    LossDerivatives
        First and second derivatives, of the shape of `margin`.

    Raises
    ------
    ValueError
        If the method is unknown or beta is not positive.

    References
    ----------
    .. [1] Derived here from the losses of arXiv 2305.18290, eq. (7), and arXiv 2310.12036, eq. (17).

    Examples
    --------
    >>> pair_loss_derivatives("dpo", [0.0], beta=0.1).first
    array([-0.05])
    >>> pair_loss_derivatives("ipo", [1.0], beta=0.5).first
    array([0.])
    """
    check_choice("method", method, ("dpo", "ipo"))
    m, scale = as_floats("margin", margin), check_positive(beta, "beta")
    if method == "ipo":
        return LossDerivatives(2.0 * (m - 0.5 / scale), np.full_like(m, 2.0))
    return LossDerivatives(-scale * sigmoid(-scale * m), scale**2 * sigmoid_slope(scale * m))


def _one_or_each(name: str, values: FloatArray, u: FloatArray) -> FloatArray:
    """Return `values`, or raise unless they are one number or one per log-ratio."""
    if values.ndim and values.shape != u.shape:
        raise ValueError(f"{name} must be one number or have the shape of log_ratio {u.shape}, got {values.shape}")
    return values


def _kto(u: FloatArray, preferred: NDArray[np.bool_], beta: float | None, kl: ArrayLike) -> LossDerivatives:
    """Return the derivatives of ``1 - sigmoid(±beta (u - kl))``."""
    if beta is None:
        raise ValueError("beta must be given for kto, got None")
    scale = check_positive(beta, "beta")
    gain = scale * (u - _one_or_each("kl", as_floats("kl", kl), u))
    slope = scale * signs(preferred, gain) * sigmoid_slope(gain)
    return LossDerivatives(slope, -scale * slope * np.tanh(0.5 * gain))


def _ddro_or_mle(
    method: str, u: FloatArray, preferred: NDArray[np.bool_], alpha: FloatArray, generator: Generator
) -> LossDerivatives:
    """Return the derivatives inside the domain, by the chain rule through log g for ddro."""
    stretch = -1.0 / np.expm1(u + np.log(alpha))  # k = 1/(1 - alpha r) = d log g / du
    bend = stretch * (stretch - 1.0)  # d2 log g / du2
    if method == "mle":
        return LossDerivatives(np.where(preferred, -1.0, stretch - 1.0), np.where(preferred, 0.0, bend))
    return _through_log_g(ddro_log_direct_ratio(u, alpha), stretch, bend, preferred, generator)


def _ddro_extended(
    u: FloatArray, preferred: NDArray[np.bool_], alpha: FloatArray, generator: Generator
) -> LossDerivatives:
    """Return the derivatives on the linear continuation of log g, whose slope is the one at its start."""
    log_posterior = u + np.log(alpha)
    inside = log_posterior < math.log1p(-EXTENSION_MARGIN)
    stretch = np.where(inside, -1.0 / np.expm1(np.where(inside, log_posterior, -1.0)), 1.0 / EXTENSION_MARGIN)
    bend = np.where(inside, stretch * (stretch - 1.0), 0.0)
    return _through_log_g(ddro_log_direct_ratio(u, alpha, "extend"), stretch, bend, preferred, generator)


def _through_log_g(
    log_g: FloatArray, stretch: FloatArray, bend: FloatArray, preferred: NDArray[np.bool_], generator: Generator
) -> LossDerivatives:
    """Return the derivatives of ddro by the chain rule, from those of log g."""
    slope, curvature = generator.direct_derivatives(log_g, preferred)
    return LossDerivatives(slope * stretch, curvature * stretch**2 + slope * bend)


def _beyond_domain(inside: LossDerivatives, u: FloatArray, alpha: FloatArray) -> LossDerivatives:
    """Replace values where ``alpha e^u >= 1``: the loss is a constant +inf there."""
    beyond = u + np.log(alpha) >= 0
    return LossDerivatives(np.where(beyond, 0.0, inside.first), np.where(beyond, 0.0, inside.second))
