"""Models of scores, of observed wins and of dice, against their formulas."""

from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.bt_distance import bt_distance
from sim.preferences import bradley_terry, from_counts, hodge, intransitive_dice, label_flip
from sim.preferences.hodge import hodge_logits
from sim.preferences.intransitive_dice import EFRON_DICE
from tests.sim.preferences.models import COUNTS, EPS, NOISE, SCORES


@given(
    responses=st.integers(3, 12),
    cyclic_share=st.floats(0.0, 1.0),
    signal=st.floats(0.05, 3.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_hodge_has_exactly_the_cyclic_share_and_the_signal(responses, cyclic_share, signal, seed):
    matrix = hodge(responses, 2, cyclic_share=cyclic_share, signal=signal, rng=np.random.default_rng(seed))
    first, second = np.triu_indices(responses, 1)
    incidence = np.zeros((len(first), responses))
    incidence[np.arange(len(first)), first], incidence[np.arange(len(first)), second] = 1.0, -1.0
    for probabilities in matrix.probabilities:
        logits = (np.log(probabilities) - np.log(probabilities.T))[first, second]
        cyclic = logits - incidence @ np.linalg.lstsq(incidence, logits, rcond=None)[0]
        # The logits carry errors of a few eps next to a root mean square of at least 0.05: relative 1e-14.
        assert abs(np.square(cyclic).sum() / np.square(logits).sum() - cyclic_share) < 1e-12
        assert abs(np.sqrt(np.square(logits).mean()) - signal) < 1e-12


def test_hodge_turns_one_dial():
    zero, half, one = (hodge_logits(SCORES, NOISE, cyclic_share=share, signal=2.0).ravel() for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, np.sqrt(0.5) * (zero + one), rtol=0, atol=16 * EPS)
    assert abs(zero @ one) < 16 * 16 * EPS  # orthogonal: 16 products, each at most about 16
    divergence = hodge_logits(SCORES, NOISE, cyclic_share=1.0, signal=2.0).sum(axis=1)
    np.testing.assert_allclose(divergence, 0.0, rtol=0, atol=32 * EPS)


def test_efron_dice_beat_each_other_in_a_circle():
    matrix = intransitive_dice().probabilities[0]
    for die in range(4):
        assert matrix[die, (die + 1) % 4] == 2 / 3
    for i, j in product(range(4), repeat=2):
        if i != j:
            wins = sum(Fraction(a > b) + Fraction(a == b, 2) for a, b in product(EFRON_DICE[i], EFRON_DICE[j]))
            assert matrix[i, j] == float(wins / 36)
    assert bt_distance(matrix).weak > 0


def test_equal_faces_are_decided_by_a_coin():
    assert np.array_equal(intransitive_dice([[1, 2], [2, 1], [2, 3]]).probabilities[0, :, 1], [0.5, 0.5, 0.875])


def test_random_bradley_terry_has_the_signal():
    matrix = bradley_terry(9, 2, signal=0.7, rng=np.random.default_rng(5)).probabilities
    logits = np.log(matrix) - np.log(matrix.swapaxes(1, 2))
    np.testing.assert_allclose(np.square(logits).sum(axis=(1, 2)) / 72, 0.49, rtol=1e-13)


def test_from_counts_is_the_share_of_wins():
    matrix = from_counts(COUNTS).probabilities[0]
    assert matrix[0, 1] == 7 / 9
    assert matrix[3, 2] == 2 / 8


def test_a_flipped_label_is_the_other_outcome():
    clean = bradley_terry(scores=SCORES).probabilities
    np.testing.assert_allclose(
        label_flip(scores=SCORES, flip=0.2).probabilities, 0.6 * clean + 0.2, rtol=0, atol=4 * EPS
    )
    np.testing.assert_allclose(label_flip(scores=SCORES, flip=0.5).probabilities, 0.5, rtol=0, atol=2 * EPS)


@given(flip=st.floats(1e-6, 0.5), scale=st.floats(0.0, 300.0))
def test_flips_bound_the_logits(flip, scale):
    matrix = label_flip(scores=scale * SCORES, flip=flip).probabilities
    # Sums of two products of numbers in [0, 1], each within eps of its value.
    assert matrix.min() >= flip - 4 * EPS
    assert matrix.max() <= 1.0 - flip + 4 * EPS
    assert np.all((matrix[0] - 0.5) * (scale * np.subtract.outer(SCORES, SCORES)) >= -4 * EPS * 300.0 * 3.0)
