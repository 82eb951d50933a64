"""Targets of the paired losses: first-order conditions, closed forms, unseen responses, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from tests.strategies import EPS, laws
from theory.divergences import kl_divergence
from theory.pair_targets import (
    dpo_log_ratios,
    independent_dpo_log_ratios,
    independent_ipo_log_ratios,
    ipo_log_ratios,
    ipo_policies,
    policies_from_log_ratios,
    policy_from_log_ratios,
)

BETAS = st.sampled_from([0.1, 0.5, 2.0])


def pair_laws():
    """Positive pair laws (3, 3)."""
    return laws(responses=9, spread=2.0).map(lambda law: law.reshape(3, 3))


@given(pair_laws(), BETAS)
def test_dpo_scores_are_stationary(pairs, beta):
    u = dpo_log_ratios(pairs, beta)
    losing = pairs * expit(-beta * (u[:, None] - u[None, :]))
    # Newton's last step is below 1e-8, the error its square; sums of three terms of at most 1.
    np.testing.assert_allclose(losing.sum(axis=1), losing.sum(axis=0), atol=1e-13)


@given(pair_laws(), BETAS)
def test_ipo_log_ratios_solve_the_normal_equations(pairs, beta):
    u = ipo_log_ratios(pairs, beta)
    residual = pairs * (u[:, None] - u[None, :] - 0.5 / beta)
    # A linear system whose condition number is at most 3 / min(pairs) = 3 * 9 exp(4).
    np.testing.assert_allclose(residual.sum(axis=1), residual.sum(axis=0), atol=1e-12 * (1 + 1 / beta))
    assert abs(u.sum()) <= 1e-10 * (1 + np.abs(u).max())


@given(laws(), laws(), BETAS)
def test_closed_forms_for_independent_pairs_are_the_fits_to_their_law(preferred, nonpreferred, beta):
    pairs = np.outer(preferred, nonpreferred)
    for closed, fitted in (
        (independent_dpo_log_ratios, dpo_log_ratios),
        (independent_ipo_log_ratios, ipo_log_ratios),
    ):
        u = closed(preferred[None], nonpreferred[None], beta)[0]
        np.testing.assert_allclose(u - u.mean(), fitted(pairs, beta), atol=1e-11 / beta)


def test_closed_form_of_ipo_holds_where_a_law_vanishes():
    preferred, nonpreferred = np.array([0.7, 0.3, 0.0]), np.array([0.0, 0.2, 0.8])
    u = independent_ipo_log_ratios(preferred[None], nonpreferred[None], 0.5)[0]
    np.testing.assert_allclose(u - u.mean(), ipo_log_ratios(np.outer(preferred, nonpreferred), 0.5), atol=1e-14)


@given(pair_laws())
def test_pairs_of_a_response_with_itself_play_no_role(pairs):
    without = pairs * ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(ipo_log_ratios(without, 0.5), ipo_log_ratios(pairs, 0.5), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dpo_log_ratios(without, 0.5), dpo_log_ratios(pairs, 0.5), rtol=1e-9, atol=1e-12)


@given(laws(), laws())
def test_policies_have_the_log_ratios_they_are_given(weights, reference):
    u = np.log(weights)
    policy = policy_from_log_ratios(u, reference, np.full(4, True))
    ratio = np.log(policy / reference) - u
    np.testing.assert_allclose(ratio, ratio[0], atol=64 * EPS * (1 + np.abs(u).max()))
    assert policy.sum() == pytest.approx(1.0, rel=8 * EPS)


@given(laws(responses=3), laws(responses=5))
def test_unseen_responses_keep_the_reference_and_the_policy_is_the_closest_one(weights, reference):
    seen = np.array([True, False, True, True, False])
    policy = policy_from_log_ratios(np.log(weights), reference, seen)
    # Between themselves the unseen responses keep the reference's proportions.
    np.testing.assert_allclose(policy[1] * reference[4], policy[4] * reference[1], rtol=16 * EPS)
    here = kl_divergence(policy, reference)
    for factor in (0.99, 1.01):  # the total mass of the seen responses is the only freedom left
        other = policy * np.where(seen, factor, 1.0)
        assert kl_divergence(other / other.sum(), reference) >= here - 16 * EPS


def test_large_log_ratios_do_not_overflow():
    policy = policy_from_log_ratios(np.array([0.0, 4000.0]), np.array([0.5, 0.5]), np.full(2, True))
    np.testing.assert_array_equal(policy, [0.0, 1.0])


def test_pair_laws_without_a_minimiser_are_refused():
    with pytest.raises(ValueError, match="strongly connected"):
        dpo_log_ratios(np.array([[0.0, 1.0], [0.0, 0.0]]), 0.1)
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[2, 3] = 0.5
    with pytest.raises(ValueError, match="linked by comparisons, got no link from 0 to 2"):
        ipo_log_ratios(apart, 0.1)
    # ipo needs links only, not wins in both directions.
    u = ipo_log_ratios(np.array([[0.0, 1.0], [0.0, 0.0]]), 0.5)
    np.testing.assert_allclose(u[0] - u[1], 1.0, rtol=8 * EPS)


def random_tables(tables, responses, per_pair):
    """Counts of pairs (tables, K, K) in which some responses do not occur, and references."""
    rng = np.random.default_rng(3)
    counts = rng.poisson(per_pair, size=(tables, responses, responses))
    present = rng.random((tables, responses)) < 0.8
    return counts * (present[:, :, None] & present[:, None, :]), rng.dirichlet(np.ones(responses), size=tables)


def test_ipo_policies_agree_with_least_squares_table_by_table():
    tables, reference = random_tables(60, 5, 0.15)
    policies, linked = ipo_policies(tables, reference, 0.3)
    assert linked.any() and not linked.all()
    for counts, q, policy, determined in zip(tables, reference, policies, linked, strict=True):
        i, j = np.nonzero(counts * ~np.eye(5, dtype=bool))
        design, root = np.eye(5)[i] - np.eye(5)[j], np.sqrt(counts[i, j])
        seen = np.zeros(5, dtype=bool)
        seen[np.union1d(i, j)] = True
        # The graph on the seen responses is connected iff the design has a rank of one less than they are many.
        rank = np.linalg.matrix_rank(root[:, None] * design) if i.size else 0
        assert determined == (rank == max(seen.sum() - 1, 0))
        if not determined:
            assert np.isnan(policy).all()
            continue
        if not i.size:
            np.testing.assert_allclose(policy, q, rtol=4 * EPS)
            continue
        u = np.linalg.lstsq(root[:, None] * design, root / 0.6, rcond=None)[0]
        # Both solve a system of condition number below 5^2 times the largest count.
        np.testing.assert_allclose(policy, policy_from_log_ratios(u[seen], q, seen), rtol=1e-11)
        between = np.log(policy[seen] / q[seen]) - u[seen]
        np.testing.assert_allclose(between, between[0], atol=1e-11)


def test_ipo_policies_of_a_full_table_are_those_of_its_log_ratios():
    tables, reference = random_tables(1, 4, 50.0)
    tables = tables + 1
    policies, linked = ipo_policies(tables, reference[0], 0.1)
    assert linked.all()
    expected = policy_from_log_ratios(ipo_log_ratios(tables[0], 0.1), reference[0], np.full(4, True))
    np.testing.assert_allclose(policies[0], expected, rtol=1e-12)


def test_policies_of_many_tables_are_those_of_each():
    rng = np.random.default_rng(4)
    u, reference, seen = rng.normal(size=(30, 6)), rng.dirichlet(np.ones(6), size=30), rng.random((30, 6)) < 0.6
    together = policies_from_log_ratios(u, reference, seen)
    for one, law, q, mask in zip(u, together, reference, seen, strict=True):
        np.testing.assert_allclose(policy_from_log_ratios(one[mask], q, mask), law, rtol=8 * EPS)
