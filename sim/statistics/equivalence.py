"""Tests of claims: equivalence and its opposite, and Holm's correction over the scenarios of a claim."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from theory.checks import FloatArray, as_floats

__all__ = ["equivalence_p", "holm"]


def equivalence_p(estimate: float, error: float, low: float, high: float) -> tuple[float, float]:
    """Test whether a parameter lies inside an interval, and whether it lies outside.

    With a normal estimate b of standard error s, the p-value of the null "outside [low, high]" is that of two
    one-sided tests, ``max(Phi((low - b)/s), Phi((b - high)/s))``: at most 5 % exactly where the 90 % interval
    ``b -+ 1.645 s`` lies inside. That of the null "inside" is the largest probability, over the interval, of an
    estimate at least as far from its middle, attained at its ends:
    ``min(Phi((high - b)/s) + Phi((low - b)/s), Phi((b - low)/s) + Phi((b - high)/s))``.

    Parameters
    ----------
    estimate : float
        b.
    error : float
        s, at least 0. At 0 the estimate is taken as exact.
    low, high : float
        Ends of the interval, low < high; one of them may be infinite.

    Returns
    -------
    inside, outside : float
        p-values of the nulls "outside" and "inside": a small first one supports "inside", a small second one
        "outside". Both are 1 where estimate or error is NaN.

    Raises
    ------
    ValueError
        If the interval is empty.

    References
    ----------
    .. [1] Two one-sided tests: Schuirmann (1987), J. Pharmacokinetics and Biopharmaceutics 15.
    .. [2] Interval null: Hodges and Lehmann (1954), J. Royal Statistical Society B 16.

    Examples
    --------
    >>> inside, outside = equivalence_p(-0.5, 0.01, -0.55, -0.45)
    >>> inside < 1e-6, outside
    (True, 1.0)
    """
    if not low < high:
        raise ValueError(f"low must be less than high, got {low} and {high}")
    if np.isnan(estimate) or np.isnan(error):
        return 1.0, 1.0
    if error == 0.0:
        return (0.0, 1.0) if low <= estimate <= high else (1.0, 0.0)
    below, above = (low - estimate) / error, (estimate - high) / error
    outside = min(ndtr(-above) + ndtr(below), ndtr(-below) + ndtr(above))
    return float(max(ndtr(below), ndtr(above))), float(min(outside, 1.0))


def holm(p: ArrayLike) -> FloatArray:
    """Adjust p-values for their number by Holm's step-down method.

    With the p-values sorted, ``p_(1) <= ... <= p_(m)``, the i-th adjusted one is
    ``min(1, max_{j <= i} (m - j + 1) p_(j))``. To call all those at most q significant makes a false call with
    probability at most q, whatever their dependence.

    Parameters
    ----------
    p : array_like
        p-values in [0, 1], shape (m,).

    Returns
    -------
    ndarray
        Adjusted p-values in the order of `p`.

    Raises
    ------
    ValueError
        If a value lies outside [0, 1].

    References
    ----------
    .. [1] Holm (1979), Scandinavian J. Statistics 6.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = as_floats("p", p)
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError(f"p must lie in [0, 1], got {values[~((values >= 0.0) & (values <= 1.0))][0]:g}")
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(adjusted, 1.0)
