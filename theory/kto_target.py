"""Policies of KTO that are optimal at their own reference point, for many data sets at once.

With class-weighted masses ``B = w+ p+`` and ``D = w- p-`` the KTO risk at a fixed reference point z is
``const - sum_y (B_y - D_y) sigmoid(beta (log p_y/q_y - z))``: responses with ``B <= D`` get no mass at all, and for
``beta <= 1`` the rest is concave in the policy. In training z is an estimate of ``KL(p_theta || p_ref)`` that is not
differentiated, so that the point where training comes to rest solves ``z = E_x KL(p_z || p_ref)``. Derived here from
arXiv 2402.01306, eq. (8).

Stationarity in log-ratios x = log p/q: ``log gain + log_sigmoid(y) + log_sigmoid(-y) - x = log lambda + log q`` with
``y = beta (x - z)``. Newton's method solves it for x and log lambda together; the equations of a prompt are linked
through log lambda alone, which is eliminated by sums. Around it a safeguarded Newton iteration finds z.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from theory.arrays import log_sigmoid
from theory.checks import FloatArray

__all__ = ["KtoSolution", "kto_policies", "kto_policy"]

_SCAN = 33
_STEPS = 100
_LOWEST, _LONGEST_STEP = -50.0, 60.0  # log-ratios: a probability of e^-50 is nothing, and one step leads back from it
_SETTLED = 1e-13  # of probabilities and of z
_ROUGHLY = 1e-6  # in the scan, where signs alone count
_NO_GAIN = 1e-14  # differences of equal masses leave roundings of an eps


@dataclass(frozen=True, eq=False)
class KtoSolution:
    """KTO policies of many data sets.

    Attributes
    ----------
    policies : ndarray
        Shape (problems, prompts, responses); NaN unless the status is "ok".
    reference_points : ndarray
        ``z = E_x KL(policy || reference)`` in nats, shape (problems,).
    fixed_points : ndarray of int
        Number of reference points found that are their own optimum, shape (problems,).
    status : ndarray of str
        "ok", "error" (a prompt without any positive gain) or "nonconverged" (not exactly one reference point, or
        Newton's method did not end), shape (problems,).
    """

    policies: FloatArray
    reference_points: FloatArray
    fixed_points: NDArray[np.int64]
    status: NDArray[np.str_]


def kto_policies(gain: FloatArray, reference: FloatArray, prompt_probs: FloatArray, beta: float) -> KtoSolution:
    """Find the KTO policies of many data sets, each with one reference point for all its prompts.

    ``p_x = argmax sum_y gain sigmoid(beta (log p/q - z))`` with ``z = E_x KL(p_x || q_x)``.

    Parameters
    ----------
    gain : ndarray
        Class-weighted masses ``B - D`` given the prompt, shape (problems, prompts, responses). The scale of a prompt's
        gains does not matter.
    reference : ndarray
        Reference policies q, shape (problems, prompts, responses) or (prompts, responses).
    prompt_probs : ndarray
        Shares of the prompts, shape (problems, prompts) or (prompts,). A prompt of share 0 keeps the reference.
    beta : float
        Inverse temperature, in (0, 1].

    Returns
    -------
    KtoSolution
        Policies, reference points and what became of each data set.

    Raises
    ------
    ValueError
        If beta is above 1: the risk is then not concave in the policy.

    Notes
    -----
    Reference points are counted on a grid of 33 points between 0 and ``-log min q + 1``, where all of them lie; two
    that lie between neighbours of the grid would be overlooked.

    References
    ----------
    .. [1] Ethayarajh et al., arXiv 2402.01306, eq. (8); fixed point derived here.

    Examples
    --------
    >>> found = kto_policies(np.array([[[0.2, 0.1, -0.3]]]), np.array([[0.3, 0.3, 0.4]]), np.array([1.0]), 0.1)
    >>> found.policies.round(4), found.reference_points.round(4)
    (array([[[0.6668, 0.3332, 0.    ]]]), array([0.5675]))
    """
    if beta > 1.0:
        raise ValueError(f"beta must be at most 1 for the kto risk to be concave in the policy, got {beta:g}")
    q = np.broadcast_to(reference, gain.shape)
    shares = np.broadcast_to(prompt_probs, gain.shape[:2])
    used = (gain > _NO_GAIN) & (q > 0)
    idle = shares <= 0
    hopeful = (used.any(axis=2) | idle).all(axis=1)
    policies, points = np.full(gain.shape, np.nan), np.full(len(gain), np.nan)
    found, status = np.zeros(len(gain), dtype=np.int64), np.where(hopeful, "nonconverged", "error")
    rows = np.nonzero(hopeful)[0]
    if rows.size:
        # A gain in proportion to q at a prompt of share 0 leaves the reference as it is.
        cells = _Cells.of(np.where(idle[rows, :, None], q[rows], np.where(used[rows], gain[rows], 0.0)), q[rows])
        found[rows], start, low, high = _scan(cells, shares[rows], beta)
        state, settled = _root(cells, shares[rows], beta, start, (low, high))
        good = settled & (found[rows] == 1)
        rows = rows[good]
        policies[rows], points[rows], status[rows] = state.policies[good], state.point[good], "ok"
    return KtoSolution(policies, points, found, status)


def kto_policy(gain: FloatArray, reference: FloatArray, prompt_probs: FloatArray, beta: float) -> FloatArray:
    """Return the KTO policy of one problem, arrays (prompts, responses).

    Raises ValueError for beta above 1, for a prompt without any positive gain, and where several reference points are
    their own optimum.
    """
    found = kto_policies(gain[None], reference, prompt_probs, beta)
    if found.status[0] == "error":
        hopeless = np.nonzero(~(gain > _NO_GAIN).any(axis=1) & (prompt_probs > 0))[0]
        raise ValueError(
            "kto has no unique target where no response is weighted more as preferred than as nonpreferred, "
            f"got such a prompt: {int(hopeless[0])}"
        )
    if found.status[0] != "ok":
        raise ValueError(f"kto must have one reference point that is its own optimum, got {found.fixed_points[0]}")
    return np.asarray(found.policies[0])


@dataclass(frozen=True, eq=False)
class _Cells:
    """``log gain - log q`` and q of the responses with a gain, (problems, prompts, responses); q is 0 elsewhere.

    No log-ratio exceeds `ceiling`, since no probability exceeds 1.
    """

    level: FloatArray
    reference: FloatArray
    ceiling: FloatArray

    @classmethod
    def of(cls, gain: FloatArray, reference: FloatArray) -> "_Cells":
        """Return the cells of gains that are 0 where a response gets no mass."""
        used = gain > 0
        log_reference = np.log(np.where(used, reference, 1.0))
        level = np.where(used, np.log(np.where(used, gain, 1.0)) - log_reference, 0.0)
        return cls(level, np.where(used, reference, 0.0), 1.0 - log_reference)

    def state(self, log_ratio: FloatArray, multiplier: FloatArray, point: FloatArray) -> "_State":
        """Return the state of log-ratios."""
        return _State(log_ratio, self.reference * np.exp(log_ratio), multiplier, point)


@dataclass(frozen=True, eq=False)
class _State:
    """Log-ratios x, masses ``q e^x``, log multipliers (problems, prompts, 1) and reference points (problems,)."""

    log_ratio: FloatArray
    mass: FloatArray
    multiplier: FloatArray
    point: FloatArray

    @property
    def policies(self) -> FloatArray:
        """Return the normalised policies."""
        return np.asarray(self.mass / self.mass.sum(axis=2, keepdims=True))

    def divergence(self, shares: FloatArray) -> FloatArray:
        """Return ``E_x KL(policy || reference)`` of each problem."""
        total = self.mass.sum(axis=2)
        mean = (self.mass * self.log_ratio).sum(axis=2) / total - np.log(total)
        return np.asarray((shares * mean).sum(axis=1))


def _scan(cells: _Cells, shares: FloatArray, beta: float) -> tuple[NDArray[np.int64], _State, FloatArray, FloatArray]:
    """Return how many reference points are their own optimum, and a state near the last one with its neighbours."""
    floor = np.where(cells.reference > 0, cells.reference, 1.0).min(axis=(1, 2))
    step = (1.0 - np.log(floor)) / (_SCAN - 1)
    proportional = cells.reference * np.exp(cells.level)
    multiplier = np.log(proportional.sum(axis=2, keepdims=True))
    state = cells.state(cells.level - multiplier, multiplier, np.zeros(len(floor)))
    state, _ = _solve(cells, beta, state, _ROUGHLY)
    excess, crossings, kept, low = (
        -state.divergence(shares),
        np.zeros(len(floor), dtype=np.int64),
        state,
        0.0 * step,
    )
    for k in range(1, _SCAN):
        state, _ = _solve(cells, beta, replace(state, point=k * step), _ROUGHLY)
        before, excess = excess, state.point - state.divergence(shares)
        crossing = (before <= 0) & (excess > 0)
        crossings += crossing
        # The root of the chord between the two neighbours.
        chord = np.where(crossing, state.point - step * excess / np.where(crossing, excess - before, 1.0), kept.point)
        wide = crossing[:, None, None]
        kept = _State(
            np.where(wide, state.log_ratio, kept.log_ratio),
            np.where(wide, state.mass, kept.mass),
            np.where(wide, state.multiplier, kept.multiplier),
            chord,
        )
        low = np.where(crossing, (k - 1) * step, low)
    return crossings, kept, low, low + step


def _root(
    cells: _Cells, shares: FloatArray, beta: float, state: _State, bracket: tuple[FloatArray, FloatArray]
) -> tuple[_State, NDArray[np.bool_]]:
    """Return the states whose reference point is its own optimum between two points, and which were found."""
    low, high = bracket
    found = np.zeros(len(shares), dtype=bool)
    for _ in range(_STEPS):
        state, settled = _solve(cells, beta, state, _SETTLED)
        excess = state.point - state.divergence(shares)
        low, high = np.where(excess < 0, state.point, low), np.where(excess < 0, high, state.point)
        exact = np.abs(excess) <= _SETTLED * np.maximum(1.0, state.point)
        found = settled & (exact | (high - low <= _SETTLED * np.maximum(1.0, high)))
        if found.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = state.point - excess / (1.0 - _response(cells, beta, state, shares))
        inner = np.where((newton > low) & (newton < high), newton, 0.5 * (low + high))
        state = replace(state, point=np.where(exact, state.point, inner))
    return state, found


def _solve(cells: _Cells, beta: float, state: _State, tolerance: float) -> tuple[_State, NDArray[np.bool_]]:
    """Run Newton's method at fixed reference points; also return which problems settled."""
    settled = np.zeros(len(state.point), dtype=bool)
    for _ in range(_STEPS):
        state, moved = _newton_step(cells, beta, state)
        settled = moved <= tolerance
        if settled.all():
            break
    return state, settled


def _newton_step(cells: _Cells, beta: float, state: _State) -> tuple[_State, FloatArray]:
    """Return the next state at the same reference point, and the largest change of a probability, (problems,)."""
    x = state.log_ratio
    y = beta * (x - state.point[:, None, None])
    decay = np.exp(-np.abs(y))
    error = cells.level - state.multiplier - x - np.abs(y) - 2.0 * np.log1p(decay)
    slope = _slope(beta, np.where(y > 0, 1.0, decay) / (1.0 + decay))
    total = state.mass.sum(axis=2, keepdims=True)
    policy = state.mass / total
    # At beta = 1 ratios may be 0: what is that small and is to fall further takes no part.
    pliable = np.where((x > _LOWEST) | (error > 0), policy / slope, 0.0)
    push = (np.log(total) + (pliable * error).sum(axis=2, keepdims=True)) / pliable.sum(axis=2, keepdims=True)
    change = np.clip((error - push) / slope, -_LONGEST_STEP, _LONGEST_STEP)
    following = cells.state(np.clip(x + change, _LOWEST, cells.ceiling), state.multiplier + push, state.point)
    moved = np.maximum(policy, following.mass) * np.abs(change)
    return following, np.maximum(moved, np.abs(np.log(total))).max(axis=(1, 2))


def _slope(beta: float, chance: FloatArray) -> FloatArray:
    """Return how fast the equations fall in x: ``1 + beta tanh(y/2)``, with ``chance = sigmoid(y)``."""
    return np.asarray(np.maximum((1.0 - beta) + 2.0 * beta * chance, 1e-200))


def _response(cells: _Cells, beta: float, state: _State, shares: FloatArray) -> FloatArray:
    """Return ``d E_x KL(p_z || q) / dz`` at solved states, (problems,)."""
    chance = np.exp(log_sigmoid(beta * (state.log_ratio - state.point[:, None, None])))
    slope, tilt = _slope(beta, chance), beta * (2.0 * chance - 1.0)
    weight = state.policies
    pliable = np.where(state.log_ratio > _LOWEST, weight / slope, 0.0)
    drift = (pliable * tilt).sum(axis=2, keepdims=True) / pliable.sum(axis=2, keepdims=True)
    centred = state.log_ratio - (weight * state.log_ratio).sum(axis=2, keepdims=True)
    return np.asarray((shares * (pliable * (tilt - drift) * centred).sum(axis=2)).sum(axis=1))
