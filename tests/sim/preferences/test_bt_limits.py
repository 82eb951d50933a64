"""Where each model becomes Bradley-Terry, and how far it is where it is not."""

import tomllib

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, ndtr, rel_entr

from sim import build_world
from sim.bt_distance import bt_distance
from sim.preferences import (
    additive_difference,
    annotator_mixture,
    blade_chest,
    bradley_terry,
    build_preference,
    context,
    from_counts,
    general_preference,
    hodge,
    label_flip,
    noisy_sorting,
    thurstone,
)
from sim.preferences.annotator_mixture import CONDORCET_UTILITIES
from tests.sim.preferences.models import CHESTS, EPS, NOISE, SCORES, VECTORS, example, policy_for

ZERO = np.zeros((4, 2))
LIMITS = {
    "additive_difference": (additive_difference(values=VECTORS, functions="linear", weights=[2.0, 0.5]), [2.0, 0.5]),
    "annotator_mixture": (annotator_mixture(utilities=[SCORES]), SCORES),
    "annotator_mixture of like groups": (annotator_mixture(utilities=[SCORES, SCORES + 1.0]), SCORES),
    "blade_chest inner": (blade_chest(blades=ZERO, chests=CHESTS, scores=SCORES), SCORES),
    "blade_chest dist": (
        blade_chest(kind="dist", blades=ZERO, chests=CHESTS, scores=SCORES),
        SCORES + np.square(CHESTS).sum(axis=1),
    ),
    "context without interactions": (context(utilities=SCORES, menu_size=3), SCORES),
    "context of the full menu": (
        context(utilities=SCORES, interactions=NOISE, menu_size=4),
        SCORES + NOISE.sum(axis=1),
    ),
    "general_preference": (
        general_preference(vectors=np.stack([SCORES, np.full(4, 0.7)], axis=1), tau=0.35),
        2.0 * SCORES,
    ),
    "label_flip": (label_flip(scores=SCORES, flip=0.0), SCORES),
}
LIMITS["additive_difference"] = (LIMITS["additive_difference"][0], VECTORS @ LIMITS["additive_difference"][1])


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_limit_is_bradley_terry_with_the_stated_scores(name):
    model, scores = LIMITS[name]
    # Sums of at most four terms of order one, rounded differently, then a sigmoid of slope at most 1/4.
    np.testing.assert_allclose(model.probabilities, bradley_terry(scores=scores).probabilities, rtol=0, atol=32 * EPS)


@pytest.mark.parametrize(
    "matrix",
    [
        bradley_terry(7, signal=2.0, rng=np.random.default_rng(0)).probabilities[0],
        hodge(7, cyclic_share=0.0, signal=2.0, rng=np.random.default_rng(0)).probabilities[0],
        from_counts([[0, 4, 4, 4], [2, 0, 4, 4], [1, 2, 0, 4], [3, 6, 12, 0]]).probabilities[0],
        *(model.probabilities[0] for model, _ in LIMITS.values()),
    ],
    ids=["bradley_terry", "hodge", "from_counts", *LIMITS],
)
def test_limit_has_no_distance(matrix):
    distance = bt_distance(matrix)
    # K is quadratic in the logits' rounding error, so 1e-12 leaves room of many orders of magnitude.
    assert 0.0 <= distance.size < 1e-12
    assert distance.shape < 1e-12
    assert (distance.weak, distance.moderate, distance.strong) == (0.0, 0.0, 0.0)


def test_random_models_reach_the_limit_too():
    def build(name, **options):
        rng = np.random.default_rng(9)
        return build_preference(name, options, responses=5, prompts=2, rng=rng).probabilities

    plain = build("bradley_terry", signal=1.3)
    assert np.array_equal(build("label_flip", signal=1.3, flip=0.0), plain)
    for name, options in (
        ("context", {"signal": 1.3, "interaction_spread": 0.0}),
        ("annotator_mixture", {"signal": 1.3, "groups": 1}),
    ):
        np.testing.assert_allclose(build(name, **options), plain, rtol=0, atol=8 * EPS)
    # Not the same draws, but Bradley-Terry all the same: any scores outweigh the blades in the limit.
    near = build("blade_chest", signal=1.3, score_spread=1e9)
    assert max(bt_distance(matrix).size for matrix in near) < 1e-12


def test_pairing_independent_thumbs_is_exactly_bradley_terry():
    laws = example("thumbs").class_laws(policy_for(example("thumbs")))
    chosen = laws.p_preferred[0][:, np.newaxis] * laws.p_nonpreferred[0][np.newaxis, :]
    assert bt_distance(chosen / (chosen + chosen.T)).size < 1e-12


def bernoulli_kl(p: float, q: float) -> float:
    return float(rel_entr(p, q) + rel_entr(1.0 - p, 1.0 - q))


def size_of_symmetric_three(near: float, far: float) -> float:
    """K of three responses with P_01 = P_12 = near and P_02 = far.

    Reversing the order exchanges winners and losers, so the best scores are (t, 0, -t): one number to minimise over.
    """
    best = minimize_scalar(
        lambda t: 2.0 * bernoulli_kl(near, expit(t)) + bernoulli_kl(far, expit(2.0 * t)),
        bounds=(0.0, 10.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(best.fun) / 3.0


def test_thurstone_v_is_near_bradley_terry_at_a_known_distance():
    distance = bt_distance(thurstone(means=[1.5, 0.0, -1.5]).probabilities[0])
    expected = size_of_symmetric_three(float(ndtr(1.5 / np.sqrt(2.0))), float(ndtr(3.0 / np.sqrt(2.0))))
    # The minimum is flat: an error of 1e-8 in t changes it by about 1e-16.
    assert abs(distance.size - expected) < 1e-13
    assert 1e-5 < distance.size < 1e-3
    assert (distance.weak, distance.moderate, distance.strong) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("gamma", [0.05, 0.25, 0.45])
def test_noisy_sorting_is_ordered_but_not_bradley_terry(gamma):
    three = bt_distance(noisy_sorting(gamma=gamma, ranks=[0, 1, 2]).probabilities[0])
    assert abs(three.size - size_of_symmetric_three(0.5 + gamma, 0.5 + gamma)) < 1e-13
    # Logits (1, 1, 1) on the pairs (01, 12, 02): the flow around the triangle is 1 + 1 - 1, a third of it on each pair,
    # so the residual is 3 (1/3)^2 of a total of 3.
    assert abs(three.shape - 1.0 / 9.0) < 1e-12
    many = bt_distance(noisy_sorting(9, gamma=gamma, rng=np.random.default_rng(0)).probabilities[0])
    assert (many.weak, many.moderate, many.strong) == (0.0, 0.0, 0.0)
    assert many.size > three.size > 1e-4


def test_label_flips_keep_the_order_and_leave_bradley_terry():
    distance = bt_distance(label_flip(scores=2.0 * SCORES, flip=0.1).probabilities[0])
    assert (distance.weak, distance.moderate, distance.strong) == (0.0, 0.0, 0.0)
    assert distance.size > 1e-3


def test_a_cycle_of_three_is_as_far_as_its_bias():
    matrix = annotator_mixture(utilities=CONDORCET_UTILITIES).probabilities[0]
    distance = bt_distance(matrix)
    # No response is ahead of another, so the best scores are equal and K is that of a coin.
    assert abs(distance.size - bernoulli_kl(matrix[0, 1], 0.5)) < 1e-14
    assert abs(distance.shape - 1.0) < 1e-12
    assert distance.weak == 1.0


def test_size_and_shape_can_tell_opposite_stories():
    distance = bt_distance(annotator_mixture(utilities=0.1 * np.array(CONDORCET_UTILITIES)).probabilities[0])
    assert abs(distance.shape - 1.0) < 1e-6
    # sigma(x) - 1/2 = x/4 - x^3/48 + ...: of the logits .2, .2 and -.4 the first powers cancel and the bias is
    # .048/(3 48); K is twice its square, up to terms smaller by a factor of order .4^2 = .16.
    assert abs(distance.size / (2.0 * (0.048 / 144.0) ** 2) - 1.0) < 0.16


CLEARLY_NOT_BRADLEY_TERRY = """
additive_difference = {functions = "sign", attributes = 3, signal = 1.5}
annotator_mixture = {groups = 3, signal = 4.0}
blade_chest = {kind = "inner", dimension = 2, signal = 1.5}
context = {signal = 1.0, interaction_spread = 1.0, menu_size = 3}
general_preference = {blocks = 2, signal = 1.5}
label_flip = {flip = 0.1, signal = 4.0}
noisy_sorting = {gamma = 0.3}
rock_paper_scissors = {kind = "sine", signal = 1.0}
thurstone = {case = "III", log_spread = 2.0, signal = 1.5}
tournament = {gamma = 0.2}
"""


@pytest.mark.parametrize(("preference", "options"), tomllib.loads(CLEARLY_NOT_BRADLEY_TERRY).items())
def test_worlds_from_toml_that_are_clearly_not_bradley_terry(preference, options):
    world = build_world({"name": "w", "preference": preference, "options": options, "responses": 8, "prompts": 2})
    assert world.regime == "paired"
    assert world.problem.assumption_m_holds
    for pairs in world.problem.pair_probs:
        # Ten times the distance of language models in the Arena, about 5e-4.
        assert bt_distance(pairs / (pairs + pairs.T)).size > 5e-3
