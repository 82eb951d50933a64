"""Exact minimisation of the unpaired risks over normalised policies, for many problems at once.

The balanced (or otherwise weighted) risk of a tabular policy is separable given one multiplier per prompt: every
response's ratio is a function of ``lambda q`` (`theory.stationarity`), and ``lambda`` is the root of
``S(lambda) = sum_y q_y r_y(lambda q_y) = 1``, a rising function found by safeguarded Newton steps. Population targets
and estimates from counts are the same problem; only the masses differ. Derived here (propositions P5 and P9).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.bregman import Generator, Power, get_generator
from theory.checks import FloatArray, check_alpha, check_choice
from theory.second_minima import better_policies
from theory.stationarity import Branch, Cells, RelativeKullbackLeibler, RelativeLogistic, branch_for

__all__ = ["SimplexSolution", "minimise_over_simplex"]

_MAX_STEPS = 200
# Next to the peak of a KL response a rounding of the multiplier moves S by more than a rounding.
_CONVERGED = 1e-9
# S is a sum of K ratios, each with a relative error of a few eps.
_TOLERANCE = 8.0 * np.finfo(float).eps
_ROUNDED = 1e-13  # this close to the root, steps that no longer halve are roundings
_CELLS_AT_ONCE = 20_000  # what a step reads and writes stays in the processor's cache


@dataclass(frozen=True)
class SimplexSolution:
    """Risk-minimising policies of many problems.

    Attributes
    ----------
    policy : ndarray
        Minimisers, shape (problems, responses); rows sum to 1.
    multiplier : ndarray
        lambda of the normalisation, shape (problems,).
    residual : ndarray
        ``|S(lambda) - 1|`` before the final normalisation, shape (problems,).
    converged : ndarray of bool
        Whether the residual is at most 1e-9, shape (problems,).
    iterations : int
        Newton steps of the slowest problem.
    """

    policy: FloatArray
    multiplier: FloatArray
    residual: FloatArray
    converged: NDArray[np.bool_]
    iterations: int


def minimise_over_simplex(
    method: str,
    preferred_mass: FloatArray,
    nonpreferred_mass: FloatArray,
    reference: FloatArray,
    alpha: FloatArray,
    generator: str | Generator = "logistic",
) -> SimplexSolution:
    """Minimise the weighted risk of rdro, ddro or mle over normalised policies, one problem a row.

    ``min_p sum_y [B_y loss+(log p_y/q_y) + D_y loss-(log p_y/q_y)]`` subject to ``sum_y p_y = 1``.

    Parameters
    ----------
    method : {"rdro", "ddro", "mle"}
        The loss.
    preferred_mass, nonpreferred_mass : ndarray
        Class-weighted masses B and D, not negative, shape (problems, responses).
    reference : ndarray
        Reference policies q, shape (problems, responses) or (1, responses).
    alpha : ndarray
        Weight t of the losses, shape (problems,) or (1,).
    generator : str or Generator
        Generator of rdro and ddro.

    Returns
    -------
    SimplexSolution
        Policies and how they were reached.

    Raises
    ------
    ValueError
        If shapes do not fit, a mass is negative, alpha lies outside (0, 1), or the generator is a power above 1 and
        the pointwise minimisers do not sum to one: its risk is not convex near r = 0.

    Notes
    -----
    Responses with no mass in either class do not enter the risk. They get the mass that the others leave over, in
    proportion to the reference (the minimiser closest to the reference in KL), and nothing if nothing is left over.
    For logistic rdro with a positive multiplier the risk is not convex: one response may lie beyond its inflection,
    and every such candidate is compared with the main branch (proposition P9), so that the minimum is global.

    Examples
    --------
    >>> solution = minimise_over_simplex(
    ...     "rdro",
    ...     np.array([[0.25, 0.15, 0.1]]),
    ...     np.array([[0.05, 0.15, 0.3]]),
    ...     np.array([[0.3, 0.3, 0.4]]),
    ...     np.array([0.5]),
    ... )
    >>> solution.policy.round(6)
    array([[0.5, 0.3, 0.2]])
    """
    check_choice("method", method, ("rdro", "ddro", "mle"))
    chosen = get_generator(generator)
    shape = _check_masses(preferred_mass, nonpreferred_mass, reference, check_alpha(alpha))
    cells = Cells(preferred_mass, nonpreferred_mass, np.broadcast_to(alpha[:, None], shape))
    q = np.broadcast_to(reference, shape)
    branch = branch_for(method, chosen, alpha)
    at_once = max(1, _CELLS_AT_ONCE // max(1, shape[1]))
    parts = [slice(first, first + at_once) for first in range(0, max(1, shape[0]), at_once)]
    policies, multipliers, residuals, iterations = zip(*(_solve(branch, cells[p], q[p]) for p in parts), strict=True)
    if any(iterations) and method != "mle" and isinstance(chosen, Power) and chosen.exponent > 1.0:
        raise ValueError(
            f"a power generator must have an exponent of at most 1 for a convex risk, got {chosen.exponent:g} and "
            "pointwise minimisers that do not sum to one"
        )
    residual = np.concatenate(residuals)
    return SimplexSolution(
        np.concatenate(policies), np.concatenate(multipliers), residual, residual <= _CONVERGED, max(iterations)
    )


def _solve(branch: Branch, cells: Cells, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """Return policies, multipliers, residuals and the number of steps of some problems."""
    unseen = (cells.preferred <= 0) & (cells.nonpreferred <= 0) & (q > 0)
    any_unseen = np.asarray(unseen.any(axis=1))
    ratio, multiplier, residual, iterations = _root(branch, cells, q, any_unseen)
    policy = q * ratio
    left_over = 1.0 - policy.sum(axis=1)
    # Mass that no ratio absorbs goes to responses without evidence, else to those whose cost is linear there
    # (phi is constant in r for a KL response without preferred mass). Their ratio is 0 so far.
    rows = np.nonzero(left_over > _TOLERANCE)[0]
    if rows.size:
        taker = _left_over_takers(branch, cells[rows], q[rows], unseen[rows], multiplier[rows])
        taken = np.where(taker, q[rows], 0.0)
        taker_mass = taken.sum(axis=1)
        fills = taker_mass > 0
        rows, taken = rows[fills], taken[fills]
        policy[rows] += taken * (left_over[rows] / taker_mass[fills])[:, None]
        residual[rows] = 0.0
    if isinstance(branch, RelativeLogistic):
        rows = np.nonzero((multiplier > 0) & ~any_unseen)[0]
        policy[rows], residual[rows] = better_policies(cells[rows], q[rows], policy[rows], residual[rows])
    total = policy.sum(axis=1, keepdims=True)
    nothing = total[:, 0] <= 0
    policy /= np.where(total > 0, total, 1.0)
    policy[nothing] = q[nothing]
    return policy, multiplier, residual, iterations


def _check_masses(
    preferred_mass: FloatArray, nonpreferred_mass: FloatArray, reference: FloatArray, alpha: FloatArray
) -> tuple[int, ...]:
    """Return the shape (problems, responses) that all arrays fit, or raise."""
    shape = preferred_mass.shape
    if len(shape) != 2 or nonpreferred_mass.shape != shape:
        raise ValueError(
            "preferred_mass and nonpreferred_mass must have one shape (problems, responses), "
            f"got {shape} and {nonpreferred_mass.shape}"
        )
    if reference.shape not in (shape, (1, shape[1])):
        raise ValueError(f"reference must have shape {shape} or {(1, shape[1])}, got {reference.shape}")
    if alpha.shape not in ((shape[0],), (1,)):
        raise ValueError(f"alpha must have shape {(shape[0],)} or (1,), got {alpha.shape}")
    if (preferred_mass < 0).any() or (nonpreferred_mass < 0).any():
        raise ValueError("preferred_mass and nonpreferred_mass must not be negative, got a negative mass")
    return shape


def _root(
    branch: Branch, cells: Cells, q: FloatArray, any_unseen: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """Return ratios, multipliers and residuals at the root of S, and the number of steps."""
    multiplier = np.zeros(len(q))
    ratio, slope = branch.ratios(cells, np.zeros(q.shape))
    gap = (q * ratio).sum(axis=1) - 1.0
    # With responses that cost nothing, the left-over mass is theirs and lambda stays 0.
    settled = (np.abs(gap) <= _TOLERANCE) | ((gap < 0) & any_unseen)
    residual = np.where(settled, 0.0, np.abs(gap))
    active = np.nonzero(~settled)[0]
    some, reference, here = cells[active], q[active], gap[active]
    squared = reference * reference
    tangent = (squared * slope[active]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        peak = np.where(reference > 0, branch.peak(some) / reference, np.inf).min(axis=1, initial=np.inf)
    low, high = np.where(here > 0, -np.inf, 0.0), np.where(here > 0, 0.0, peak)
    current, moved, iterations = np.zeros(len(active)), np.full(len(active), np.inf), 0
    while active.size and iterations < _MAX_STEPS:
        iterations += 1
        # Lambda has the units of the masses. While one end of the bracket is open, no step more than doubles it; then
        # Newton's step is taken if it stays inside and at least halves the last move, else the bracket is halved.
        reach = 1.0 + np.abs(current)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = np.maximum(np.minimum(here / tangent, reach), -reach)
            step, fast = current - newton, np.isinf(high - low) | (np.abs(newton) <= 0.5 * moved)
            step = np.where((step > low) & (step < high) & fast, step, 0.5 * (low + high))
        current, moved = step, np.abs(step - current)
        found, slope = branch.ratios(some, current[:, None] * reference)
        here = (reference * found).sum(axis=1) - 1.0
        tangent = (squared * slope).sum(axis=1)
        low, high = np.where(here < 0, current, low), np.where(here > 0, current, high)
        size = np.abs(here)
        rounded = (size <= _ROUNDED) & (size > 0.5 * moved * tangent)
        narrow = high - low <= 2.0 * np.finfo(float).eps * np.abs(current)
        done = (size <= _TOLERANCE) | rounded | narrow | (iterations == _MAX_STEPS)
        if not done.any():
            continue
        ready = active[done]
        ratio[ready], multiplier[ready], residual[ready] = found[done], current[done], size[done]
        rest = np.nonzero(~done)[0]
        some, reference, squared = some[rest], reference[rest], squared[rest]
        active, low, high = active[rest], low[rest], high[rest]
        current, moved, here, tangent = current[rest], moved[rest], here[rest], tangent[rest]
    return ratio, multiplier, residual, iterations


def _left_over_takers(
    branch: Branch, cells: Cells, q: FloatArray, unseen: NDArray[np.bool_], multiplier: FloatArray
) -> NDArray[np.bool_]:
    """Return the responses that may take any mass at the current multiplier without changing the optimality."""
    if not isinstance(branch, RelativeKullbackLeibler):
        return unseen
    flat = (cells.preferred <= 0) & (cells.nonpreferred > 0)
    at_peak = flat & (multiplier[:, None] * q >= branch.peak(cells) * (1.0 - 1e-12))
    return np.asarray(unseen | (at_peak & ~unseen.any(axis=1, keepdims=True)))
