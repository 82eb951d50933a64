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


@st.composite
def _made(draw, make, *parts):
    """What `make` returns for one draw of each part; unlike in a composite of its own, parts are built only once."""
    return make(*[draw(part) for part in parts])


def _vectors(cell, size):
    """Tuples of independent cells, which cost less to draw than lists of one possible length."""
    return st.tuples(*[cell] * size)


def _levels(*shape):
    """Arrays of multiples of 1/127 in [-1, 1]: drawn at once as bytes, for the price of a single float.

    They shrink towards 0, and now and then an end is reached or two cells agree.
    """

    def levels(drawn):
        return np.maximum(np.frombuffer(drawn, dtype=np.int8), -127).reshape(shape) / 127.0

    size = int(np.prod(shape))
    return st.binary(min_size=size, max_size=size).map(levels)


def _counts(largest, *shape):
    """Arrays of integers in [0, largest] (at most 255), drawn at once as bytes."""

    def counts(drawn):
        return np.frombuffer(drawn, dtype=np.uint8).astype(np.int64).reshape(shape) % (largest + 1)

    size = int(np.prod(shape))
    return st.binary(min_size=size, max_size=size).map(counts)


def _laws(prompts, responses, spread, empty):
    """Tables (prompts, responses) whose rows are `laws`."""

    def table(levels, *kept):
        weights = np.exp(spread * levels)
        for row, bits in enumerate(kept):
            weights[row, (bits >> np.arange(responses)) & 1 == 0] = 0.0
        return weights / weights.sum(axis=1, keepdims=True)

    return _made(table, _levels(prompts, responses), *[st.integers(1, 2**responses - 1)] * (prompts * empty))


def densities(size: int = 4):
    """Arrays (size,) of finite densities that are not negative: zeros, subnormals and numbers up to 1e300."""
    return _made(np.array, _vectors(st.one_of(st.sampled_from(HARD_DENSITIES), st.floats(0.0, 1e300)), size))


def density_pairs(size: int = 4):
    """Two arrays of `densities` of one shape; about a third of the pairs are equal."""

    def pair(first, second, equal):
        return first, (first.copy() if equal == 0 else second)

    return _made(pair, densities(size), densities(size), st.integers(0, 2))


def laws(responses: int = 4, spread: float = 4.0, *, empty: bool = False):
    """Probability vectors (responses,) whose positive entries differ by a factor of at most ``exp(2 spread)``.

    With `empty`, some entries may be exactly 0, but never all of them.
    """

    return _laws(1, responses, spread, empty).map(lambda table: table[0])


def problems(
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

    def problem(preferred, nonpreferred, reference, law, alpha):
        return FiniteProblem(preferred, nonpreferred, reference, law, alpha=alpha)

    table = _laws(prompts, responses, spread, empty)
    reference = _laws(prompts, responses, spread, False) if foreign_reference else st.none()
    return _made(problem, table, table, reference, laws(prompts, 1.0), alphas(0.05, 0.95) if alpha is None else alpha)


@dataclass(frozen=True)
class Sample:
    """Counts of both classes from one draw of a data set, and the problem they came from."""

    problem: FiniteProblem
    preferred: np.ndarray
    nonpreferred: np.ndarray


def samples(responses: int = 4, largest: int = 30):
    """Single-prompt problems under assumption M with counts (responses,) in their support; no class is empty."""

    def sample(problem, counts, *ones):
        counts[[0, 1], ones] += 1
        return Sample(problem, *counts)

    one = st.integers(0, responses - 1)
    return _made(sample, problems(responses=responses), _counts(largest, 2, responses), one, one)


def log_ratios(limit: float = 30.0, size: int = 6):
    """Arrays (size,) of log-ratios in [-limit, limit]."""
    return _made(np.array, _vectors(st.floats(-limit, limit), size))


def preference_matrices(responses: int = 4):
    """Matrices (responses, responses) in [0, 1] with ``P + P^T = 1`` to one rounding and diagonal 1/2."""
    rows, columns = np.triu_indices(responses, 1)

    def matrix(upper):
        full = np.full((responses, responses), 0.5)
        full[rows, columns] = upper / 255.0
        full[columns, rows] = 1.0 - full[rows, columns]
        return full

    return _made(matrix, _counts(255, len(rows)))


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
