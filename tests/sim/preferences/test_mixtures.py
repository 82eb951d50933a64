"""Mixtures of hidden annotators and of menus, against formulas and against experiments carried out one by one."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from sim.bt_distance import bt_distance
from sim.preferences import annotator_mixture, context, rock_paper_scissors
from sim.preferences.annotator_mixture import CONDORCET_UTILITIES
from tests.sim.preferences.models import EPS, NOISE, SCORES, UTILITIES, exceeds_chance, logits_of


def test_annotators_follow_the_formula():
    weights = np.array([0.5, 0.3, 0.2])
    matrix = annotator_mixture(utilities=UTILITIES, weights=weights).probabilities[0]
    for i, j in permutations(range(4), 2):
        expected = sum(w * expit(u[i] - u[j]) for w, u in zip(weights, UTILITIES, strict=True))
        assert abs(matrix[i, j] - expected) < 8 * EPS


def test_condorcet_cycle():
    matrix = annotator_mixture(utilities=CONDORCET_UTILITIES).probabilities[0]
    majority = (2.0 * expit(2.0) + expit(-4.0)) / 3.0
    for i in range(3):
        assert abs(matrix[i, (i + 1) % 3] - majority) < 8 * EPS
    assert 0.59 < majority < 0.6
    # With certain annotators two of three groups decide.
    certain = annotator_mixture(utilities=100.0 * np.array(CONDORCET_UTILITIES)).probabilities[0]
    np.testing.assert_allclose(certain[[0, 1, 2], [1, 2, 0]], 2.0 / 3.0, rtol=0, atol=8 * EPS)


def test_opposite_groups_of_equal_size_cancel():
    matrix = annotator_mixture(utilities=[SCORES, -SCORES]).probabilities
    np.testing.assert_allclose(matrix, 0.5, rtol=0, atol=4 * EPS)


def test_every_group_has_the_signal():
    # A share of (nearly) one shows the group alone.
    for k in range(3):
        shares = np.eye(3)[k]
        model = annotator_mixture(7, 2, groups=3, signal=1.7, weights=shares, rng=np.random.default_rng(5))
        logits = logits_of(model.probabilities)
        np.testing.assert_allclose(np.square(logits).sum(axis=(1, 2)) / 42, 1.7**2, rtol=1e-12)
        assert max(bt_distance(matrix).size for matrix in model.probabilities) < 1e-12


@given(seed=st.integers(0, 2**32 - 1), groups=st.integers(1, 4), signal=st.floats(0.1, 5.0))
def test_the_mixture_lies_between_its_groups(seed, groups, signal):
    def build(shares):
        rng = np.random.default_rng(seed)
        return annotator_mixture(5, groups=groups, signal=signal, weights=shares, rng=rng).probabilities[0]

    each = np.array([build(np.eye(groups)[k]) for k in range(groups)])
    mixed = build(None)
    assert np.all(mixed >= each.min(axis=0) - 8 * EPS)
    assert np.all(mixed <= each.max(axis=0) + 8 * EPS)


def one_menu(i: int, j: int, members: tuple[int, ...]) -> float:
    """The logit of i against j within a menu, from the formula."""
    return SCORES[i] - SCORES[j] + sum(NOISE[i, k] - NOISE[j, k] for k in members)


@pytest.mark.parametrize("menu_size", [2, 3, 4])
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_context_is_the_mean_over_menus(menu_size, bias):
    model = context(utilities=SCORES, interactions=NOISE, menu_size=menu_size, position_bias=bias)
    for i, j in permutations(range(4), 2):
        rest = [k for k in range(4) if k not in (i, j)]
        logits = np.array([one_menu(i, j, (i, j, *others)) for others in combinations(rest, menu_size - 2)])
        expected = (expit(logits + bias) + expit(logits - bias)).mean() / 2.0
        assert abs(model.probabilities[0, i, j] - expected) < 16 * EPS


def test_context_is_what_showing_menus_one_by_one_gives():
    rng, bias = np.random.default_rng(31), 0.6
    wins = np.zeros(2, dtype=int)
    i, j = 2, 0
    others, first = rng.choice([1, 3], size=50_000), rng.random(50_000) < 0.5
    for other, shown_first in zip(others, first, strict=True):
        logit = one_menu(i, j, (i, j, int(other))) + (bias if shown_first else -bias)
        wins[int(rng.random() < expit(logit))] += 1
    matrix = context(utilities=SCORES, interactions=NOISE, menu_size=3, position_bias=bias).probabilities[0]
    assert not exceeds_chance(wins, np.array([matrix[j, i], matrix[i, j]]))


def test_a_pair_alone_can_be_any_cycle():
    cycle = logits_of(rock_paper_scissors(5, kind="sign", signal=1.2).probabilities[0])
    model = context(utilities=np.zeros(5), interactions=cycle / 2.0, menu_size=2)
    np.testing.assert_allclose(logits_of(model.probabilities[0]), cycle, rtol=0, atol=32 * EPS)


def test_a_decoy_moves_the_choice_only_where_it_is_shown():
    effects = np.zeros((4, 4))
    effects[0, 3] = 2.0  # response 3 makes 0 look good
    alone, with_decoy = (
        context(utilities=[0.0, 0.0, 0.0, -3.0], interactions=effects, menu_size=size).probabilities[0]
        for size in (2, 3)
    )
    assert alone[0, 1] == 0.5
    assert abs(with_decoy[0, 1] - (0.5 + expit(2.0)) / 2.0) < 4 * EPS  # the third response is 2 or 3
    assert with_decoy[1, 2] == 0.5


def test_position_bias_alone_shrinks_logits_and_leaves_bradley_terry():
    plain, biased = (context(utilities=2.0 * SCORES, position_bias=bias).probabilities[0] for bias in (0.0, 2.0))
    preferred = plain > 0.5
    assert np.all(biased[preferred] > 0.5)
    assert np.all(biased[preferred] < plain[preferred])
    assert bt_distance(plain).size < 1e-12
    assert bt_distance(biased).size > 1e-4
