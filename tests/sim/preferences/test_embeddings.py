"""Models of vectors and of normal worths against their formulas, and their signal."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag, schur
from scipy.stats import norm

from sim.bt_distance import bt_distance
from sim.preferences import blade_chest, build_preference, general_preference, rock_paper_scissors, thurstone
from tests.sim.preferences.models import CHESTS, COVARIANCE, EPS, NOISE, SCORES, VECTORS, exceeds_chance, logits_of

SIGNALS = {
    "additive_difference": {"functions": ["convex", "saturating", "linear"], "attributes": 3},
    "blade_chest": {"kind": "dist", "dimension": 3},
    "bradley_terry": {},
    "general_preference": {"blocks": 2},
    "rock_paper_scissors": {"kind": "sine"},
    "thurstone": {"case": "V"},
    "thurstone/III": {"case": "III", "log_spread": 2.0},
    "thurstone/I": {"case": "I"},
}


@pytest.mark.parametrize("kind", sorted(SIGNALS))
@given(responses=st.integers(3, 10), signal=st.floats(0.05, 4.0), seed=st.integers(0, 2**32 - 1))
def test_random_models_have_exactly_the_signal(kind, responses, signal, seed):
    options = {**SIGNALS[kind], "signal": signal}
    rng = np.random.default_rng(seed)
    model = build_preference(kind.split("/")[0], options, responses=responses, prompts=2, rng=rng)
    squares = np.square(logits_of(model.probabilities)).sum(axis=(1, 2)) / (responses * (responses - 1))
    # A logit carries an error of a few eps, next to a root mean square of at least .05: 1e-14 relative.
    np.testing.assert_allclose(np.sqrt(squares), signal, rtol=1e-12)


def test_blades_and_chests_follow_the_formulas():
    inner = logits_of(blade_chest(blades=VECTORS, chests=CHESTS, scores=SCORES).probabilities[0])
    dist = logits_of(blade_chest(kind="dist", blades=VECTORS, chests=CHESTS, scores=SCORES).probabilities[0])
    for i, j in permutations(range(4), 2):
        advantage = SCORES[i] - SCORES[j]
        reach = VECTORS[i] @ CHESTS[j] - CHESTS[i] @ VECTORS[j]
        nearer = np.sum((VECTORS[j] - CHESTS[i]) ** 2) - np.sum((VECTORS[i] - CHESTS[j]) ** 2)
        # The logarithm of a probability p costs eps/p; the smallest here is about sigma(-6) = .0025.
        assert abs(inner[i, j] - (reach + advantage)) < 1000 * EPS
        assert abs(dist[i, j] - (nearer + advantage)) < 1000 * EPS


def test_distances_are_inner_products_with_other_scores():
    dist = blade_chest(kind="dist", blades=VECTORS, chests=CHESTS, scores=SCORES).probabilities
    moved = SCORES + np.square(CHESTS).sum(axis=1) - np.square(VECTORS).sum(axis=1)
    inner = blade_chest(blades=2.0 * VECTORS, chests=CHESTS, scores=moved).probabilities
    np.testing.assert_allclose(inner, dist, rtol=0, atol=32 * EPS)


def test_blades_at_right_angles_to_chests_make_a_pure_cycle():
    turn = 2.0 * np.pi * np.arange(5) / 5
    blades, chests = np.stack([np.cos(turn), np.sin(turn)], axis=1), np.stack([np.sin(turn), -np.cos(turn)], axis=1)
    matrix = blade_chest(blades=blades, chests=chests).probabilities[0]
    assert abs(bt_distance(matrix).shape - 1.0) < 1e-12
    # b_i . c_j - c_i . b_j = 2 sin(theta_j - theta_i), of which the root mean square is 2 sqrt(5/8).
    expected = rock_paper_scissors(signal=2.0 * np.sqrt(5.0 / 8.0), angles=-turn).probabilities[0]
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=16 * EPS)


def test_general_preferences_are_products_with_a_rotated_vector():
    vectors = np.random.default_rng(3).standard_normal((2, 5, 6))
    rotation = block_diag(*[[[0.0, -1.0], [1.0, 0.0]]] * 3)
    logits = logits_of(general_preference(vectors=vectors, tau=2.5).probabilities)
    for prompt, (i, j) in [(x, pair) for x in range(2) for pair in permutations(range(5), 2)]:
        expected = (rotation @ vectors[prompt, i]) @ vectors[prompt, j] / 2.5
        assert abs(logits[prompt, i, j] - expected) < 1000 * EPS


def test_unit_vectors_in_a_plane_are_rock_paper_scissors():
    angles = np.array([0.3, 1.9, 4.0, 5.5])
    plane = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    turned = general_preference(vectors=plane, signal=0.8).probabilities
    circle = rock_paper_scissors(signal=0.8, angles=-angles).probabilities
    np.testing.assert_allclose(turned, circle, rtol=0, atol=32 * EPS)


def test_random_vectors_have_unit_length():
    # With unit vectors no logit exceeds 1/tau, and in one plane all of (0, 1/tau) is reached.
    logits = logits_of(general_preference(64, blocks=1, tau=0.5, rng=np.random.default_rng(0)).probabilities)
    assert 1.99 < np.abs(logits).max() <= 2.0 + 16 * EPS


def test_half_as_many_planes_as_responses_reach_every_matrix():
    skew = NOISE - NOISE.T
    blocks, basis = schur(skew)  # skew = basis blocks basis', with 2 x 2 blocks [[0, t], [-t, 0]]
    t = np.array([blocks[0, 1], blocks[2, 3]])
    # <R v_i, v_j> of the columns (a, b) is a_i b_j - b_i a_j: scaled by sqrt(|t|), and by the sign of t in one of them.
    scale = np.stack([np.sqrt(np.abs(t)), np.sign(t) * np.sqrt(np.abs(t))], axis=1).ravel()
    logits = logits_of(general_preference(vectors=basis * scale, tau=1.0).probabilities[0])
    np.testing.assert_allclose(logits, skew, rtol=0, atol=1e-12)  # the Schur form is good to about 100 eps


def test_thurstone_cases_follow_the_formula():
    spread = np.array([0.5, 2.0, 1.0, 4.0])
    cases = {
        "V": ({}, np.eye(4)),
        "III": ({"variances": spread}, np.diag(spread)),
        "I": ({"covariance": COVARIANCE}, COVARIANCE),
    }
    for case, (options, covariance) in cases.items():
        matrix = thurstone(case=case, means=SCORES, **options).probabilities[0]
        for i, j in permutations(range(4), 2):
            deviation = np.sqrt(covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j])
            assert abs(matrix[i, j] - norm.cdf(SCORES[i] - SCORES[j], scale=deviation)) < 16 * EPS


def test_equal_variances_and_correlations_are_case_v():
    equal = 3.0 * (0.4 * np.ones((4, 4)) + 0.6 * np.eye(4))
    # The common part cancels: differences have the variance 2 * 3 * .6 = 3.6 instead of 2.
    case_i = thurstone(case="I", means=SCORES, covariance=equal).probabilities
    np.testing.assert_allclose(case_i, thurstone(means=SCORES / np.sqrt(1.8)).probabilities, rtol=0, atol=16 * EPS)


def test_thurstone_is_what_judges_with_normal_worths_prefer():
    rng = np.random.default_rng(12)
    worths = rng.multivariate_normal(SCORES, COVARIANCE, size=100_000)
    matrix = thurstone(case="I", means=SCORES, covariance=COVARIANCE).probabilities[0]
    for i, j in ((0, 1), (0, 3), (1, 2), (2, 3)):
        wins = int((worths[:, i] > worths[:, j]).sum())
        assert not exceeds_chance(np.array([wins, 100_000 - wins]), np.array([matrix[i, j], matrix[j, i]]))


@given(case=st.sampled_from(["V", "III", "I"]), seed=st.integers(0, 2**32 - 1), signal=st.floats(0.1, 4.0))
def test_thurstone_is_weakly_transitive_and_case_v_strongly(case, seed, signal):
    matrix = thurstone(6, case=case, signal=signal, rng=np.random.default_rng(seed)).probabilities[0]
    distance = bt_distance(matrix)
    assert distance.weak == 0.0
    if case == "V":
        assert distance.strong == 0.0


def test_random_cases_nest():
    v, iii, i = (
        thurstone(6, case=case, signal=1.0, log_spread=0.0, rng=np.random.default_rng(2)).probabilities
        for case in ("V", "III", "I")
    )
    np.testing.assert_allclose(iii, v, rtol=0, atol=16 * EPS)  # equal variances
    assert np.abs(i - v).max() > 0.05  # correlations that differ between pairs


def test_unequal_variances_break_strong_transitivity():
    # The surest response is the middle one: it beats the last more surely than the first does, which varies a lot.
    model = thurstone(case="III", means=[1.0, 0.5, 0.0], variances=[25.0, 0.1, 0.1])
    distance = bt_distance(model.probabilities[0])
    assert (distance.weak, distance.strong) == (0.0, 1.0)
    assert distance.size > 1e-3
