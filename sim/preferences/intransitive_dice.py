"""Intransitive dice: exact win probabilities of dice of which each beats the next in a circle."""

import numpy as np
from numpy.typing import ArrayLike

from sim.preferences.base import PairwisePreference
from theory.checks import as_floats

EFRON_DICE = ((4, 4, 4, 4, 0, 0), (3, 3, 3, 3, 3, 3), (6, 6, 2, 2, 2, 2), (5, 5, 5, 1, 1, 1))


def intransitive_dice(dice: ArrayLike = EFRON_DICE) -> PairwisePreference:
    """Build the preferences of dice: the higher face wins, equal faces are decided by a coin flip.

    ``P_ij = (#{(a, b): a > b} + #{(a, b): a = b} / 2) / (faces_i faces_j)`` over the faces a of die i and b of die j.

    Parameters
    ----------
    dice : array_like, shape (K, faces), default EFRON_DICE
        The faces of each of K >= 2 fair dice, one die a row.

    Returns
    -------
    PairwisePreference
        One prompt, one response a die.

    Raises
    ------
    ValueError, TypeError
        If `dice` is not a finite matrix with at least two rows.

    Notes
    -----
    With Efron's dice each die beats the next one, and the last one the first, with probability 2/3 exactly.

    References
    ----------
    .. [1] M. Gardner, "The paradox of the nontransitive dice", Scientific American 223, 1970 (B. Efron's dice).

    Examples
    --------
    >>> np.round(intransitive_dice().probabilities[0], 3)
    array([[0.5  , 0.667, 0.444, 0.333],
           [0.333, 0.5  , 0.667, 0.5  ],
           [0.556, 0.333, 0.5  , 0.667],
           [0.667, 0.5  , 0.333, 0.5  ]])
    """
    faces = as_floats("dice", dice)
    if faces.ndim != 2 or faces.shape[0] < 2 or faces.shape[1] < 1 or not np.isfinite(faces).all():
        raise ValueError(f"dice must be a finite matrix (K, faces) with K >= 2, got shape {faces.shape}")
    difference = faces[:, np.newaxis, :, np.newaxis] - faces[np.newaxis, :, np.newaxis, :]
    points = (np.sign(difference) + 1.0).sum(axis=(2, 3))  # 2 for a win, 1 for equal faces: whole numbers, no rounding
    return PairwisePreference("intransitive_dice", points / (2 * faces.shape[1] ** 2))
