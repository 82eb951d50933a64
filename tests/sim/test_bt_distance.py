"""The distance from Bradley-Terry against closed forms, an independent optimiser, and its own null distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from sim.bt_distance import bt_distance, bt_distance_of_counts, bt_test
from sim.preferences import bradley_terry, from_counts, hodge, intransitive_dice
from sim.real_data import load_arena_core
from tests.sim.optional import needs_leaderbot
from theory.bradley_terry_fit import _line_search, _loss, fit_bradley_terry

CYCLE = np.array([[0.5, 0.7, 0.3], [0.3, 0.5, 0.7], [0.7, 0.3, 0.5]])
ROUNDS = 30 * (np.ones((4, 4), dtype=int) - np.eye(4, dtype=int))  # comparisons of each pair


def differences(scores):
    """All s_i - s_j."""
    return scores[:, np.newaxis] - scores[np.newaxis, :]


def bt_counts(scores, comparisons, rng):
    """A table of wins drawn from a Bradley-Terry model."""
    upper = np.triu(rng.binomial(comparisons, expit(differences(scores))), 1)
    return upper + np.triu(comparisons - upper, 1).T


def test_three_cycle_in_closed_form():
    distance = bt_distance(CYCLE)
    # By symmetry all scores are equal, so K = KL(0.7 || 0.5) and the logits are all residual.
    expected = 0.7 * np.log(0.7 / 0.5) + 0.3 * np.log(0.3 / 0.5)
    assert distance.size == pytest.approx(expected, abs=1e-15)
    assert distance.shape == pytest.approx(1.0, abs=1e-14)
    assert (distance.weak, distance.moderate, distance.strong) == (1.0, 1.0, 1.0)


@given(responses=st.integers(3, 12), signal=st.floats(0.01, 4.0), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_bradley_terry_is_at_distance_zero(responses, signal, seed):
    rng = np.random.default_rng(seed)
    mu = rng.dirichlet(np.full(responses, 2.0))
    for weights in (None, np.outer(mu, mu)):
        distance = bt_distance(bradley_terry(responses, signal=signal, rng=rng).probabilities[0], weights)
        # Both are quadratic in the rounding of the logits (1e-15 against 1e-2 at least): far below 1e-14.
        assert 0.0 <= distance.size < 1e-14
        assert distance.shape < 1e-14
        assert (distance.weak, distance.moderate, distance.strong) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_shape_is_the_cyclic_share_of_hodge(share):
    matrix = hodge(8, cyclic_share=share, signal=1.0, rng=np.random.default_rng(4)).probabilities[0]
    assert bt_distance(matrix).shape == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("pairs", "violations"),
    [
        ((0.7, 0.7, 0.8), (0, 0, 0)),
        ((0.9, 0.6, 0.7), (0, 0, 1)),
        ((0.7, 0.7, 0.6), (0, 1, 1)),
        ((0.7, 0.7, 0.4), (1, 1, 1)),
        ((0.7, 0.5, 0.7), (0, 0, 0)),
        ((0.5, 0.5, 0.6), (1, 1, 1)),
    ],
)
def test_order_of_one_triple(pairs, violations):
    """P(a > b), P(b > c), P(a > c) and which of weak, moderate and strong transitivity they violate.

    In the last row b is level with a and with c, so neither may be better than the other.
    """
    ab, bc, ac = pairs
    matrix = np.array([[0.5, ab, ac], [1 - ab, 0.5, bc], [1 - ac, 1 - bc, 0.5]])
    distance = bt_distance(matrix)
    assert (distance.weak, distance.moderate, distance.strong) == violations


def test_order_counts_triples_once_and_only_where_all_pairs_are_compared():
    matrix = np.full((4, 4), 0.5)
    matrix[:3, :3] = CYCLE
    matrix[:3, 3], matrix[3, :3] = 0.9, 0.1  # the fourth item loses to all
    assert bt_distance(matrix).weak == 0.25
    weights = np.ones((4, 4))
    weights[0, 3] = weights[3, 0] = 0.0
    assert bt_distance(matrix, weights).weak == 0.5


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_distance_ignores_labels_and_the_scale_of_weights(seed):
    rng = np.random.default_rng(seed)
    matrix = hodge(6, cyclic_share=0.4, signal=1.5, rng=rng).probabilities[0]
    mu = rng.dirichlet(np.full(6, 2.0))
    weights, order = np.outer(mu, mu), rng.permutation(6)
    distance = bt_distance(matrix, weights)
    other = bt_distance(matrix[np.ix_(order, order)], 7.0 * weights[np.ix_(order, order)])
    for key in ("size", "shape", "weak", "moderate", "strong"):
        # Reordered sums of 36 terms; a minimum is insensitive to first order to the scores' rounding.
        assert getattr(other, key) == pytest.approx(getattr(distance, key), rel=1e-11, abs=1e-15)


def test_size_is_a_minimum_over_scores():
    rng = np.random.default_rng(9)
    matrix = hodge(6, cyclic_share=0.5, signal=1.0, rng=rng).probabilities[0]
    weights = np.triu(np.full((6, 6), 1 / 15), 1)

    def mean_divergence(scores):
        log_model, log_other = log_expit(differences(scores)), log_expit(-differences(scores))
        kl = matrix * (np.log(matrix) - log_model) + matrix.T * (np.log(matrix.T) - log_other)
        return float((weights * kl).sum())

    reference = minimize(mean_divergence, np.zeros(6), method="BFGS", options={"gtol": 1e-8})
    assert bt_distance(matrix).size == pytest.approx(reference.fun, abs=1e-12)
    fit = fit_bradley_terry(matrix)
    # Numerical gradients of 1e-8 over a curvature of about 1/50: scores to about 1e-6.
    np.testing.assert_allclose(fit.scores, reference.x - reference.x.mean(), atol=1e-5)
    for _ in range(20):
        assert mean_divergence(fit.scores + 0.1 * rng.standard_normal(6)) > bt_distance(matrix).size


def test_two_items_in_closed_form():
    fit = fit_bradley_terry([[0, 30], [10, 0]])
    np.testing.assert_allclose(fit.scores, [np.log(3) / 2, -np.log(3) / 2], rtol=1e-14)
    assert fit.status == "ok"


@pytest.mark.parametrize("spread", [1e-6, 1.0, 8.0])
def test_fit_recovers_scores_of_any_spread(spread):
    scores = spread * np.array([1.0, 0.4, -0.1, -1.3])
    fit = fit_bradley_terry(expit(differences(scores)))
    # Probabilities near 1 keep the score only to eps / (1 - p), but their complements keep it to eps.
    np.testing.assert_allclose(fit.scores, scores, rtol=0, atol=1e-10)


def test_fit_of_many_tables_is_the_fit_of_each():
    rng = np.random.default_rng(1)
    tables = 1 + rng.integers(0, 40, size=(3, 5, 6, 6))
    fit = fit_bradley_terry(tables)
    assert fit.scores.shape == (3, 5, 6)
    assert fit.status.shape == (3, 5)
    assert (fit.status == "ok").all()
    np.testing.assert_allclose(fit.scores[2, 4], fit_bradley_terry(tables[2, 4]).scores, rtol=0, atol=1e-13)
    decisive = tables + tables.swapaxes(-1, -2)
    chance = expit(fit.scores[..., :, np.newaxis] - fit.scores[..., np.newaxis, :])
    gradient = (decisive * chance - tables).sum(axis=-1)
    assert np.abs(gradient).max() < 1e-10  # sums of counts up to 500, rounded to about 1e-13


def test_fit_stays_finite_on_nearly_one_sided_tables():
    strong = np.array([[0, 10**9, 10**9], [1, 0, 10**9], [1, 1, 0]])
    fit = fit_bradley_terry(strong)
    assert fit.status == "ok"
    assert fit.scores[0] > fit.scores[1] > fit.scores[2]


def test_weights_beyond_double_precision_are_reported_as_not_converged():
    fit = fit_bradley_terry(10.0 ** np.random.default_rng(0).uniform(-30, 30, size=(50, 5, 5)))
    assert set(fit.status) == {"ok", "nonconverged"}
    assert np.isfinite(fit.scores).all()


def test_a_fit_that_does_not_converge_gives_no_distance(monkeypatch):
    monkeypatch.setattr("theory.bradley_terry_fit._MAX_ITERATIONS", 1)
    with pytest.raises(RuntimeError, match="the Bradley-Terry fit must converge, got none after 1 Newton steps"):
        bt_distance(intransitive_dice().probabilities[0])


def test_line_search_shortens_a_step_that_goes_too_far():
    tables = np.array([[[0.0, 3.0], [1.0, 0.0]]] * 2) / 4
    start, step = np.zeros((2, 2)), np.array([[40.0, -40.0], [0.1, -0.1]])
    reached, full = _line_search(tables, start, step)
    assert list(full) == [False, True]
    assert (_loss(tables, reached) < _loss(tables, start)).all()
    np.testing.assert_allclose(reached[1], step[1], rtol=0)


def test_counts_and_matrix_agree():
    counts = np.array([[0, 700, 300], [200, 0, 800], [500, 100, 0]])
    observed = bt_distance_of_counts(counts)
    exact = bt_distance(from_counts(counts).probabilities[0], counts + counts.T)
    assert observed.size == pytest.approx(exact.size, rel=1e-12)
    assert (observed.weak, observed.moderate, observed.strong) == (exact.weak, exact.moderate, exact.strong)
    assert observed.shape == pytest.approx(exact.shape, abs=0.005)  # 1/2 added to counts of at least 100


def test_counts_may_be_one_sided_and_incomplete():
    counts = [[0, 5, 0, 2], [0, 0, 4, 0], [3, 0, 0, 2], [0, 0, 1, 0]]
    observed = bt_distance_of_counts(counts)
    assert observed.size > 0
    assert observed.weak == 0.5  # of the triples 0-1-2 and 0-2-3 only the first is a cycle


def test_null_statistic_is_nearly_chi_square():
    rng = np.random.default_rng(12)
    counts = bt_counts(np.array([0.5, 0.2, 0.0, -0.2, -0.5]), np.full((5, 5), 4000), rng)
    result = bt_test(counts, 400, rng)
    assert result.degrees_of_freedom == 6
    assert result.failed == 0
    # Mean 6 and variance 12 of the chi-square limit; standard error of the mean of 400 is sqrt(12/400) = .173,
    # of the variance sqrt(2 + 12/6 ) * 12 / sqrt(400) = 1.2.
    assert abs(result.null_statistic.mean() - 6.0) < 4 * 0.173
    assert abs(result.null_statistic.var() - 12.0) < 4 * 1.2
    np.testing.assert_allclose(result.null_statistic, 2 * counts.sum() * result.null.size, rtol=1e-12)


def test_p_values_of_bradley_terry_data_are_calibrated():
    rng = np.random.default_rng(13)
    scores = np.array([0.8, 0.1, -0.2, -0.7])
    p_values = [bt_test(bt_counts(scores, ROUNDS, rng), 39, rng).p_value for _ in range(200)]
    # P(p <= .1) is at most .1, and near it: 20 of 200 expected, standard deviation sqrt(200 x .1 x .9) = 4.2.
    assert abs(sum(p <= 0.1 for p in p_values) - 20) < 4 * 4.3
    assert abs(np.mean(p_values) - 0.5) < 4 * np.sqrt(1 / 12 / 200) + 1 / 40


def test_dice_are_rejected():
    counts = np.rint(900 * intransitive_dice().probabilities[0]).astype(int)
    np.fill_diagonal(counts, 0)
    result = bt_test(counts, 99, np.random.default_rng(0))
    assert result.p_value == 0.01
    assert result.statistic == pytest.approx(2 * counts.sum() * result.observed.size)
    noise = result.null_statistic.mean() / (2 * counts.sum())
    assert result.excess_size == pytest.approx(result.observed.size - noise)


def test_replicates_without_a_fit_are_counted_against_rejection():
    counts = np.array([[0, 2, 1], [1, 0, 2], [2, 1, 0]])
    result = bt_test(counts, 200, np.random.default_rng(0))
    assert 0 < result.failed < 200
    assert len(result.null_statistic) == 200 - result.failed
    reached = (result.null_statistic >= result.statistic - 1e-9).sum()
    assert result.p_value == (1 + reached + result.failed) / 201


def test_a_statistic_of_zero_has_p_value_one():
    result = bt_test(10 * ROUNDS, 50, np.random.default_rng(0))
    assert result.statistic == pytest.approx(0.0, abs=1e-9)
    assert result.p_value == 1.0


def test_bootstrap_is_reproducible_from_its_generator():
    first, second = (bt_test(ROUNDS, 20, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.null_statistic, second.null_statistic)


@needs_leaderbot
def test_chatbot_arena_core():
    core = load_arena_core()
    result = bt_test(core.wins, 200, np.random.default_rng(20240814), core.names)
    assert result.degrees_of_freedom == 231  # 253 pairs less 22 scores
    assert result.statistic == pytest.approx(560.2443, abs=1e-3)
    assert result.observed.size == pytest.approx(7.7491e-4, abs=1e-8)
    assert result.p_value == 1 / 201
    # Standard error of the mean of 200 chi-square variables with 231 degrees of freedom: sqrt(2 x 231 / 200) = 1.52.
    assert abs(result.null_statistic.mean() - 231) < 4 * 1.52
    assert abs(result.excess_size - 4.55e-4) < 4 * 1.52 / (2 * core.total)
    assert result.failed == 0


ERRORS = [
    (lambda: fit_bradley_terry([[0, 1], [0, 0]]), "strongly connected.*no chain of wins from item 1 to item 0"),
    (lambda: bt_test([[0, 1, 1], [0, 0, 1], [0, 1, 0]], 9, np.random.default_rng(0), "abc"), "from 'b' to 'a'"),
    (lambda: bt_distance_of_counts([[0, 1, 1], [0, 0, 1], [0, 1, 0]], "abc"), "from 'b' to 'a'"),
    (lambda: fit_bradley_terry([[0, -1], [1, 0]]), "wins must be finite and not negative, got -1"),
    (lambda: fit_bradley_terry([0, 1]), "shape \\(..., K, K\\) with K >= 2, got \\(2,\\)"),
    (lambda: bt_distance([[0.5, 0.7], [0.3, 0.5]]), "at least one triple"),
    (lambda: bt_distance([[0.5, 0.7], [0.4, 0.5]]), "P_ij \\+ P_ji = 1"),
    (lambda: bt_distance(np.stack([CYCLE, CYCLE])), "shape \\(K, K\\), got \\(2, 3, 3\\)"),
    (lambda: bt_distance([[0.5, 1.0, 0.6], [0.0, 0.5, 0.6], [0.4, 0.4, 0.5]]), "got 1 for items 0 and 1"),
    (lambda: bt_distance(CYCLE, np.triu(np.ones((3, 3)))), "weights must be symmetric"),
    (lambda: bt_distance(CYCLE, np.ones((2, 2))), "same shape"),
    (lambda: bt_distance(CYCLE, np.eye(3)), "positive for some pair"),
    (lambda: bt_distance(CYCLE, np.diag([1.0, 1.0], 1)[:3, :3] + np.diag([1.0, 1.0], -1)), "at least one triple"),
    (lambda: bt_distance_of_counts([[0, 1.5], [1, 0]]), "whole numbers, got 1.5"),
    (lambda: bt_test(ROUNDS, 0, np.random.default_rng(0)), "replicates must be at least 1, got 0"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rng_must_be_a_generator():
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got int"):
        bt_test(ROUNDS, 9, 3)


def test_a_null_without_any_fit_is_an_error():
    counts = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    counts[0, 2] = 1  # closes a triple, so that order is defined
    with pytest.raises(RuntimeError, match=r"got none of 1$"):
        bt_test(counts, 1, np.random.default_rng(0))
