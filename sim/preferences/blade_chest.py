"""The blade-chest model: each response attacks with a blade and defends with a chest."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import (
    check_absent,
    check_exactly_one,
    check_given,
    check_integer,
    check_number,
    check_random_size,
    check_rng,
)
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_rms
from theory.bradley_terry_fit import score_differences
from theory.checks import FloatArray, check_choice, check_positive, check_same_shape

_KINDS = ("inner", "dist")


def blade_chest(
    responses: int | None = None,
    prompts: int = 1,
    *,
    kind: str = "inner",
    blades: ArrayLike | None = None,
    chests: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    signal: float | None = None,
    dimension: int = 2,
    score_spread: float = 1.0,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build preferences from a blade b_i, a chest c_i and a score s_i of each response, given or random.

    - inner: ``P_ij = sigma(b_i . c_j - c_i . b_j + s_i - s_j)``;
    - dist: ``P_ij = sigma(|b_j - c_i|^2 - |b_i - c_j|^2 + s_i - s_j)``: i wins if its blade comes nearer to the chest
      of j than the blade of j to its own.

    Random blades and chests are standard normal and random scores normal; the logits are then rescaled to the root
    mean square `signal`, which is the same as rescaling blades, chests and scores.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random vectors, read off `blades` otherwise.
    prompts : int, default 1
        Number of prompts of the random vectors, each with vectors of its own.
    kind : {"inner", "dist"}, default "inner"
        How blades and chests meet.
    blades, chests : array_like, shape (prompts, K, d) or (K, d), optional
        The vectors b and c, both or neither. Exactly one of `blades` and `signal` must be given.
    scores : array_like, shape (prompts, K) or (K,), optional
        The scores s in nats, together with `blades`; zero by default.
    signal : float, optional
        Root mean square logit > 0 of the random model over the pairs i != j, in nats.
    dimension : int, default 2
        Dimension d >= 1 of random blades and chests.
    score_spread : float, default 1
        Standard deviation >= 0 of random scores, before rescaling: 0 leaves blades and chests alone, a large one
        comes near Bradley-Terry.
    rng : numpy.random.Generator, optional
        Source of the random vectors.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `blades` and `signal` is given, or an argument is out of range or of the wrong type.

    Notes
    -----
    Zero blades give Bradley-Terry with the scores s (inner) or ``s_i + |c_i|^2`` (dist). Expanding the squares shows
    that dist is inner with doubled blades and the scores ``s_i + |c_i|^2 - |b_i|^2``.

    References
    ----------
    .. [1] After S. Chen and T. Joachims, "Modeling intransitivity in matchup and comparison data", WSDM 2016.

    Examples
    --------
    >>> circle = [[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]
    >>> turned = [[0.0, -1.0], [0.75**0.5, 0.5], [-(0.75**0.5), 0.5]]
    >>> blade_chest(blades=circle, chests=turned).probabilities.round(3)
    array([[[0.5 , 0.85, 0.15],
            [0.15, 0.5 , 0.85],
            [0.85, 0.15, 0.5 ]]])
    """
    check_choice("kind", kind, _KINDS)
    check_exactly_one(blades=blades, signal=signal)
    if blades is None:
        check_absent("must only be given together with blades", chests=chests, scores=scores)
        shape = check_random_size("blades", responses, prompts)
        generator, axis = check_rng(rng), check_integer("dimension", dimension, 1)
        blade, chest = generator.standard_normal((2, *shape, axis))
        score = check_number("score_spread", score_spread) * generator.standard_normal(shape)
        return PairwisePreference(
            "blade_chest", expit(check_positive(signal, "signal") * unit_rms(_logits(kind, blade, chest, score)))
        )
    if chests is None:
        raise ValueError("chests must be given together with blades, got None")
    blade = check_given("blades", blades, "K, d", responses, prompts)
    chest = check_given("chests", chests, "K, d", responses, prompts)
    check_same_shape(blades=blade, chests=chest)
    score = np.zeros(blade.shape[:2])
    if scores is not None:
        score = check_given("scores", scores, "K", blade.shape[1], len(blade))
        check_same_shape(scores=score, blades=blade[:, :, 0])
    return PairwisePreference("blade_chest", expit(_logits(kind, blade, chest, score)))


def _logits(kind: str, blades: FloatArray, chests: FloatArray, scores: FloatArray) -> FloatArray:
    """Return the logits (prompts, K, K) of blades and chests (prompts, K, d) and scores (prompts, K)."""
    if kind == "inner":
        meeting = np.einsum("xid,xjd->xij", blades, chests)
    else:
        meeting = np.square(chests[:, :, np.newaxis] - blades[:, np.newaxis]).sum(axis=-1)
    return meeting - meeting.swapaxes(1, 2) + score_differences(scores)
