"""A mixture of annotator groups: each is Bradley-Terry, all of them together need not be."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import (
    check_absent,
    check_exactly_one,
    check_given,
    check_integer,
    check_random_size,
    check_rng,
    with_even_diagonal,
)
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_gradient
from theory.bradley_terry_fit import score_differences
from theory.checks import FloatArray, check_positive, check_probabilities

# Three equal groups that rank three responses 0 > 1 > 2, 1 > 2 > 0 and 2 > 0 > 1: majorities go in a circle.
CONDORCET_UTILITIES = ((4.0, 2.0, 0.0), (0.0, 4.0, 2.0), (2.0, 0.0, 4.0))


def annotator_mixture(
    responses: int | None = None,
    prompts: int = 1,
    *,
    utilities: ArrayLike | None = None,
    signal: float | None = None,
    groups: int | None = None,
    weights: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences ``P_ij = sum_k w_k sigma(u_k(i) - u_k(j))`` of hidden groups of annotators.

    Each comparison is judged by an annotator of group k with probability w_k, and the data do not tell of which.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random utilities, read off `utilities` otherwise.
    prompts : int, default 1
        Number of prompts of the random utilities, each with utilities of its own.
    utilities : array_like, shape (prompts, groups, K) or (groups, K), optional
        The utilities u_k of each group in nats. Exactly one of `utilities` and `signal` must be given.
    signal : float, optional
        Root mean square logit > 0 of each group over the pairs i != j, in nats; utilities are Gaussian and
        independent between groups. The logits of the mixture are smaller, as groups disagree.
    groups : int, optional
        Number of groups >= 1 with random utilities; read off `utilities` otherwise.
    weights : array_like, shape (groups,), optional
        The shares w of the groups, summing to one; equal by default.
    rng : numpy.random.Generator, optional
        Source of the random utilities.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `utilities` and `signal` is given, `groups` is missing or superfluous, or an argument is
        out of range or of the wrong type.

    Notes
    -----
    One group is Bradley-Terry. With CONDORCET_UTILITIES each response is preferred to the next one by two groups of
    three, so that the majorities form a Condorcet cycle and no scores explain them: P_01 = P_12 = P_20 =
    (2 sigma(2) + sigma(-4))/3 = .593.

    References
    ----------
    .. [1] After A. Siththaranjan, C. Laidlaw and D. Hadfield-Menell, "Distributional preference learning:
       understanding and accounting for hidden context in RLHF", arXiv 2312.08358 (hidden context; there an annotator's
       choice may be of any kind, here it is Bradley-Terry).

    Examples
    --------
    >>> annotator_mixture(utilities=CONDORCET_UTILITIES).probabilities.round(3)
    array([[[0.5  , 0.593, 0.407],
            [0.407, 0.5  , 0.593],
            [0.593, 0.407, 0.5  ]]])
    """
    check_exactly_one(utilities=utilities, signal=signal)
    if utilities is not None:
        check_absent("must only be given together with signal", groups=groups)
        logits = score_differences(check_given("utilities", utilities, "groups, K", responses, prompts))
    else:
        if groups is None:
            raise ValueError("groups must be given for random utilities, got None")
        count, number = check_random_size("utilities", responses, prompts)
        draws = check_rng(rng).standard_normal((count, check_integer("groups", groups, 1), number))
        logits = check_positive(signal, "signal") * unit_gradient(draws)
    mixed = np.einsum("k,xkij->xij", _shares(weights, logits.shape[1]), expit(logits))
    return PairwisePreference("annotator_mixture", with_even_diagonal(mixed))


def _shares(weights: ArrayLike | None, groups: int) -> FloatArray:
    """Return the shares of the groups, summing to one up to a last rounding."""
    if weights is None:
        return np.full(groups, 1.0 / groups)
    shares = check_probabilities("weights", weights)
    if shares.shape != (groups,):
        raise ValueError(f"weights must have one entry for each of the {groups} groups, got shape {shares.shape}")
    return shares / shares.sum()
