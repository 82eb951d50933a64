"""Candidates beyond their inflection (P9): found where they exist, never preferred to a better main branch."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.strategies import alphas, laws
from theory import minimise_over_simplex, second_minima
from theory.second_minima import better_policies
from theory.stationarity import Cells

GRID = np.linspace(0, 1, 4001)[1:-1]
LOGS = np.log(np.stack([GRID, 1 - GRID], axis=-1))


def lowest_risk(cells, q):
    """Lowest logistic RDRO risk of policies on two responses, over a grid of 4,001 shares."""
    u = LOGS - np.log(q)
    a = cells.alpha * cells.preferred + (1 - cells.alpha) * cells.nonpreferred
    risk = (a * np.logaddexp(u, 0) + cells.preferred * np.logaddexp(-u, 0)).sum(axis=-1)
    return risk.min(), GRID[risk.argmin()]


def problem(p, m, q, alpha):
    """One problem as cells and reference."""
    return Cells(p[None] / 2, m[None] / 2, np.full((1, len(p)), alpha)), q[None]


P, M, Q = np.array([0.95, 0.05]), np.array([0.05, 0.95]), np.array([0.02, 0.98])


def test_a_candidate_replaces_a_main_branch_that_was_not_found():
    cells, q = problem(P, M, Q, 0.2)
    policy, residual = better_policies(cells, q, np.array([[0.5, 0.5]]), np.array([1.0]))
    assert abs(policy[0, 0] - lowest_risk(cells, q)[1]) <= 1 / 4000 and residual[0] <= 1e-12


def test_a_better_main_branch_is_kept():
    # Given the global minimum as the main branch, no candidate improves on it by more than rounding.
    cells, q = problem(P, M, Q, 0.2)
    best, _ = better_policies(cells, q, np.array([[0.5, 0.5]]), np.array([1.0]))
    again, residual = better_policies(cells, q, best, np.zeros(1))
    np.testing.assert_allclose(again, best, rtol=1e-12)
    assert residual[0] <= 1e-12


def test_inputs_are_not_changed_and_rows_do_not_mix():
    cells = Cells(np.stack([P, P]) / 2, np.stack([M, M]) / 2, np.full((2, 2), 0.2))
    q, given_policy = np.stack([Q, Q]), np.array([[0.5, 0.5], [0.907, 0.093]])
    policy, _ = better_policies(cells, q, given_policy, np.array([1.0, 1.0]))
    np.testing.assert_array_equal(given_policy, [[0.5, 0.5], [0.907, 0.093]])
    np.testing.assert_array_equal(policy[0], policy[1])


@given(laws(responses=2, spread=3.0), laws(responses=2, spread=3.0), laws(responses=2, spread=3.0), alphas(0.05, 0.95))
@settings(max_examples=60)
def test_candidates_are_never_worse_than_the_policy_they_replace(p, m, q, alpha):
    cells, reference = problem(p, m, q, alpha)
    risk, share = lowest_risk(cells, reference)
    main = np.array([[share, 1 - share]])
    policy, _ = better_policies(cells, reference, main, np.zeros(1))
    u = np.log(policy / policy.sum() / q)
    a = alpha * cells.preferred + (1 - alpha) * cells.nonpreferred
    here = (a * np.logaddexp(u, 0) + cells.preferred * np.logaddexp(-u, 0)).sum()
    assert here <= risk + 1e-14


@pytest.mark.parametrize("concentration", [0.1, 0.3, 1.0])
def test_pairs_that_the_necessary_condition_discards_hold_no_minimum(concentration, monkeypatch):
    rng = np.random.default_rng(20260404)
    p, m, q = rng.dirichlet(np.full(5, concentration), (3, 300))
    q, alpha = 0.999 * q + 0.001 / 5, rng.uniform(0.02, 0.98, 300)
    p[:100], m[:100] = rng.multinomial(9, p[:100]) / 9, rng.multinomial(9, m[:100]) / 9
    solution = minimise_over_simplex("rdro", p / 2, m / 2, q, alpha)
    with monkeypatch.context() as patch:
        patch.setattr(second_minima, "_possible", lambda cells, q: np.nonzero(cells.preferred + cells.nonpreferred > 0))
        every = minimise_over_simplex("rdro", p / 2, m / 2, q, alpha)
    np.testing.assert_array_equal(solution.policy, every.policy)
    seen = p + m > 0
    a = alpha[:, None] * p + (1 - alpha[:, None]) * m
    inflection = np.sqrt(p) * (np.sqrt(a + p) + np.sqrt(p)) / np.where(seen, a, 1)
    assert (seen & (solution.policy / q > inflection + 1e-9)).any(axis=1).sum() > 10


@pytest.mark.slow
def test_global_minimum_on_a_grid_of_the_simplex():
    # 3,000 problems with foreign references, many with empty cells: no point of the grid may have a lower risk (beyond
    # rounding), and among them must be minima beyond an inflection, the case that the candidates are for.
    rng = np.random.default_rng(20260404)
    side = np.linspace(0, 1, 241)
    first, second = (v[np.add.outer(side, side) <= 1] for v in np.meshgrid(side, side, indexing="ij"))
    grid = np.clip(np.stack([first, second, 1 - first - second], axis=1), 1e-15, 1)
    beyond = 0
    for _ in range(3000):
        p, m, q = rng.dirichlet(np.full(3, rng.choice([0.1, 0.3, 1.0])), 3)
        q, alpha = 0.999 * q + 0.001 / 3, rng.uniform(0.02, 0.98)
        if rng.random() < 0.3:
            p, m = rng.multinomial(5, p) / 5, rng.multinomial(5, m) / 5
        solution = minimise_over_simplex("rdro", p[None] / 2, m[None] / 2, q[None], np.full(1, alpha))
        assert solution.converged[0]
        a = (alpha * p + (1 - alpha) * m) / 2

        def risk(policies, p=p, a=a, q=q):
            u = np.log(np.maximum(policies, 1e-300) / q)
            return (a * np.logaddexp(u, 0) + p / 2 * np.logaddexp(-u, 0)).sum(axis=1)

        assert risk(solution.policy)[0] <= risk(grid).min() + 1e-9
        kept = a > 0
        inflection = np.sqrt(p / 2)[kept] * (np.sqrt(a + p / 2) + np.sqrt(p / 2))[kept] / a[kept]
        beyond += bool((solution.policy[0, kept] / q[kept] > inflection + 1e-9).any())
    assert beyond > 100
