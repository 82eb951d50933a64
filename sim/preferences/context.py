"""Context effects: a pair is judged within a menu, whose other members change how its two responses look."""

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import (
    IntArray,
    check_absent,
    check_exactly_one,
    check_given,
    check_integer,
    check_number,
    check_random_size,
    check_rng,
    with_even_diagonal,
)
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_gradient
from theory.bradley_terry_fit import score_differences
from theory.checks import FloatArray, check_positive, check_same_shape

# Menus are averaged one by one: 50 000 of them take seconds at 64 responses.
_MOST_MENUS = 50_000


def context(
    responses: int | None = None,
    prompts: int = 1,
    *,
    utilities: ArrayLike | None = None,
    interactions: ArrayLike | None = None,
    signal: float | None = None,
    interaction_spread: float = 1.0,
    menu_size: int = 3,
    position_bias: float = 0.0,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences of pairs that are judged within a random menu, on average over menus.

    ``P_ij = E_M sigma(u_i - u_j + sum_{k in M} (a_ik - a_jk))`` with a zero diagonal of a. The menu M holds i, j and
    ``menu_size - 2`` other responses, drawn uniformly without replacement; a_ik is what the presence of k does to the
    utility of i. The member shown first gains b, and either is shown first with probability 1/2:
    ``P_ij = E_M [sigma(. + b) + sigma(. - b)] / 2``.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random utilities, read off `utilities` otherwise.
    prompts : int, default 1
        Number of prompts of the random utilities, each with utilities and interactions of its own.
    utilities : array_like, shape (prompts, K) or (K,), optional
        The utilities u in nats. Exactly one of `utilities` and `signal` must be given.
    interactions : array_like, shape (prompts, K, K) or (K, K), optional
        The effects a in nats, together with `utilities`: entry (i, k) is the effect of k on i; zero diagonal.
    signal : float, optional
        Root mean square > 0 of the random u_i - u_j over the pairs i != j, in nats; interactions come on top.
    interaction_spread : float, default 1
        Standard deviation >= 0 of the random a_ik, in nats. With 0 the model is Bradley-Terry, bias aside.
    menu_size : int, default 3
        Number of responses shown, from 2 (the pair alone) to K; at most 50 000 menus of the others.
    position_bias : float, default 0
        b >= 0 in nats.
    rng : numpy.random.Generator, optional
        Source of the random utilities and interactions.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `utilities` and `signal` is given, or an argument is out of range or of the wrong type.

    Notes
    -----
    In a menu of two the logits ``u_i - u_j + a_ij - a_ji`` can be any skew-symmetric matrix, cycles among them. If all
    responses are in every menu (`menu_size` = K) the logits are differences of the scores ``u_i + sum_k a_ik``: effects
    of a menu that never changes cannot be told from Bradley-Terry. In between the average over menus is a mixture, as
    over annotators. The bias shrinks logits, large ones by a smaller factor, and is not Bradley-Terry by itself.

    References
    ----------
    .. [1] After A. Seshadri, A. Peysakhovich and J. Ugander, "Discovering context effects from raw choice data", ICML
       2019, arXiv 1902.03266 (effects of each member of a choice set on each other). Random menus and bias: derived
       here.

    Examples
    --------
    A decoy (the last response) makes the first one look good, though without it the first two are equals:

    >>> effects = [[0.0, 0.0, 1.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    >>> context(utilities=[0.0, 0.0, -3.0], interactions=effects, menu_size=2).probabilities[0, 0, 1]
    np.float64(0.5)
    >>> context(utilities=[0.0, 0.0, -3.0], interactions=effects, menu_size=3).probabilities[0, 0, 1].round(3)
    np.float64(0.75)
    """
    check_exactly_one(utilities=utilities, signal=signal)
    bias = check_number("position_bias", position_bias)
    if utilities is None:
        check_absent("must only be given together with utilities", interactions=interactions)
        shape = check_random_size("utilities", responses, prompts)
        spread = check_number("interaction_spread", interaction_spread)
        generator = check_rng(rng)
        gradient = check_positive(signal, "signal") * unit_gradient(generator.standard_normal(shape))
        effects = spread * generator.standard_normal((*shape, shape[1])) * ~np.eye(shape[1], dtype=bool)
    else:
        gradient = score_differences(check_given("utilities", utilities, "K", responses, prompts))
        effects = _given_effects(interactions, gradient)
    menus = _menus(gradient.shape[1], menu_size)
    return PairwisePreference("context", with_even_diagonal(_average_over_menus(gradient, effects, menus, bias)))


def _given_effects(interactions: ArrayLike | None, gradient: FloatArray) -> FloatArray:
    """Return the given interactions, or zeros, in the shape of the gradient (prompts, K, K)."""
    if interactions is None:
        return np.zeros_like(gradient)
    effects = check_given("interactions", interactions, "K, K", gradient.shape[1], len(gradient))
    check_same_shape(interactions=effects, utilities=gradient)
    diagonal = np.diagonal(effects, axis1=1, axis2=2)
    if diagonal.any():
        raise ValueError(f"interactions must be 0 on the diagonal, got {diagonal[diagonal != 0.0][0]:g}")
    return effects


def _menus(responses: int, menu_size: int) -> IntArray:
    """Return the possible other members of a menu, (menus, menu_size - 2)."""
    others = check_integer("menu_size", menu_size, 2) - 2
    if menu_size > responses:
        raise ValueError(f"menu_size must be at most the number of responses, {responses}, got {menu_size}")
    if comb(responses, others) > _MOST_MENUS:
        raise ValueError(
            f"menu_size must leave at most {_MOST_MENUS} choices of the other members, got {comb(responses, others)} "
            f"for menu_size = {menu_size} and {responses} responses"
        )
    return np.array(list(combinations(range(responses), others)), dtype=np.int64)


def _average_over_menus(gradient: FloatArray, effects: FloatArray, menus: IntArray, bias: float) -> FloatArray:
    """Return the mean probability of each pair over the menus that hold neither of its two responses."""
    number = gradient.shape[1]
    alone = gradient + effects - effects.swapaxes(1, 2)
    total, count = np.zeros_like(alone), np.zeros((number, number))
    for others in menus:
        free = np.ones(number, dtype=bool)
        free[others] = False
        logits = alone + score_differences(effects[:, :, others].sum(axis=-1))
        applies = free[:, np.newaxis] & free
        total += applies * (expit(logits + bias) + expit(logits - bias)) / 2.0
        count += applies
    return total / np.maximum(count, 1.0)
