"""Generators of Bregman divergences for density-ratio fitting, as functions of the log-ratio, and their registry.

For a strictly convex ``f`` the risk of a model ratio ``r`` is ``E_den[f'(r) r - f(r)] - E_num[f'(r)]`` (Sugiyama,
Suzuki and Kanamori 2012). With ``u = log r`` every generator supplies ``f'``, the conjugate term ``c = f'(r) r - f(r)``
and the weight ``w = r f''(r)``, linked by ``d f'/du = w`` and ``dc/du = r w``. All methods take NumPy arrays and torch
tensors alike. A new generator is one class and one registry entry; it then passes through the contract test.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from theory.arrays import as_numbers, bounded, log_sigmoid, sigmoid, sigmoid_slope, signs, softplus
from theory.checks import FloatArray, check_choice, check_nonnegative, check_positive, check_same_shape

__all__ = ["GENERATORS", "Generator", "bregman_divergence", "get_generator", "power"]


class Generator(ABC):
    """A strictly convex function on (0, inf) that generates a Bregman divergence between density ratios."""

    name: str

    @abstractmethod
    def value(self, ratio: FloatArray) -> FloatArray:
        """Return ``f(r)`` for NumPy ratios in [0, inf)."""

    @abstractmethod
    def slope(self, log_ratio: Any) -> Any:
        """Return ``f'(e^u)``."""

    @abstractmethod
    def conjugate(self, log_ratio: Any) -> Any:
        """Return ``c(u) = f'(r) r - f(r)`` at ``r = e^u``."""

    @abstractmethod
    def weight(self, log_ratio: Any) -> Any:
        """Return ``w(u) = r f''(r)`` at ``r = e^u``."""

    @abstractmethod
    def weight_slope(self, log_ratio: Any) -> Any:
        """Return ``dw/du``."""

    def conjugate_slope(self, log_ratio: Any) -> Any:
        """Return ``dc/du = r w``."""
        return array_namespace(log_ratio).exp(log_ratio) * self.weight(log_ratio)

    def conjugate_curvature(self, log_ratio: Any) -> Any:
        """Return ``d2c/du2 = r (w + dw/du)``."""
        return array_namespace(log_ratio).exp(log_ratio) * (self.weight(log_ratio) + self.weight_slope(log_ratio))

    def relative_loss(self, log_ratio: Any, alpha: Any) -> Any:
        """Return ``alpha c(u) - f'(e^u)``, the relative loss of a preferred example."""
        return alpha * self.conjugate(log_ratio) - self.slope(log_ratio)

    def relative_losses(self, log_ratio: Any, preferred: Any, alpha: Any) -> Any:
        """Return the relative losses of both classes: ``alpha c - f'`` if preferred, else ``(1 - alpha) c``."""
        xp = array_namespace(log_ratio)
        rest = (1.0 - alpha) * self.conjugate(log_ratio)
        return xp.where(preferred, self.relative_loss(log_ratio, alpha), rest)

    def relative_derivatives(self, log_ratio: Any, preferred: Any, alpha: Any) -> tuple[Any, Any]:
        """Return the first and second derivatives of `relative_losses` in u."""
        xp = array_namespace(log_ratio)
        share = xp.where(preferred, alpha, 1.0 - alpha)
        first = share * self.conjugate_slope(log_ratio) - xp.where(preferred, self.weight(log_ratio), 0.0)
        second = share * self.conjugate_curvature(log_ratio) - xp.where(preferred, self.weight_slope(log_ratio), 0.0)
        return first, second

    def direct_losses(self, log_ratio: Any, preferred: Any) -> Any:
        """Return the losses of both classes at a direct ratio: ``-f'(e^u)`` if preferred, else ``c(u)``."""
        xp = array_namespace(log_ratio)
        return xp.where(preferred, -self.slope(log_ratio), self.conjugate(log_ratio))

    def direct_derivatives(self, log_ratio: Any, preferred: Any) -> tuple[Any, Any]:
        """Return the first and second derivatives of `direct_losses` in u."""
        xp = array_namespace(log_ratio)
        first = xp.where(preferred, -self.weight(log_ratio), self.conjugate_slope(log_ratio))
        return first, xp.where(preferred, -self.weight_slope(log_ratio), self.conjugate_curvature(log_ratio))


@dataclass(frozen=True)
class Logistic(Generator):
    """``f = r log r - (1 + r) log(1 + r)``: logistic discrimination; losses are softplus functions."""

    name: str = "logistic"

    def value(self, ratio: FloatArray) -> FloatArray:
        """Return ``f(r)``, with ``0 log 0 = 0``."""
        return np.asarray(_x_log_x(ratio) - _x_log_x(1.0 + ratio))

    def slope(self, log_ratio: Any) -> Any:
        """Return ``-softplus(-u)``."""
        return -softplus(-log_ratio)

    def conjugate(self, log_ratio: Any) -> Any:
        """Return ``softplus(u)``."""
        return softplus(log_ratio)

    def weight(self, log_ratio: Any) -> Any:
        """Return ``1 / (1 + r)``."""
        return sigmoid(-log_ratio)

    def weight_slope(self, log_ratio: Any) -> Any:
        """Return ``-r / (1 + r)^2``."""
        return -self.conjugate_curvature(log_ratio)

    def conjugate_slope(self, log_ratio: Any) -> Any:
        """Return ``r / (1 + r)``, also where r itself overflows."""
        return sigmoid(log_ratio)

    def conjugate_curvature(self, log_ratio: Any) -> Any:
        """Return ``r / (1 + r)^2``, also where r itself overflows."""
        return sigmoid_slope(log_ratio)

    def relative_losses(self, log_ratio: Any, preferred: Any, alpha: Any) -> Any:
        """Return ``(1 + alpha) softplus(-u) + alpha u`` if preferred, else ``(1 - alpha) softplus(u)``."""
        # Passes over the memory cost as much as the logarithm, hence few: sign is 1 for preferred examples, else -1.
        xp = array_namespace(log_ratio)
        twice, largest = 2.0 * as_numbers(preferred, log_ratio), xp.finfo(log_ratio.dtype).max
        sign = twice - 1.0
        # A linear part of -inf would make the loss inf - inf, and one of inf NaN where it is multiplied by 0: bounded,
        # and doubled, which makes the largest number inf again.
        linear = 0.5 * alpha * (twice * bounded(log_ratio, -0.5 * largest, largest))
        return linear + (-alpha * sign - 1.0) * log_sigmoid(sign * log_ratio)

    def relative_derivatives(self, log_ratio: Any, preferred: Any, alpha: Any) -> tuple[Any, Any]:
        """Return ``(1 + alpha) sigmoid(u) - 1`` if preferred, else ``(1 - alpha) sigmoid(u)``, and their slopes."""
        share = 1.0 - alpha * signs(preferred, log_ratio)
        return share * sigmoid(log_ratio) - preferred, share * sigmoid_slope(log_ratio)

    def direct_losses(self, log_ratio: Any, preferred: Any) -> Any:
        """Return ``softplus(-u)`` if preferred, else ``softplus(u)``."""
        return softplus(signs(preferred, log_ratio) * log_ratio)

    def direct_derivatives(self, log_ratio: Any, preferred: Any) -> tuple[Any, Any]:
        """Return ``-sigmoid(-u)`` if preferred, else ``sigmoid(u)``, and their slopes."""
        sign = signs(preferred, log_ratio)
        return sign * sigmoid(sign * log_ratio), sigmoid_slope(log_ratio)


@dataclass(frozen=True)
class KullbackLeibler(Generator):
    """``f = r log r - r``: KLIEP without its normalisation."""

    name: str = "kl"

    def value(self, ratio: FloatArray) -> FloatArray:
        """Return ``f(r)``, with ``0 log 0 = 0``."""
        return np.asarray(_x_log_x(ratio) - ratio)

    def slope(self, log_ratio: Any) -> Any:
        """Return ``u``."""
        return log_ratio

    def conjugate(self, log_ratio: Any) -> Any:
        """Return ``r``."""
        return array_namespace(log_ratio).exp(log_ratio)

    def weight(self, log_ratio: Any) -> Any:
        """Return 1."""
        return array_namespace(log_ratio).ones_like(log_ratio)

    def weight_slope(self, log_ratio: Any) -> Any:
        """Return 0."""
        return array_namespace(log_ratio).zeros_like(log_ratio)


@dataclass(frozen=True)
class Power(Generator):
    """``f = scale [(r^(1+b) - r)/b - (r - 1)]``: Basu's density-power family.

    ``b -> 0`` is KL up to a constant, and b = 1 with scale 1/2 is least squares, ``f = (r - 1)^2 / 2``.
    """

    exponent: float
    scale: float = 1.0
    name: str = "power"

    def __post_init__(self) -> None:
        """Refuse an exponent or a scale that is not positive."""
        check_positive(self.exponent, "exponent of the power generator")
        check_positive(self.scale, "scale of the power generator")

    def value(self, ratio: FloatArray) -> FloatArray:
        """Return ``f(r)``."""
        b = self.exponent
        return np.asarray(self.scale * (ratio * (ratio**b - 1.0) / b - (ratio - 1.0)))

    def slope(self, log_ratio: Any) -> Any:
        """Return ``scale (1 + b)/b (r^b - 1)``."""
        b = self.exponent
        return self.scale * (1.0 + b) / b * array_namespace(log_ratio).expm1(b * log_ratio)

    def conjugate(self, log_ratio: Any) -> Any:
        """Return ``scale (r^(1+b) - 1)``."""
        return self.scale * array_namespace(log_ratio).expm1((1.0 + self.exponent) * log_ratio)

    def weight(self, log_ratio: Any) -> Any:
        """Return ``scale (1 + b) r^b``."""
        b = self.exponent
        return self.scale * (1.0 + b) * array_namespace(log_ratio).exp(b * log_ratio)

    def weight_slope(self, log_ratio: Any) -> Any:
        """Return ``b w(u)``."""
        return self.exponent * self.weight(log_ratio)

    def relative_loss(self, log_ratio: Any, alpha: Any) -> Any:
        """Return ``alpha c - f'`` in a form whose overflow is +inf and never inf - inf."""
        # r^(1+b) - 1 = (r^b - 1) r + (r - 1): the large terms are then a product instead of a difference.
        xp, b = array_namespace(log_ratio), self.exponent
        excess = xp.expm1(b * log_ratio) * (alpha * xp.exp(log_ratio) - (1.0 + b) / b)
        return self.scale * (excess + alpha * xp.expm1(log_ratio))


def power(exponent: float) -> Generator:
    """Power generator with a given exponent.

    ``f = (r^(1+b) - r)/b - (r - 1)`` with ``b = exponent``.

    Parameters
    ----------
    exponent : float
        b > 0. Losses are convex in the policy for b <= 1.

    Returns
    -------
    Generator
        Accepted wherever a generator's name is.

    Raises
    ------
    ValueError
        If the exponent is not finite and positive.

    References
    ----------
    .. [1] Sugiyama, Suzuki and Kanamori, "Density-ratio matching under the Bregman divergence", 2012.

    Examples
    --------
    >>> power(0.25).name
    'power(0.25)'
    """
    return Power(exponent, name=f"power({exponent:g})")


GENERATORS: dict[str, Generator] = {
    generator.name: generator
    for generator in (Logistic(), Power(1.0, scale=0.5, name="least_squares"), KullbackLeibler(), Power(0.5))
}
"""Generators by name; "power" has exponent 0.5, use `power` for another one."""


def get_generator(generator: str | Generator) -> Generator:
    """Look up a generator by name; a `Generator` is returned as it is.

    Parameters
    ----------
    generator : str or Generator
        A key of `GENERATORS`, or a generator such as ``power(0.25)``.

    Returns
    -------
    Generator
        The generator.

    Raises
    ------
    ValueError
        If there is no generator of that name; the nearest one is named.

    Examples
    --------
    >>> get_generator("logistic").name
    'logistic'
    """
    if isinstance(generator, Generator):
        return generator
    return GENERATORS[check_choice("generator", generator, GENERATORS)]


def bregman_divergence(
    generator: str | Generator, true_ratio: ArrayLike, model_ratio: ArrayLike, weights: ArrayLike
) -> float:
    """Bregman divergence between two density ratios under the denominator's law.

    ``sum_i weights_i [f(t_i) - f(m_i) - f'(m_i) (t_i - m_i)]`` with ``t = true_ratio`` and ``m = model_ratio``.
    It is the excess risk of the model ratio in density-ratio fitting.

    Parameters
    ----------
    generator : str or Generator
        The convex function f.
    true_ratio, model_ratio : array_like
        Ratios in [0, inf), of one shape.
    weights : array_like
        Probabilities of the denominator's law (not negative), of the same shape.

    Returns
    -------
    float
        Divergence in [0, inf]; 0 if and only if the ratios agree wherever the weights are positive.

    Raises
    ------
    ValueError
        If a value is negative, NaN or infinite, or the shapes differ.

    References
    ----------
    .. [1] Sugiyama, Suzuki and Kanamori, "Density-ratio matching under the Bregman divergence", 2012, section 3.

    Examples
    --------
    >>> bregman_divergence("least_squares", [1.0, 2.0], [1.0, 1.0], [0.5, 0.5])
    0.25
    """
    chosen = get_generator(generator)
    true = check_nonnegative("true_ratio", true_ratio)
    model = check_nonnegative("model_ratio", model_ratio)
    mass = check_nonnegative("weights", weights)
    check_same_shape(true_ratio=true, model_ratio=model, weights=mass)
    seen = mass > 0
    true, model, mass = true[seen], model[seen], mass[seen]
    with np.errstate(divide="ignore"):
        log_model = np.log(model)
    # f(t) - f(m) - f'(m)(t - m) = f(t) + c(log m) - f'(m) t, and 0 * f'(0) = 0 at t = 0 even where f'(0) = -inf.
    linear = np.zeros_like(true)
    np.multiply(chosen.slope(log_model), true, out=linear, where=true > 0)
    gaps = np.where(true == model, 0.0, chosen.value(true) + chosen.conjugate(log_model) - linear)
    return max(float(np.dot(mass, gaps)), 0.0)


def _x_log_x(values: FloatArray) -> FloatArray:
    """Return ``x log x`` with ``0 log 0 = 0``."""
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)))
