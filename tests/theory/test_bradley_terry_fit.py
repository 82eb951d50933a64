"""Bradley-Terry fits: optimality, exact recovery, batches, and tables without a fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from theory.bradley_terry_fit import fit_bradley_terry, score_differences, win_chains


@given(st.lists(st.floats(-3.0, 3.0), min_size=4, max_size=4), st.floats(1e-6, 1e6))
def test_scores_of_a_bradley_terry_law_are_recovered(scores, weight):
    scores = np.array(scores) - np.mean(scores)
    fit = fit_bradley_terry(weight * expit(score_differences(scores)))
    assert fit.status == "ok"
    # Curvatures are at least sigma'(6) = 2.5e-3, so that gradients rounded at 1e-16 leave 1e-13.
    np.testing.assert_allclose(fit.scores, scores, atol=1e-11)


@given(st.lists(st.integers(1, 1000), min_size=9, max_size=9))
def test_scores_are_stationary_and_centred(counts):
    wins = np.array(counts, dtype=float).reshape(3, 3)
    scores = fit_bradley_terry(wins).scores
    expected_wins = (wins + wins.T) * expit(score_differences(scores)) * ~np.eye(3, dtype=bool)
    actual_wins = wins * ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(expected_wins.sum(axis=1), actual_wins.sum(axis=1), rtol=1e-10)
    assert abs(scores.sum()) <= 1e-12 * (1 + np.abs(scores).max())


def test_batches_are_fitted_like_their_members():
    tables = np.random.default_rng(3).integers(1, 50, (2, 3, 4, 4)).astype(float)
    fit = fit_bradley_terry(tables)
    assert fit.scores.shape == (2, 3, 4) and fit.status.shape == (2, 3) and (fit.status == "ok").all()
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(fit.scores[index], fit_bradley_terry(tables[index]).scores, atol=1e-12)


def test_chains_of_wins():
    ring = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert win_chains(ring[None]).all()
    np.testing.assert_array_equal(
        win_chains(np.array([[[0, 1, 0], [0, 0, 1], [0, 0, 0]]])),
        [[[True, True, True], [False, True, True], [False, False, True]]],
    )


@pytest.mark.parametrize(
    ("wins", "names", "message"),
    [
        ([[0, 1], [0, 0]], None, r"got no chain of wins from item 1 to item 0"),
        ([[0, 1], [0, 0]], ["a", "b"], r"got no chain of wins from 'b' to 'a'"),
        ([[1.0]], None, r"wins must have shape \(\.\.\., K, K\) with K >= 2, got \(1, 1\)"),
        ([[0, -1], [1, 0]], None, r"wins must be finite and not negative, got -1"),
        ([0, 1], None, r"wins must have shape"),
    ],
)
def test_tables_without_a_fit_are_refused(wins, names, message):
    with pytest.raises(ValueError, match=message):
        fit_bradley_terry(wins, names)
