"""Rock, paper, scissors: preferences that are nothing but a cycle."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import check_absent, check_given, check_random_size
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_rms
from theory.bradley_terry_fit import score_differences
from theory.checks import FloatArray, check_choice, check_positive

_KINDS = ("sign", "sine")


def rock_paper_scissors(
    responses: int | None = None,
    prompts: int = 1,
    *,
    signal: float,
    kind: str = "sine",
    angles: ArrayLike | None = None,
) -> PairwisePreference:
    """Build cyclic preferences: each response beats those that follow it on a circle.

    - sign: ``P_ij = sigma(rho)`` where i beats j, which is each of the (K - 1)/2 responses that follow it on an odd
      circle, ``(j - i) mod K <= (K - 1)/2``;
    - sine: ``P_ij = sigma(c sin(theta_i - theta_j))``, with c such that the root mean square logit is rho.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 3, odd for the kind sign; needed unless `angles` are given.
    prompts : int, default 1
        Number of prompts; all have the same matrix unless `angles` are given.
    signal : float
        Root mean square logit rho > 0 over the pairs i != j, in nats.
    kind : {"sine", "sign"}, default "sine"
        How the logit depends on the places of two responses on the circle.
    angles : array_like, shape (prompts, K) or (K,), optional
        Places theta in radians, for the kind sine; evenly spaced by default, ``theta_i = -2 pi i / K``.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type, or if `angles` are given for the kind sign.

    Notes
    -----
    On the odd circle and with evenly spaced angles every response has the Borda score 1/2 under the uniform policy:
    wins and losses cancel pair by pair. Scores then explain nothing (the cyclic share is 1), and p+ = p- = mu, so that
    there is nothing to learn from single responses. With other angles the logits have a gradient part too.

    References
    ----------
    .. [1] The children's game with more than three moves; both kinds: derived here.

    Examples
    --------
    >>> rock_paper_scissors(3, kind="sign", signal=np.log(3.0)).probabilities
    array([[[0.5 , 0.75, 0.25],
            [0.25, 0.5 , 0.75],
            [0.75, 0.25, 0.5 ]]])
    >>> rock_paper_scissors(8, signal=1.0).borda(np.full((1, 8), 0.125)).round(12)
    array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    """
    size = check_positive(signal, "signal")
    if check_choice("kind", kind, _KINDS) == "sign":
        check_absent('must only be given for kind = "sine"', angles=angles)
        flow = _odd_circle(*check_random_size("cycles", responses, prompts, minimum=3))
    else:
        flow = np.sin(score_differences(_places(angles, responses, prompts)))
    return PairwisePreference("rock_paper_scissors", expit(size * unit_rms(flow)))


def _odd_circle(prompts: int, responses: int) -> FloatArray:
    """Return +1 where i beats j and -1 where j beats i on an odd circle, (prompts, K, K)."""
    if responses % 2 == 0:
        raise ValueError(f'responses must be odd for kind = "sign", got {responses}')
    place = np.arange(responses)
    ahead = (place - place[:, np.newaxis]) % responses
    beats = np.where(ahead <= (responses - 1) // 2, 1.0, -1.0) * (ahead > 0)
    return np.broadcast_to(beats, (prompts, responses, responses))


def _places(angles: ArrayLike | None, responses: int | None, prompts: int) -> FloatArray:
    """Return the given angles or evenly spaced ones, (prompts, K)."""
    if angles is not None:
        return check_given("angles", angles, "K", responses, prompts)
    count, number = check_random_size("cycles", responses, prompts, minimum=3)
    return np.broadcast_to(-2.0 * np.pi * np.arange(number) / number, (count, number))
