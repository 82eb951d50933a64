"""Annotators with tastes of their own: exact averages, and samples with the right law."""

import mpmath
import numpy as np
import pytest
from scipy.special import expit, logit

from sim.annotators import Annotators, average_preference
from sim.preferences import PairwisePreference, ThumbsPreference, build_preference
from sim.worlds import build_world
from tests.strategies import assert_within_standard_errors

PAIRS = {
    "name": "pool",
    "preference": "hodge",
    "options": {"cyclic_share": 0.5, "signal": 1.5},
    "responses": 4,
    "annotators": 5,
    "annotator_spread": 1.0,
}
THUMBS = {**PAIRS, "preference": "thumbs", "options": {"signal": 1.0, "bias": -1.0}, "prompts": 2}


@pytest.mark.parametrize("spread", [0.3, 1.0, 1.4])
def test_average_is_that_of_adaptive_quadrature(spread):
    model = average_preference(PairwisePreference("coin", [[0.5, 0.9], [0.1, 0.5]]), spread)
    deviation = mpmath.sqrt(2) * spread
    exact = mpmath.quad(
        lambda z: mpmath.npdf(z) / (1 + mpmath.exp(-(mpmath.log(9) + deviation * z))), [-40, -10, -3, 0, 3, 10, 40]
    )
    # Deviations of up to 2 nats: the comment beside the nodes says 2e-13.
    assert abs(model.probabilities[0, 0, 1] - float(exact)) < 2e-13


def test_averages_stay_complementary_and_certain_answers_stay_certain():
    model = average_preference(PairwisePreference("sure", [[0.5, 1.0, 0.7], [0.0, 0.5, 0.2], [0.3, 0.8, 0.5]]), 2.0)
    matrix = model.probabilities[0]
    assert np.array_equal(matrix + matrix.T, np.ones((3, 3)))
    assert matrix[0, 1] == 1.0
    labels = average_preference(ThumbsPreference("t", [0.0, 0.5, 1.0]), 1.0).label_probabilities[0]
    np.testing.assert_allclose(labels, [0.0, 0.5, 1.0], rtol=0, atol=4 * np.finfo(float).eps)  # a weighted mean


def test_without_spread_nothing_changes():
    rng = np.random.default_rng(0)
    model = build_preference("hodge", {"cyclic_share": 0.5, "signal": 1.0}, responses=5, rng=rng)
    # A logit and a sigmoid of numbers near 1/2 and a mean of equal numbers: some eps.
    np.testing.assert_allclose(average_preference(model, 0.0).probabilities, model.probabilities, rtol=0, atol=1e-15)


@pytest.mark.parametrize("spec", [PAIRS, {**PAIRS, "regime": "unpaired", "label_fraction": 0.3}, THUMBS])
def test_samples_have_the_average_law(spec):
    world = build_world(spec)
    counts = world.sample(40, 4000, np.random.default_rng(1))
    problem, fraction = world.problem, world.label_fraction
    share = 40 * problem.prompt_probs
    expected = (share * fraction)[:, None] * problem.p_preferred
    assert_within_standard_errors(counts.preferred.reshape(4000, -1), expected.ravel())
    expected = (share * (1 - fraction))[:, None] * problem.p_nonpreferred
    assert_within_standard_errors(counts.nonpreferred.reshape(4000, -1), expected.ravel())
    total = counts.preferred.sum(axis=(1, 2)) + counts.nonpreferred.sum(axis=(1, 2))
    assert (total == 40).all()


def test_label_noise_is_part_of_the_law_of_samples():
    world = build_world({**PAIRS, "label_noise": 0.2})
    counts = world.sample(40, 4000, np.random.default_rng(2))
    assert_within_standard_errors(counts.pairs.reshape(4000, -1), 20 * world.problem.pair_probs.ravel())


def test_labels_of_one_annotator_are_dependent():
    """With one annotator the variance of counts between data sets has the part that tastes make."""
    one, many = (build_world({**PAIRS, "annotators": k}).sample(2000, 1500, np.random.default_rng(3)) for k in (1, 500))
    variances = [counts.preferred[:, 0].var(axis=0, ddof=1).sum() for counts in (one, many)]
    shares = build_world(PAIRS).problem.p_preferred[0]
    independent = 1000 * float((shares * (1 - shares)).sum())
    # Tastes of deviation 1 move p+ by some hundredths: the square of that, times 1000^2, is far above 1000 p+ (1 - p+).
    assert variances[0] > 20 * independent
    assert variances[1] < 2 * independent


def test_a_pool_is_split_as_evenly_as_possible():
    model = PairwisePreference("coin", [[0.5, 0.5], [0.5, 0.5]])
    pool = Annotators(3, 1.0, model, np.array([[0.5, 0.5]]), np.ones(1), paired=True)
    assert pool.sample(2, 4, np.random.default_rng(0)).pairs.sum(axis=(1, 2, 3)).tolist() == [2, 2, 2, 2]


def test_large_pools_are_drawn_in_batches_with_the_same_law(monkeypatch):
    monkeypatch.setattr("sim.annotators._LARGEST_BATCH", 200)
    world = build_world(PAIRS)
    counts = world.sample(40, 500, np.random.default_rng(4))
    assert counts.preferred.shape == (500, 1, 4)
    assert_within_standard_errors(counts.preferred[:, 0], 20 * world.problem.p_preferred[0])


def test_estimand_is_the_clean_law_of_the_whole_population():
    world = build_world({**PAIRS, "label_noise": 0.2})
    model = build_preference("hodge", PAIRS["options"], responses=4, rng=np.random.default_rng(20260404))
    draws = np.random.default_rng(5).standard_normal((200_000, 4))
    logits = logit(model.probabilities[0]) + draws[:, :, None] - draws[:, None, :]
    assert_within_standard_errors(0.5 * expit(logits).mean(axis=2), world.estimand[0])


BAD = {
    "no pool": ({**PAIRS, "annotators": 0}, "annotators must be at least 1, got 0"),
    "spread": ({**PAIRS, "annotator_spread": -1.0}, "annotator_spread must be a finite number of at least 0"),
    "spread alone": ({k: v for k, v in PAIRS.items() if k != "annotators"}, "goes with annotators"),
    "reports": ({**THUMBS, "options": {"signal": 1.0, "report_up": 0.5}}, "must report all labels"),
    "laws": (
        {"name": "x", "p_preferred": [0.5, 0.5], "p_nonpreferred": [0.5, 0.5], "alpha": 0.5, "annotators": 3},
        "goes with a preference model",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pools_are_refused(case):
    spec, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build_world(spec)
