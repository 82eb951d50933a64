"""Class weights: the point where a correct loss becomes an inconsistent estimator.

``risk = w+ E+[loss] + w- E-[loss]``. Over a stream of mixed examples each example carries a static weight from the
data set's class counts; per-batch class means would be undefined for batches of one class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from theory.checks import FloatArray, as_floats, check_alpha, check_choice

__all__ = ["ClassWeights", "Weighting", "class_weights", "weighted_risk"]

Weighting: TypeAlias = str | Sequence[ArrayLike]
"""A scheme, "balanced" or "pooled", or an explicit pair (preferred, nonpreferred) of weights of one example."""


@dataclass(frozen=True)
class ClassWeights:
    """Weight of one preferred and of one non-preferred example, and the class fraction they belong to.

    Attributes
    ----------
    preferred, nonpreferred : ndarray
        Weights of one example, not negative; 0-d, or one value per prompt.
    preferred_fraction : ndarray
        Share of preferred examples, in (0, 1).
    """

    preferred: FloatArray
    nonpreferred: FloatArray
    preferred_fraction: FloatArray

    @property
    def risk_weights(self) -> tuple[FloatArray, FloatArray]:
        """Return ``(w+, w-)``, the weights of the two class means in the risk."""
        fraction = self.preferred_fraction
        return np.asarray(fraction * self.preferred), np.asarray((1.0 - fraction) * self.nonpreferred)


def class_weights(preferred_fraction: ArrayLike, weighting: Weighting = "balanced") -> ClassWeights:
    """Weights of single examples that give the two classes their share in the risk.

    "balanced": ``1 / (2 pi)`` and ``1 / (2 (1 - pi))``, so that both classes weigh one half; "pooled": 1 and 1, the
    plain mean over a mixed batch, so that they weigh ``pi`` and ``1 - pi``; with ``pi = preferred_fraction``.

    Parameters
    ----------
    preferred_fraction : float or array_like
        Share of preferred examples in the data set (or at each prompt), in (0, 1).
    weighting : {"balanced", "pooled"} or pair of floats or arrays
        The scheme, or the two weights themselves.

    Returns
    -------
    ClassWeights
        Weights of one preferred and one non-preferred example.

    Raises
    ------
    ValueError
        If the fraction lies outside (0, 1), the scheme is unknown, or an explicit weight is negative or both are 0.

    Notes
    -----
    Under weights (w+, w-) the pointwise minimiser of the RDRO risk is
    ``w+ p+ / (w+ alpha p+ + w- (1 - alpha) p-)``: the relative ratio if and only if ``w+ = w-``, which pooling gives
    only at ``pi = 1/2``.

    References
    ----------
    .. [1] Derived here from the RDRO risk of arXiv 2604.04410.

    Examples
    --------
    >>> weights = class_weights(0.2)
    >>> float(weights.preferred), float(weights.nonpreferred)
    (2.5, 0.625)
    >>> class_weights(0.2, "pooled").risk_weights
    (array(0.2), array(0.8))
    """
    fraction = check_alpha(preferred_fraction, "preferred_fraction")
    if isinstance(weighting, str):
        if check_choice("weighting", weighting, ("balanced", "pooled")) == "balanced":
            return ClassWeights(np.asarray(0.5 / fraction), np.asarray(0.5 / (1.0 - fraction)), fraction)
        return ClassWeights(np.ones_like(fraction), np.ones_like(fraction), fraction)
    if not isinstance(weighting, Sequence) or len(weighting) != 2:
        raise ValueError(f"weighting must be a scheme or a pair (preferred, nonpreferred), got {weighting!r}")
    preferred, nonpreferred = (as_floats("weighting", value) for value in weighting)
    valid = (preferred >= 0) & (nonpreferred >= 0) & (preferred + nonpreferred > 0)
    if not (np.all(valid) and np.all(np.isfinite(preferred + nonpreferred))):
        raise ValueError(f"weighting must be finite, not negative and not zero for both classes, got {weighting}")
    return ClassWeights(preferred, nonpreferred, fraction)


def weighted_risk(losses: Any, preferred: Any, weights: ClassWeights) -> Any:
    """Average of losses over a batch, each example carrying its class's static weight.

    ``mean_i [w(c_i) loss_i]``; unbiased for the class-weighted risk even when a batch holds one class only.

    Parameters
    ----------
    losses : array
        One loss per example, shape (examples,); NumPy or torch.
    preferred : array of bool
        Class of each example, same shape.
    weights : ClassWeights
        Scalar weights from the class counts of the whole data set.

    Returns
    -------
    array
        The risk, 0-d.

    Raises
    ------
    ValueError
        If the shapes differ or the weights are not scalars.

    Examples
    --------
    >>> from theory.losses import rdro_losses
    >>> preferred = np.array([True, False, False, False])
    >>> losses = rdro_losses(np.zeros(4), preferred, alpha=0.3)
    >>> round(float(weighted_risk(losses, preferred, class_weights(0.25))), 6)  # ln 2, for every alpha
    0.693147
    """
    if tuple(losses.shape) != tuple(preferred.shape):
        raise ValueError(f"losses and preferred must have the same shape, got {losses.shape} and {preferred.shape}")
    if weights.preferred.ndim or weights.nonpreferred.ndim:
        raise ValueError("weights must be scalars for a batch, got one weight per prompt")
    up, down = float(weights.preferred), float(weights.nonpreferred)
    return (losses * (down + (up - down) * preferred)).mean()
