"""Population target of KTO: the policy that is optimal at its own reference point.

With class-weighted masses ``B = w+ p+`` and ``D = w- p-`` the KTO risk at a fixed reference point z is
``const - sum_y (B_y - D_y) sigmoid(beta (log p_y/q_y - z))``: responses with ``B <= D`` get no mass at all, and for
``beta <= 1`` the rest is concave in the policy. In training z is an estimate of ``KL(p_theta || p_ref)`` that is not
differentiated, so that the point where training comes to rest solves ``z = E_x KL(p_z || p_ref)``. Derived here from
arXiv 2402.01306, eq. (8).
"""

import numpy as np

from theory.arrays import log_sigmoid
from theory.checks import FloatArray

__all__ = ["kto_policy"]

_SCAN = 33
_STEPS = 200
_LOWEST, _HIGHEST = -4000.0, 700.0  # log-ratios between which exp neither overflows nor fails to reach 0


def kto_policy(gain: FloatArray, reference: FloatArray, prompt_probs: FloatArray, beta: float) -> FloatArray:
    """Return the KTO target of gains ``B - D``, arrays (prompts, responses).

    Raises ValueError for beta above 1, for a prompt without any positive gain, and where several reference points are
    their own optimum.
    """
    if beta > 1.0:
        raise ValueError(f"beta must be at most 1 for the kto risk to be concave in the policy, got {beta:g}")
    # Differences of equal masses leave roundings of an eps: they are no gain.
    positive = np.where(gain > 1e-14, gain, 0.0)
    hopeless = np.nonzero(positive.sum(axis=1) <= 0)[0]
    if hopeless.size:
        raise ValueError(
            "kto has no unique target where no response is weighted more as preferred than as nonpreferred, "
            f"got such a prompt: {int(hopeless[0])}"
        )

    def excess(z: float) -> float:
        """Return the reference point minus the divergence of its optimal policy."""
        return z - _divergence(_optimum(positive, reference, beta, z), reference, prompt_probs)

    highest = -float(np.log(reference[reference > 0].min())) + 1.0
    scan = np.array([excess(z) for z in np.linspace(0.0, highest, _SCAN)])
    crossings = np.nonzero((scan[:-1] <= 0) & (scan[1:] > 0))[0]
    if len(crossings) != 1:
        raise ValueError(f"kto must have one reference point that is its own optimum, got {len(crossings)}")
    from scipy.optimize import brentq  # here, because scipy.optimize takes longer to import than the rest of theory

    step = highest / (_SCAN - 1)
    z = brentq(excess, crossings[0] * step, (crossings[0] + 1) * step, xtol=1e-14, rtol=4 * np.finfo(float).eps)
    return _optimum(positive, reference, beta, float(z))


def _divergence(policy: FloatArray, reference: FloatArray, prompt_probs: FloatArray) -> float:
    """Return ``E_x KL(policy || reference)``."""
    safe = np.where(policy > 0, policy, 1.0)
    logs = np.where(policy > 0, np.log(safe) - np.log(np.where(reference > 0, reference, 1.0)), 0.0)
    return float(prompt_probs @ (policy * logs).sum(axis=1))


def _optimum(gain: FloatArray, reference: FloatArray, beta: float, z: float) -> FloatArray:
    """Return the policies that maximise ``sum gain sigmoid(beta (log p/q - z))``.

    Stationarity in logs: ``log gain + log_sigmoid(y) + log_sigmoid(-y) - log r = log lambda + log q`` with
    ``y = beta (log r - z)``; the left side falls in log r with a slope of at most beta - 1.
    """
    used = gain > 0
    level = np.where(used, np.log(np.where(used, gain, 1.0)) - np.log(np.where(used, reference, 1.0)), 0.0)
    low, high = np.full(len(gain), -800.0), np.full(len(gain), 800.0)
    policy = reference
    for _ in range(_STEPS):
        log_multiplier = 0.5 * (low + high)
        policy = np.where(used, reference * np.exp(_log_ratio(level - log_multiplier[:, None], beta, z)), 0.0)
        total = policy.sum(axis=1)
        low, high = np.where(total > 1, log_multiplier, low), np.where(total > 1, high, log_multiplier)
        if np.all(high - low <= 4 * np.finfo(float).eps * np.maximum(1.0, np.abs(high))):
            break
    return np.asarray(policy / policy.sum(axis=1, keepdims=True))


def _log_ratio(level: FloatArray, beta: float, z: float) -> FloatArray:
    """Solve ``level + log_sigmoid(y) + log_sigmoid(-y) = x`` with ``y = beta (x - z)`` for x.

    The difference of the two sides is concave and falls in x: Newton's method that starts right of the root stays
    there. At beta = 1 it may have no root, and x then ends at the lower limit, a ratio of zero.
    """
    x = np.full_like(level, _HIGHEST)
    for _ in range(_STEPS):
        y = beta * (x - z)
        excess = level + log_sigmoid(y) + log_sigmoid(-y) - x
        slope = beta * (1.0 - 2.0 * np.exp(log_sigmoid(y))) - 1.0
        with np.errstate(divide="ignore", over="ignore"):
            following = np.clip(x - excess / np.minimum(slope, -np.finfo(float).tiny), _LOWEST, _HIGHEST)
        settled = np.abs(following - x) <= 4.0 * np.finfo(float).eps * np.maximum(1.0, np.abs(x))
        x = following
        if settled.all():
            break
    return x
