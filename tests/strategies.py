"""Hypothesis strategies that build valid inputs of the theory package, and assertion helpers shared by its tests.

No strategy filters: every draw is transformed into something valid. What each one promises is in its docstring and
checked in tests/theory/test_strategies.py.
"""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from theory import FiniteProblem

EPS = float(np.finfo(np.float64).eps)
SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
SMALLEST_SUBNORMAL = float(np.finfo(np.float64).smallest_subnormal)

HARD_DENSITIES = (0.0, SMALLEST_SUBNORMAL, SMALLEST_NORMAL, 1e-300, 1.0, 1e300)


def alphas(low: float = 1e-3, high: float = 1.0 - 1e-3):
    """Floats in [low, high], inside (0, 1)."""
    return st.floats(low, high)


def extreme_alphas():
    """Floats in (0, 1) down to 1e-300 and up to the last float before 1."""
    return st.one_of(st.floats(1e-300, 1.0 - EPS / 2), st.sampled_from([1e-300, 1e-12, 0.5, 1.0 - EPS / 2]))


def densities(size: int = 4):
    """Arrays (size,) of finite densities that are not negative: zeros, subnormals and numbers up to 1e300."""
    cell = st.one_of(st.sampled_from(HARD_DENSITIES), st.floats(0.0, 1e300))
    return st.lists(cell, min_size=size, max_size=size).map(np.array)


@st.composite
def density_pairs(draw, size: int = 4):
    """Two arrays of `densities` of one shape; about a third of the pairs are equal."""
    first = draw(densities(size))
    return first, (first.copy() if draw(st.integers(0, 2)) == 0 else draw(densities(size)))


@st.composite
def laws(draw, responses: int = 4, spread: float = 4.0, *, empty: bool = False):
    """Probability vectors (responses,) whose positive entries differ by a factor of at most ``exp(2 spread)``.

    With `empty`, some entries may be exactly 0, but never all of them.
    """
    logits = np.array(draw(st.lists(st.floats(-spread, spread), min_size=responses, max_size=responses)))
    weights = np.exp(logits)
    if empty:
        kept = np.array(draw(st.lists(st.booleans(), min_size=responses, max_size=responses)))
        kept[draw(st.integers(0, responses - 1))] = True
        weights = np.where(kept, weights, 0.0)
    return weights / weights.sum()


@st.composite
def problems(
    draw,
    prompts: int = 1,
    responses: int = 4,
    spread: float = 2.0,
    *,
    foreign_reference: bool = False,
    empty: bool = False,
    alpha=None,
):
    """Problems of the given shape with one alpha in [0.05, 0.95] (or drawn from `alpha`) and a random prompt law.

    The reference is the mixture, or with `foreign_reference` an independent positive law. Without `empty` all
    probabilities are positive.
    """
    table = st.lists(laws(responses, spread, empty=empty), min_size=prompts, max_size=prompts).map(np.array)
    positive = st.lists(laws(responses, spread), min_size=prompts, max_size=prompts).map(np.array)
    return FiniteProblem(
        draw(table),
        draw(table),
        draw(positive) if foreign_reference else None,
        draw(laws(prompts, 1.0)),
        alpha=draw(alphas(0.05, 0.95) if alpha is None else alpha),
    )


@dataclass(frozen=True)
class Sample:
    """Counts of both classes from one draw of a data set, and the problem they came from."""

    problem: FiniteProblem
    preferred: np.ndarray
    nonpreferred: np.ndarray


@st.composite
def samples(draw, responses: int = 4, largest: int = 30):
    """Single-prompt problems under assumption M with counts (responses,) in their support; no class is empty."""
    problem = draw(problems(responses=responses))
    counts = st.lists(st.integers(0, largest), min_size=responses, max_size=responses).map(np.array)
    one = st.integers(0, responses - 1).map(lambda y: np.eye(responses, dtype=np.int64)[y])
    return Sample(problem, draw(counts) + draw(one), draw(counts) + draw(one))


def log_ratios(limit: float = 30.0, size: int = 6):
    """Arrays (size,) of log-ratios in [-limit, limit]."""
    return st.lists(st.floats(-limit, limit), min_size=size, max_size=size).map(np.array)


@st.composite
def preference_matrices(draw, responses: int = 4):
    """Matrices (responses, responses) in [0, 1] with ``P + P^T = 1`` to one rounding and diagonal 1/2."""
    size = responses * (responses - 1) // 2
    upper = np.array(draw(st.lists(st.floats(0.0, 1.0), min_size=size, max_size=size)))
    matrix = np.full((responses, responses), 0.5)
    rows, columns = np.triu_indices(responses, 1)
    matrix[rows, columns] = upper
    matrix[columns, rows] = 1.0 - upper
    return matrix


def assert_within_eps(actual, expected, *, multiple: float, size=None, eps: float = EPS) -> None:
    """Fail unless ``|actual - expected| <= multiple * eps * size`` in every cell; `size` defaults to ``|expected|``.

    Equal infinities agree; NaN never does.
    """
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape} differ"
    scale = np.abs(expected) if size is None else np.broadcast_to(np.abs(size), expected.shape)
    with np.errstate(invalid="ignore"):
        near = np.abs(actual - expected) <= multiple * eps * scale
    agree = (actual == expected) | (near & np.isfinite(expected))
    worst = np.argwhere(~agree)
    assert agree.all(), (
        f"{len(worst)} of {agree.size} cells differ by more than {multiple:g} eps, the first at {tuple(worst[0])}: "
        f"{actual[tuple(worst[0])]!r} instead of {expected[tuple(worst[0])]!r}"
    )


def assert_within_standard_errors(draws, expected, *, multiple: float = 4.0) -> None:
    """Fail unless the mean of independent draws (first axis) is within `multiple` standard errors of `expected`."""
    draws = np.asarray(draws, dtype=np.float64)
    assert np.isfinite(draws).all(), "draws must be finite"
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (error > 0).all(), "draws must vary"
    distance = np.abs(draws.mean(axis=0) - expected) / error
    assert (distance <= multiple).all(), f"means lie up to {distance.max():.2f} standard errors away from their targets"


def assert_first_order_optimal(gradient, policy, *, tolerance: float) -> None:
    """Fail unless a gradient is constant where a policy has mass and not smaller elsewhere (KKT on the simplex)."""
    gradient, policy = np.asarray(gradient), np.asarray(policy)
    assert gradient.shape == policy.shape, f"shapes {gradient.shape} and {policy.shape} differ"
    for slope, law in zip(np.atleast_2d(gradient), np.atleast_2d(policy), strict=True):
        used = law > 1e-12
        multiplier = float(np.average(slope[used], weights=law[used]))
        spread = np.abs(slope[used] - multiplier).max()
        assert spread <= tolerance, f"slopes of used responses differ by {spread:.3g} from their multiplier"
        assert (slope[~used] >= multiplier - tolerance).all(), "an unused response would lower the risk"
