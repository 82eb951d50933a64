"""Pairs of laws of responses in R^d with known densities and a dial for their overlap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from theory.checks import FloatArray

__all__ = ["SHAPES", "ContinuousLaw"]

SHAPES = ("gaussian", "bimodal", "banana")
"""Shapes of the pair of laws, see `ContinuousLaw`."""


@dataclass(frozen=True)
class ContinuousLaw:
    """The preferred or the non-preferred law of a pair, with unit covariance of the noise.

    With ``s = separation`` and e the unit vector along (1, ..., 1):
    "gaussian" ``N(+-s/2 e, I)``, whose log-ratio is linear;
    "bimodal" ``p+`` an equal mixture of ``N(s/2 e, I)`` and ``N(-s/2 e, I)`` around ``p- = N(0, I)``;
    "banana" ``y_2 = +-s/2 (y_1^2 - 1)/sqrt(2) + noise``, standard normal otherwise: not elliptic, curved up or down.

    Parameters
    ----------
    shape : {"gaussian", "bimodal", "banana"}
        Shape of the pair.
    dimension : int
        d, at least 1; at least 2 for the banana.
    separation : float
        s, in units of the noise; 0 makes the laws equal, and overlap falls as it grows.
    preferred : bool
        Which of the two laws.

    Examples
    --------
    >>> law = ContinuousLaw("gaussian", 1, 2.0, preferred=True)
    >>> law.log_density([[1.0]]).round(4)  # its mean: -log(2 pi)/2
    array([-0.9189])
    """

    shape: str
    dimension: int
    separation: float
    preferred: bool

    def log_density(self, points: ArrayLike) -> FloatArray:
        """Return log-densities in nats of points of shape (..., d)."""
        y = np.asarray(points, dtype=np.float64)
        if self.shape == "bimodal" and self.preferred:
            parts = [_log_normal(y - sign * self._shift()) for sign in (1.0, -1.0)]
            return np.asarray(np.logaddexp(*parts) - np.log(2.0))
        return _log_normal(y - self._centre(y))

    def sample(self, size: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Draw points, shape ``(*size, d)``."""
        noise = rng.standard_normal((*size, self.dimension))
        if self.shape == "bimodal" and self.preferred:
            signs = rng.choice((-1.0, 1.0), size=size)
            return np.asarray(noise + signs[..., None] * self._shift())
        return np.asarray(noise + self._centre(noise))

    def _shift(self) -> FloatArray:
        """Return ``s/2 e``."""
        return np.full(self.dimension, 0.5 * self.separation / np.sqrt(self.dimension))

    def _centre(self, points: FloatArray) -> FloatArray:
        """Return the conditional mean of points given their first coordinate."""
        sign = 1.0 if self.preferred else -1.0
        if self.shape == "gaussian":
            return sign * self._shift()
        centre = np.zeros_like(points)
        if self.shape == "banana":
            centre[..., 1] = sign * 0.5 * self.separation * (points[..., 0] ** 2 - 1.0) / np.sqrt(2.0)
        return centre


def _log_normal(residuals: FloatArray) -> FloatArray:
    """Return the standard normal log-density over the last axis."""
    return np.asarray(-0.5 * (residuals**2).sum(axis=-1) - 0.5 * residuals.shape[-1] * np.log(2.0 * np.pi))
