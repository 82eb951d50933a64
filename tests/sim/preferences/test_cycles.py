"""Models of cycles against numbers known by counting: rock-paper-scissors, tournaments, additive differences."""

from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import build_world
from sim.bt_distance import bt_distance
from sim.preferences import additive_difference, noisy_sorting, rock_paper_scissors, tournament
from sim.preferences.additive_difference import DIFFERENCE_FUNCTIONS
from sim.preferences.tournament import cyclic_triples
from tests.sim.preferences.models import BEATS, EPS, logits_of


@pytest.mark.parametrize(("kind", "responses"), [("sign", 3), ("sign", 9), ("sine", 3), ("sine", 8), ("sine", 64)])
def test_rock_paper_scissors_leaves_nothing_to_scores(kind, responses):
    model = rock_paper_scissors(responses, 2, kind=kind, signal=1.5)
    uniform = np.full((2, responses), 1.0 / responses)
    np.testing.assert_allclose(model.borda(uniform), 0.5, rtol=0, atol=responses * EPS)
    assert abs(bt_distance(model.probabilities[0]).shape - 1.0) < 1e-12
    spec = {"name": "w", "preference": "rock_paper_scissors", "responses": responses}
    laws = build_world({**spec, "options": {"kind": kind, "signal": 1.5}}).problem
    np.testing.assert_allclose(laws.p_preferred, laws.p_nonpreferred, rtol=0, atol=responses * EPS)


def test_rock_paper_scissors_on_an_odd_circle():
    logits = logits_of(rock_paper_scissors(5, kind="sign", signal=0.8).probabilities[0])
    for i, j in permutations(range(5), 2):
        assert abs(logits[i, j] - (0.8 if (j - i) % 5 in (1, 2) else -0.8)) < 16 * EPS
    # Every response beats (K - 1)/2 others, the most cyclic tournament there is: (125 - 5)/24 = 5 of 10 triples.
    assert cyclic_triples(logits > 0) == 5


def test_rock_paper_scissors_spaced_evenly_beats_what_follows():
    logits = logits_of(rock_paper_scissors(7, signal=1.0).probabilities[0])
    assert all(logits[i, (i + step) % 7] > 0 for i in range(7) for step in (1, 2, 3))


def test_rock_paper_scissors_by_given_angles():
    angles = np.array([[0.1, 2.0, 4.4], [0.0, 1.0, 1.5]])
    logits = logits_of(rock_paper_scissors(signal=0.9, angles=angles).probabilities)
    for turn, at_prompt in zip(angles, logits, strict=True):
        sines = np.sin(np.subtract.outer(turn, turn))
        np.testing.assert_allclose(at_prompt, 0.9 * sines / np.sqrt(np.square(sines).sum() / 6), rtol=0, atol=32 * EPS)


def is_circle(beats: np.ndarray, triple: tuple[int, ...]) -> bool:
    i, j, k = triple
    return beats[i, j] == beats[j, k] == beats[k, i]


@given(responses=st.integers(3, 9), seed=st.integers(0, 2**32 - 1), gamma=st.floats(0.01, 0.499))
def test_cyclic_triples_are_the_weak_violations_of_a_tournament(responses, seed, gamma):
    matrix = tournament(responses, gamma=gamma, rng=np.random.default_rng(seed)).probabilities[0]
    beats = matrix > 0.5
    counted = sum(is_circle(beats, triple) for triple in combinations(range(responses), 3))
    assert cyclic_triples(beats) == counted
    assert counted <= (responses**3 - (1 if responses % 2 else 4) * responses) / 24
    distance = bt_distance(matrix)
    assert abs(distance.weak - counted / comb(responses, 3)) < 4 * EPS
    assert distance.weak == distance.strong  # all probabilities are as far from 1/2


def test_a_quarter_of_the_triples_of_random_tournaments_is_cyclic():
    matrices = tournament(6, 2000, gamma=0.3, rng=np.random.default_rng(4)).probabilities
    counts = np.array([cyclic_triples(matrix > 0.5) for matrix in matrices])
    # 20 triples, each cyclic with probability 1/4 and uncorrelated with any other (two that share a pair, too, as the
    # result of that pair says nothing about either): mean 5, variance 20 * 3/16 = 3.75, standard error .0433.
    assert abs(counts.mean() - 5.0) < 5 * np.sqrt(3.75 / 2000)
    assert abs(counts.var(ddof=1) / 3.75 - 1.0) < 0.25


def test_tournament_follows_the_given_favourites():
    matrix = tournament(gamma=0.2, beats=BEATS).probabilities[0]
    assert np.array_equal(matrix > 0.5, BEATS == 1)
    np.testing.assert_allclose(np.abs(matrix - 0.5)[~np.eye(4, dtype=bool)], 0.2, rtol=0, atol=EPS)


def test_a_transitive_tournament_is_noisy_sorting():
    ranks = np.array([2, 0, 3, 1, 4])
    beats = (ranks[:, np.newaxis] < ranks).astype(int)
    assert cyclic_triples(beats) == 0
    given_tournament = tournament(gamma=0.3, beats=beats).probabilities
    assert np.array_equal(given_tournament, noisy_sorting(gamma=0.3, ranks=ranks).probabilities)


def test_random_rankings_are_uniform():
    first = noisy_sorting(3, 6000, gamma=0.5, rng=np.random.default_rng(6)).probabilities[:, 0]
    best, worst = (first == [0.5, 1.0, 1.0]).all(axis=1), (first == [0.5, 0.0, 0.0]).all(axis=1)
    # Each with probability 1/3: the standard error of the share is sqrt(2/9/6000) = .0061.
    assert abs(best.mean() - 1 / 3) < 5 * 0.0061
    assert abs(worst.mean() - 1 / 3) < 5 * 0.0061


def test_additive_differences_follow_the_formula():
    values, weights = np.array([[0.0, 2.0, 0.3], [1.4, 1.0, -0.2], [1.2, -0.1, 0.4]]), [0.7, 1.1, 2.0]
    model = additive_difference(values=values, functions=["threshold", "convex", "saturating"], weights=weights)
    logits = logits_of(model.probabilities[0])
    for i, j in permutations(range(3), 2):
        a, b, c = values[i] - values[j]
        expected = 0.7 * (a if abs(a) > 1 else 0.0) + 1.1 * b * abs(b) + 2.0 * np.tanh(c)
        # The logarithm of a probability p costs eps/p; the smallest here is sigma(-6) = .0025.
        assert abs(logits[i, j] - expected) < 1000 * EPS


@pytest.mark.parametrize("function", sorted(DIFFERENCE_FUNCTIONS))
def test_difference_functions_are_odd_and_never_decrease(function):
    differences = np.linspace(-3.0, 3.0, 25)
    shape = DIFFERENCE_FUNCTIONS[function](differences)
    assert np.array_equal(shape, -shape[::-1])
    assert np.all(np.diff(shape) >= 0.0)


def test_three_attributes_vote_in_a_circle():
    # By the first attribute 0 > 1 > 2, by the second 1 > 2 > 0, by the third 2 > 0 > 1: two of three for each next one.
    values = [[2.0, 0.0, 1.0], [1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]
    matrix = additive_difference(values=values, functions="sign").probabilities[0]
    assert np.array_equal(matrix, rock_paper_scissors(3, kind="sign", signal=1.0).probabilities[0])
    assert bt_distance(matrix).weak == 1.0


def test_a_threshold_turns_small_advantages_into_a_circle():
    values = [[0.0, 2.0], [0.6, 1.0], [1.2, 0.0]]
    matrix = additive_difference(values=values, functions=["threshold", "linear"], weights=[2.0, 1.0]).probabilities[0]
    assert bt_distance(matrix).weak == 1.0
    unnoticed = additive_difference(values=values, functions="linear", weights=[2.0, 1.0]).probabilities[0]
    assert bt_distance(unnoticed).size < 1e-12


@given(
    function=st.sampled_from(["linear", "saturating", "convex"]),
    values=st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=3, max_size=6, unique=True),
)
def test_two_attributes_of_one_increasing_function_are_weakly_transitive(function, values):
    grid = np.array(values) / 8.0  # eighths, so that g(a) + g(b) has the sign of a + b in floating point, too
    matrix = additive_difference(values=grid, functions=function).probabilities[0]
    assert bt_distance(matrix).weak == 0.0
