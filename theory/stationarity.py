"""Stationarity of every unpaired risk over normalised policies, response by response.

For class-weighted masses ``B = w+ p+`` and ``D = w- p-`` a policy ``p = q r`` over responses with reference ``q``
minimises ``sum_y [B loss+(log r) + D loss-(log r)]`` over the simplex only if every response satisfies
``phi(r) = lambda q`` with one multiplier ``lambda`` per prompt and ``phi`` the derivative of its summand in ``r``
(with inequalities at r = 0 and r = 1/t). All ratios below are found on the branch where ``phi`` rises.

rdro: ``phi = f''(r) (A r - B)`` with ``A = t B + (1 - t) D``; ddro: ``phi = f''(g) (D g - B) dg/dr``, for the
logistic generator ``(A r - B) / (r (1 - t r) (1 + (1 - 2 t) r))``; mle: ``phi = (A r - B) / (r (1 - t r))`` with
``A = t (B + D)``. The pointwise minimiser is ``B / A`` in each case. Derived here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from theory.bregman import Generator, Power
from theory.checks import FloatArray

__all__ = [
    *("Branch", "Cells", "RelativeKullbackLeibler", "RelativeLogistic"),
    *("branch_for", "denominators", "pointwise_minimisers"),
]

_INVERSION_STEPS = 200
_STEP = 1e-9  # in u; Newton's next step is its square
_TINY = float(np.finfo(float).tiny)
_ZERO = 1e-280  # ratios below are zero: no risk can tell
_FAR = 1e20  # where t g / (1 - t) is this large, r = g / (1 - t + t g) is 1/t to the last digit


@dataclass(frozen=True)
class Cells:
    """Class-weighted masses B and D and alpha, of one shape (problems, responses)."""

    preferred: FloatArray
    nonpreferred: FloatArray
    alpha: FloatArray

    def __getitem__(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "Cells":
        """Return the cells of some problems."""
        return Cells(self.preferred[rows], self.nonpreferred[rows], self.alpha[rows])

    @cached_property
    def mixture(self) -> FloatArray:
        """``t B + (1 - t) D``."""
        return np.asarray(self.alpha * self.preferred + (1.0 - self.alpha) * self.nonpreferred)


class Branch(Protocol):
    """The rising branch of phi, one value per response."""

    def peak(self, cells: Cells) -> FloatArray:
        """Return the largest phi that the branch reaches (inf if it has no end)."""

    def ratios(self, cells: Cells, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the ratios with the given phi, and their derivatives in phi."""


def denominators(method: str, cells: Cells) -> FloatArray:
    """Return A, so that the pointwise minimiser is ``B / A``."""
    if method == "mle":
        return np.asarray(cells.alpha * (cells.preferred + cells.nonpreferred))
    return cells.mixture


def pointwise_minimisers(method: str, cells: Cells) -> FloatArray:
    """Return ``B / A``, the minimiser without normalisation; 0 where a response has no mass."""
    divisor = denominators(method, cells)
    return np.asarray(cells.preferred / np.where(divisor > 0, divisor, 1.0))


def branch_for(method: str, generator: Generator, alpha: FloatArray) -> Branch:
    """Return the branch of a method: in closed form where there is one, by root search otherwise."""
    if method == "mle" or (method == "ddro" and generator.name == "logistic" and bool(np.all(alpha == 0.5))):
        return Likelihood()  # at alpha = 1/2 the two losses agree (proposition P7)
    if method == "ddro" and generator.name == "logistic":
        return DirectLogistic(method, generator)
    if method == "rdro" and generator.name == "logistic":
        return RelativeLogistic()
    if method == "rdro" and generator.name == "kl":
        return RelativeKullbackLeibler()
    if method == "rdro" and isinstance(generator, Power) and generator.exponent == 1.0:
        return RelativeLeastSquares(2.0 * generator.scale)
    return Numeric(method, generator)


class RelativeLogistic:
    """``(A r - B) / (r (1 + r)) = phi``: a quadratic in r, whose lower root is the rising branch (proposition P9)."""

    def peak(self, cells: Cells) -> FloatArray:
        """Return ``(sqrt(A + B) - sqrt(B))^2``, reached at the inflection ``sqrt(B) / (sqrt(A + B) - sqrt(B))``."""
        a, b = denominators("rdro", cells), cells.preferred
        # The difference of square roots as a quotient: no cancellation when B is much larger than A.
        return np.asarray((a / np.maximum(np.sqrt(a + b) + np.sqrt(b), _TINY)) ** 2)

    def ratios(self, cells: Cells, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the lower root of ``phi r^2 + (phi - A) r + B = 0`` and its derivative ``r (1 + r) / sqrt(disc)``."""
        a, b = denominators("rdro", cells), cells.preferred
        gap = a - phi
        root = np.sqrt(np.maximum(gap * gap - 4.0 * phi * b, 0.0))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # far from the root r may be 1e300
            ratio = 2.0 * b / np.maximum(gap + root, _TINY)
            slope = ratio * (1.0 + ratio) / np.maximum(root, _TINY)  # 0 where B = 0, so r = 0
        return ratio, slope


class RelativeKullbackLeibler:
    """``A - B / r = phi``."""

    def peak(self, cells: Cells) -> FloatArray:
        """Return A, approached as r grows without bound."""
        return denominators("rdro", cells)

    def ratios(self, cells: Cells, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ``B / (A - phi)`` and its derivative."""
        gap = np.maximum(denominators("rdro", cells) - phi, _TINY)
        with np.errstate(over="ignore"):  # at the end of the branch r is inf
            return cells.preferred / gap, cells.preferred / gap / gap


@dataclass(frozen=True)
class RelativeLeastSquares:
    """``f'' (A r - B) = phi`` with constant ``f''``; r = 0 where the root would be negative."""

    curvature: float

    def peak(self, cells: Cells) -> FloatArray:
        """Return inf."""
        return np.full_like(cells.preferred, np.inf)

    def ratios(self, cells: Cells, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ``max((B + phi / f'') / A, 0)`` and its derivative."""
        a = denominators("rdro", cells)
        numerator = cells.preferred + phi / self.curvature
        positive = (numerator > 0) & (a > 0)
        divisor = np.where(a > 0, a, 1.0)
        return np.where(positive, numerator / divisor, 0.0), np.where(positive, 1.0 / (self.curvature * divisor), 0.0)


class Likelihood:
    """``(A r - B) / (r (1 - t r)) = phi``: a quadratic in r; convex in the policy (proposition P9)."""

    def peak(self, cells: Cells) -> FloatArray:
        """Return inf: phi grows without bound towards r = 1/t."""
        return np.full_like(cells.preferred, np.inf)

    def ratios(self, cells: Cells, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the root of ``phi t r^2 + (A - phi) r - B = 0`` in [0, 1/t] and its derivative."""
        a, b, t = denominators("mle", cells), cells.preferred, cells.alpha
        gap, span = a - phi, a + phi
        # Of two forms of each root, the one that adds numbers of one sign.
        root = np.sqrt(
            np.where(phi > 0, gap * gap + 4.0 * phi * t * b, span * span - 4.0 * phi * t * cells.nonpreferred)
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = np.where(gap > 0, 2.0 * b / (gap + root), (root - gap) / (2.0 * phi * t))
            slope = ratio * (1.0 - t * ratio) / root
        unseen = (b <= 0) & (cells.nonpreferred <= 0)
        ratio = np.where(unseen, 0.0, np.minimum(ratio, 1.0 / t))
        return ratio, np.where(unseen | ~np.isfinite(slope), 0.0, np.maximum(slope, 0.0))


@dataclass(frozen=True)
class Numeric:
    """Branch without a closed form: each response's phi is inverted by Newton steps inside a shrinking bracket.

    The unknown is u, the logarithm of the ratio that the generator sees: r of rdro, and g of ddro, in which the edge
    of the domain, r = 1/t, lies at infinity.
    """

    method: str
    generator: Generator

    def peak(self, cells: Cells) -> FloatArray:
        """Return inf."""
        return np.full_like(cells.preferred, np.inf)

    def phi(self, cells: Cells, inner: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return phi at the ratio that the generator sees, and its derivative in u, from those of the risk in u."""
        if self.method == "rdro":
            first, second = self._risk_slopes(np.log(inner), denominators("rdro", cells) * inner, cells.preferred)
            return first / inner, (second - first) / inner
        first, second = self._risk_slopes(np.log(inner), cells.nonpreferred * inner, cells.preferred)
        scale = 1.0 - cells.alpha + cells.alpha * inner  # r = g / scale
        chain = scale * (scale / inner) / (1.0 - cells.alpha)  # du/dr
        return first * chain, (second + first * (2.0 * cells.alpha * inner / scale - 1.0)) * chain

    def _risk_slopes(
        self, log_ratio: FloatArray, denominator: FloatArray, numerator: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the derivatives of ``a c(u) - b f'(e^u)`` in u, where ``denominator`` is ``a e^u``."""
        weight, excess = self.generator.weight(log_ratio), denominator - numerator
        return weight * excess, self.generator.weight_slope(log_ratio) * excess + weight * denominator

    def ratios(self, cells: Cells, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the ratios with the given phi, and their derivatives in phi; ends of the range where none has it."""
        low, high, u, taken = self._bracket(cells, phi)
        moved = high - low
        for _ in range(_INVERSION_STEPS):
            value, slope = self.phi(cells, np.exp(u))
            above = value > phi
            high, low = np.where(above, u, high), np.where(above, low, u)
            with np.errstate(divide="ignore", invalid="ignore"):
                newton = u - (value - phi) / slope
            # Newton as long as it stays inside and at least halves its last move; else the bracket is halved.
            fast = (newton >= low) & (newton <= high) & (np.abs(newton - u) <= 0.5 * moved)
            following = np.where(fast, newton, 0.5 * (low + high))
            moved = np.where(taken, np.abs(following - u), 0.0)
            u = np.where(taken, following, u)
            if (moved <= _STEP).all():
                break
        return self._polished(cells, phi, np.exp(u), taken)

    def _polished(
        self, cells: Cells, phi: FloatArray, inner: FloatArray, taken: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray]:
        """Return ratios after a last Newton step, of the ratio itself, whose rounding is relative, and derivatives."""
        value, slope = self.phi(cells, inner)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = (value - phi) / slope
            taken = taken & (slope > 0) & (np.abs(step) <= 1e-6)
            inner = np.where(taken, inner * (1.0 - step), inner)
            ratio, tangent = inner, inner
            if self.method == "ddro":
                scale = 1.0 - cells.alpha + cells.alpha * inner
                ratio = np.minimum(inner / scale, (1.0 - 4.0 * np.finfo(float).eps) / cells.alpha)
                tangent = ratio * (1.0 - cells.alpha) / scale  # dr/du
            positive = (ratio > _ZERO) & ((cells.preferred > 0) | (cells.nonpreferred > 0))
            derivative = np.where(positive & taken, tangent / slope, 0.0)
        return np.where(positive, ratio, 0.0), np.where(np.isfinite(derivative), derivative, 0.0)

    def _bracket(self, cells: Cells, phi: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
        """Return between which u phi takes its value, where to start, and whether it is taken at all."""
        a = cells.nonpreferred if self.method == "ddro" else denominators("rdro", cells)
        both = (cells.preferred > 0) & (a > 0)
        least = np.where(both, cells.preferred / np.where(a > 0, a, 1.0), 1.0)  # phi is 0 there
        bottom, rising = np.full_like(phi, 0.1 * _ZERO), phi > 0
        if self.method == "ddro":
            top = _FAR * (1.0 - cells.alpha) / cells.alpha
        else:
            top = np.maximum(least, 1.0)
            for _ in range(1000):
                short = (self.phi(cells, top)[0] < phi) & (cells.preferred + cells.nonpreferred > 0)
                if not short.any():
                    break
                top = np.where(short, 2.0 * top, top)
        least = np.clip(least, bottom, top)
        above, below = rising & both, ~rising & both  # phi is taken above its zero, or below it
        at_bottom = ~above & (self.phi(cells, bottom)[0] > phi)
        at_top = ~below & (self.phi(cells, top)[0] < phi)
        start = np.where(at_bottom, bottom, np.where(at_top, top, least))
        low, high = np.where(above, least, bottom), np.where(below, least, top)
        taken = ~(at_bottom | at_top) & (cells.preferred + cells.nonpreferred > 0)
        return np.log(low), np.log(high), np.log(start), taken


class DirectLogistic(Numeric):
    """``(A r - B) / (r (1 - t r) (1 + (1 - 2 t) r)) = phi``: a cubic in r, inverted numerically."""

    def phi(self, cells: Cells, inner: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ``(D - B/g) (1 - t + t g)^2 / ((1 - t) (1 + g))``, which is phi, and its derivative in log g."""
        t, per_unit = cells.alpha, cells.preferred / inner
        scale = 1.0 - t + t * inner
        factor = scale * (scale / (1.0 + inner)) / (1.0 - t)
        value = (cells.nonpreferred - per_unit) * factor
        return value, per_unit * factor + value * (2.0 * t * inner / scale - inner / (1.0 + inner))
