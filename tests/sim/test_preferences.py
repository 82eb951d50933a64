"""Contract tests of every registered preference model, and known values of each."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import chi2

from sim.bt_distance import bt_distance
from sim.preferences import (
    PREFERENCE_MODELS,
    PairwisePreference,
    ThumbsPreference,
    bradley_terry,
    build_preference,
    from_counts,
    hodge,
    intransitive_dice,
    thumbs,
)
from sim.preferences.hodge import hodge_logits
from sim.preferences.intransitive_dice import EFRON_DICE

EPS = np.finfo(float).eps

# Parameters that have one entry a response, so that relabelling the responses means permuting them.
SCORES = np.array([1.2, -0.3, 0.4, -1.3])
NOISE = np.array([[0.0, 1.0, -2.0, 0.5], [0.3, 0.0, 0.9, 0.1], [0.2, 0.4, 0.0, -0.7], [1.1, 0.0, 0.6, 0.0]])
ETA = np.array([0.9, 0.5, 0.3, 0.2])
COUNTS = np.array([[0, 7, 3, 9], [2, 0, 8, 4], [5, 1, 0, 6], [3, 3, 2, 0]])


def hodge_of(order: np.ndarray) -> PairwisePreference:
    """The Hodge model of fixed scores and noise, in the given order of responses."""
    logits = hodge_logits(SCORES[order], NOISE[np.ix_(order, order)], cyclic_share=0.4, signal=1.3)
    return PairwisePreference("hodge", expit(logits))


RELABELLED = {
    "bradley_terry": lambda order: bradley_terry(scores=SCORES[order]),
    "hodge": hodge_of,
    "intransitive_dice": lambda order: intransitive_dice(np.array(EFRON_DICE)[order]),
    "thumbs": lambda order: thumbs(label_probabilities=ETA[order], report_up=0.6),
    "from_counts": lambda order: from_counts(COUNTS[np.ix_(order, order)]),
}

# Each model with several prompts where it has them.
EXAMPLES = {
    "bradley_terry": {"responses": 5, "prompts": 3, "options": {"signal": 1.5}},
    "hodge": {"responses": 6, "prompts": 2, "options": {"cyclic_share": 0.3, "signal": 1.2}},
    "intransitive_dice": {"options": {}},
    "thumbs": {"responses": 5, "prompts": 3, "options": {"signal": 1.0, "bias_spread": 1.0, "report_down": 0.4}},
    "from_counts": {"options": {"counts": COUNTS}},
}

MODELS = sorted(PREFERENCE_MODELS)
PAIRED = [name for name in MODELS if PREFERENCE_MODELS[name].regime == "paired"]


def example(name: str):
    """An instance of a registered model."""
    return build_preference(name, rng=np.random.default_rng(7), **EXAMPLES[name])


def policy_for(model) -> np.ndarray:
    """A base policy that differs between prompts and responses."""
    return np.random.default_rng(8).dirichlet(np.full(model.responses, 3.0), size=model.prompts)


def exceeds_chance(counts: np.ndarray, law: np.ndarray) -> bool:
    """Whether Pearson's statistic of multinomial counts passes the 1 - 1e-6 quantile of its chi-square limit.

    The limit holds when every expected count is large; the guard below asks for 25 in each cell.
    """
    expected = counts.sum() * law
    assert expected.min() >= 25
    return float((np.square(counts - expected) / expected).sum()) > chi2.isf(1e-6, law.size - 1)


def test_registry_is_complete():
    assert set(MODELS) == {"bradley_terry", "hodge", "intransitive_dice", "thumbs", "from_counts"}
    assert set(EXAMPLES) == set(RELABELLED) == set(MODELS)
    assert len(PAIRED) == 4


@pytest.mark.parametrize("name", MODELS)
def test_entry_is_documented_and_builds_its_regime(name):
    entry = PREFERENCE_MODELS[name]
    assert all((entry.summary, entry.formula, entry.source))
    for section in ("Parameters", "Returns", "Raises", "References", "Examples"):
        assert f"{section}\n    ---" in entry.build.__doc__
    kind = {"paired": PairwisePreference, "unpaired": ThumbsPreference}[entry.regime]
    model = example(name)
    assert isinstance(model, kind)
    assert model.name == name


@pytest.mark.parametrize("name", PAIRED)
def test_probabilities_are_complementary(name):
    matrix = example(name).probabilities
    # Each of P_ij and P_ji is at most 1 and rounded within 2 eps of it; their sum is rounded once more.
    assert np.abs(matrix + matrix.swapaxes(1, 2) - 1.0).max() <= 5 * EPS
    assert np.all(np.diagonal(matrix, axis1=1, axis2=2) == 0.5)


@pytest.mark.parametrize("name", PAIRED)
def test_pair_law_has_the_borda_marginals(name):
    model = example(name)
    policy = policy_for(model)
    law, borda = model.pair_law(policy), model.borda(policy)
    tolerance = 4 * model.responses * EPS  # sums of K products, each at most 1
    np.testing.assert_allclose(law.sum(axis=2), 2.0 * policy * borda, rtol=0, atol=tolerance)
    np.testing.assert_allclose(law.sum(axis=1), 2.0 * policy * (1.0 - borda), rtol=0, atol=tolerance)
    np.testing.assert_allclose((law.sum(axis=1) + law.sum(axis=2)) / 2.0, policy, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_sampler_agrees_with_the_law(name):
    model = example(name)
    policy = policy_for(model)
    law = model.pair_law(policy) if isinstance(model, PairwisePreference) else model.label_law(policy)
    counts = model.sample(policy, 100_000, np.random.default_rng(11))
    assert counts.shape == law.shape
    assert counts.dtype == np.int64
    assert (counts.sum(axis=(1, 2)) == 100_000).all()
    for prompt in range(model.prompts):
        assert not exceeds_chance(counts[prompt], law[prompt] / law[prompt].sum())


@pytest.mark.parametrize("name", MODELS)
def test_the_sampler_check_can_fail(name):
    model = example(name)
    policy = policy_for(model)
    law = (model.pair_law(policy) if isinstance(model, PairwisePreference) else model.label_law(policy))[0]
    counts = model.sample(policy, 100_000, np.random.default_rng(11))[0]
    wrong = law.T if law.shape[0] == law.shape[1] else law[:, ::-1]  # winner and loser, or the labels, exchanged
    assert exceeds_chance(counts, wrong)


@pytest.mark.parametrize("name", MODELS)
def test_relabelling_the_responses_relabels_the_model(name):
    order = np.array([2, 0, 3, 1])
    model, relabelled = RELABELLED[name](np.arange(4)), RELABELLED[name](order)
    policy = np.array([[0.4, 0.3, 0.2, 0.1]])
    if isinstance(model, PairwisePreference):
        law, permuted = model.pair_law(policy)[:, order][:, :, order], relabelled.pair_law(policy[:, order])
    else:
        law, permuted = model.label_law(policy)[:, order], relabelled.label_law(policy[:, order])
    # Reordered sums of at most 16 terms of order one, then a sigmoid of slope at most 1/4.
    np.testing.assert_allclose(permuted, law, rtol=0, atol=32 * EPS)


@pytest.mark.parametrize("name", MODELS)
def test_same_generator_state_gives_the_same_model_and_sample(name):
    first, second = example(name), example(name)
    key = "probabilities" if isinstance(first, PairwisePreference) else "label_probabilities"
    assert np.array_equal(getattr(first, key), getattr(second, key))
    policy = policy_for(first)
    draws = [model.sample(policy, 50, np.random.default_rng(3)) for model in (first, second)]
    assert np.array_equal(*draws)
    with pytest.raises(ValueError, match="read-only"):
        getattr(first, key)[0] = 0.5


@pytest.mark.parametrize(
    "matrix",
    [
        bradley_terry(7, signal=2.0, rng=np.random.default_rng(0)).probabilities[0],
        hodge(7, cyclic_share=0.0, signal=2.0, rng=np.random.default_rng(0)).probabilities[0],
        from_counts([[0, 4, 4, 4], [2, 0, 4, 4], [1, 2, 0, 4], [3, 6, 12, 0]]).probabilities[0],
    ],
    ids=["bradley_terry", "hodge", "from_counts"],
)
def test_bradley_terry_limit(matrix):
    distance = bt_distance(matrix)
    # K is quadratic in the logits' rounding error, so 1e-12 leaves room of many orders of magnitude.
    assert 0.0 <= distance.size < 1e-12
    assert (distance.weak, distance.moderate, distance.strong) == (0.0, 0.0, 0.0)


def test_pairing_independent_thumbs_is_exactly_bradley_terry():
    laws = example("thumbs").class_laws(policy_for(example("thumbs")))
    chosen = laws.p_preferred[0][:, np.newaxis] * laws.p_nonpreferred[0][np.newaxis, :]
    assert bt_distance(chosen / (chosen + chosen.T)).size < 1e-12


def test_sample_takes_replicates_and_huge_numbers():
    model = example("hodge")
    pairs = np.array([[5, 0], [7, 10**9], [1, 2]])
    counts = model.sample(policy_for(model), pairs, np.random.default_rng(0))
    assert counts.shape == (3, 2, 6, 6)
    assert np.array_equal(counts.sum(axis=(2, 3)), pairs)


@given(
    responses=st.integers(3, 12),
    cyclic_share=st.floats(0.0, 1.0),
    signal=st.floats(0.05, 3.0),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
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


def test_thumbs_follow_the_formula():
    mu = np.array([[0.1, 0.2, 0.3, 0.4]])
    laws = thumbs(label_probabilities=ETA).class_laws(mu)
    eta_bar = float((mu * ETA).sum())
    np.testing.assert_allclose(laws.p_preferred, mu * ETA / eta_bar, rtol=4 * EPS)
    np.testing.assert_allclose(laws.p_nonpreferred, mu * (1 - ETA) / (1 - eta_bar), rtol=8 * EPS)
    np.testing.assert_allclose(laws.alpha, eta_bar, rtol=4 * EPS)
    np.testing.assert_allclose(laws.reported, 1.0, rtol=4 * EPS)


def test_reporting_that_ignores_the_response_changes_only_alpha():
    mu = np.array([[0.1, 0.2, 0.3, 0.4]])
    plain = thumbs(label_probabilities=ETA).class_laws(mu)
    biased = thumbs(label_probabilities=ETA, report_up=0.9, report_down=0.2).class_laws(mu)
    np.testing.assert_allclose(biased.p_preferred, plain.p_preferred, rtol=8 * EPS)
    np.testing.assert_allclose(biased.p_nonpreferred, plain.p_nonpreferred, rtol=8 * EPS)
    up, down = 0.9 * plain.alpha, 0.2 * (1 - plain.alpha)
    np.testing.assert_allclose(biased.alpha, up / (up + down), rtol=8 * EPS)
    np.testing.assert_allclose(biased.reported, up + down, rtol=8 * EPS)
    mixture = biased.alpha * biased.p_preferred + (1 - biased.alpha) * biased.p_nonpreferred
    assert np.abs(mixture - mu).max() > 0.05  # the base policy is no longer the mixture


def test_reporting_that_depends_on_the_response_tilts_the_laws():
    mu, report = np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([[0.2, 0.4, 0.6, 1.0]])
    laws = thumbs(label_probabilities=ETA, report_up=report).class_laws(mu)
    tilted = mu * report * ETA
    np.testing.assert_allclose(laws.p_preferred, tilted / tilted.sum(), rtol=8 * EPS)
    assert np.abs(laws.p_preferred - thumbs(label_probabilities=ETA).class_laws(mu).p_preferred).max() > 0.05


def test_label_law_is_that_of_showing_labelling_and_reporting_one_by_one():
    rng, mu = np.random.default_rng(21), np.array([0.1, 0.2, 0.3, 0.4])
    shown = rng.choice(4, size=200_000, p=mu)
    label = (rng.random(shown.size) < ETA[shown]).astype(int)
    reported = rng.random(shown.size) < np.where(label == 1, 0.9, 0.3)
    counts = np.zeros((4, 2))
    np.add.at(counts, (shown[reported], label[reported]), 1)
    law = thumbs(label_probabilities=ETA, report_up=0.9, report_down=0.3).label_law(mu)[0]
    assert not exceeds_chance(counts, law)


def test_random_thumbs_have_the_stated_logits():
    def build(**options):
        return thumbs(400, 300, rng=np.random.default_rng(2), **options)

    same = build(signal=0.0, bias=-1.0).label_probabilities
    np.testing.assert_allclose(same, expit(-1.0), rtol=4 * EPS)
    eta = build(signal=0.5, bias=-1.0, bias_spread=2.0).label_probabilities
    logits = np.log(eta) - np.log1p(-eta)
    # Standard errors: 2/sqrt(300) = .115 of the mean, 2/sqrt(600) = .082 and .5/sqrt(240000) = .001 of the deviations.
    assert abs(logits.mean() + 1.0) < 4 * 0.116
    assert abs(logits.mean(axis=1).std(ddof=1) - 2.0) < 4 * 0.082
    assert abs(np.sqrt(logits.var(axis=1, ddof=1).mean()) - 0.5) < 4 * 0.001


def test_from_counts_is_the_share_of_wins():
    matrix = from_counts(COUNTS).probabilities[0]
    assert matrix[0, 1] == 7 / 9
    assert matrix[3, 2] == 2 / 8


ERRORS = [
    (lambda: PairwisePreference("m", [[0.5, 0.7], [0.2, 0.5]]), "P_ij \\+ P_ji = 1.*got 0.7 and 0.2"),
    (lambda: PairwisePreference("m", [[0.6, 0.7], [0.3, 0.5]]), "1/2 on the diagonal.*responses 0 and 0"),
    (lambda: PairwisePreference("m", [[0.5, 1.7], [-0.7, 0.5]]), "lie in \\[0, 1\\], got 1.7"),
    (lambda: PairwisePreference("m", [[0.5, np.nan], [0.5, 0.5]]), "NaN"),
    (lambda: PairwisePreference("m", [[0.5]]), "two responses, got shape \\(1, 1, 1\\)"),
    (lambda: PairwisePreference("m", [0.5, 0.5]), "shape \\(prompts, K, K\\), got \\(2,\\)"),
    (lambda: PairwisePreference(" ", [[0.5, 0.7], [0.3, 0.5]]), "non-empty string, got ' '"),
    (lambda: ThumbsPreference("m", [0.5, 1.2]), "label_probabilities must lie in \\[0, 1\\], got 1.2"),
    (lambda: ThumbsPreference("m", [0.5]), "at least two responses, got \\(1, 1\\)"),
    (lambda: ThumbsPreference("m", [0.5, 0.6], report_up=0.0), "report_up must lie in \\(0, 1\\], got 0"),
    (lambda: ThumbsPreference("m", [0.5, 0.6], report_down=[0.5, 0.6]), "same shape"),
    (lambda: ThumbsPreference("m", [1.0, 1.0]).class_laws([0.5, 0.5]), "got no thumb down at prompt 0"),
    (lambda: ThumbsPreference("m", [0.0, 0.5]).class_laws([1.0, 0.0]), "got no thumb up at prompt 0"),
    (lambda: bradley_terry(4), "exactly one of scores and signal must be given, got none"),
    (lambda: bradley_terry(4, scores=SCORES, signal=1.0), "exactly one of scores and signal must be given, got both"),
    (lambda: bradley_terry(signal=1.0), "responses must be given"),
    (lambda: bradley_terry(5, scores=SCORES), "shape \\(1, 5\\), got \\(1, 4\\)"),
    (lambda: bradley_terry(scores=[0.0, np.inf]), "finite"),
    (lambda: bradley_terry(4, signal=-1.0, rng=np.random.default_rng(0)), "signal must be finite and greater than 0"),
    (lambda: hodge(2, cyclic_share=0.1, signal=1.0, rng=np.random.default_rng(0)), "at least 3, got 2"),
    (lambda: hodge(4, cyclic_share=1.1, signal=1.0, rng=np.random.default_rng(0)), "cyclic_share.*\\[0, 1\\], got 1.1"),
    (lambda: hodge_logits(np.zeros(4), NOISE, cyclic_share=0.1, signal=1.0), "nonzero entry"),
    (lambda: intransitive_dice([[1, 2, 3]]), "K >= 2, got shape \\(1, 3\\)"),
    (lambda: thumbs(4), "exactly one of label_probabilities and signal must be given, got none"),
    (lambda: thumbs(signal=1.0), "responses must be given"),
    (lambda: thumbs(4, signal=-1.0, rng=np.random.default_rng(0)), "signal must be finite and not negative, got -1"),
    (lambda: thumbs(3, label_probabilities=ETA), "shape \\(1, 3\\), got \\(1, 4\\)"),
    (lambda: from_counts([[0, 3, 1], [1, 0, 0], [2, 0, 0]], ["a", "b", "c"]), "got none between 'b' and 'c'"),
    (lambda: from_counts([[0, 3, 1], [1, 0, 0], [2, 0, 0]]), "got none between item 1 and item 2"),
    (lambda: from_counts([[0, -3], [1, 0]]), "not negative, got -3 at index \\(0, 1\\)"),
    (lambda: from_counts([[0, 2.5], [1, 0]], ["a", "b"]), "whole numbers, got 2.5 for 'a' against 'b'"),
    (lambda: from_counts([[0, 2], [1, 4]]), "0 on the diagonal, got 4 for item 1"),
    (lambda: from_counts([[0, 2, 1], [1, 0, 1]]), "shape \\(K, K\\) with K >= 2, got \\(2, 3\\)"),
    (lambda: from_counts([[0, 2], [1, 0]], ["a"]), "one entry for each of the 2 items, got 1"),
    (
        lambda: example("hodge").sample([0.5, 0.5], 3, np.random.default_rng(0)),
        "base_policy must have shape \\(2, 6\\)",
    ),
    (lambda: example("from_counts").sample([0.5, 0.5, 0.5, 0.5], 3, np.random.default_rng(0)), "sum to 1"),
    (
        lambda: example("from_counts").sample([0.25] * 4, -3, np.random.default_rng(0)),
        "pairs must not be negative, got -3",
    ),
    (
        lambda: example("hodge").sample(np.full((2, 6), 1 / 6), [1, 2, 3], np.random.default_rng(0)),
        "one entry per prompt",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


TYPE_ERRORS = [
    (lambda: bradley_terry(4, signal=1.0), "rng must be a numpy.random.Generator, got NoneType"),
    (lambda: hodge(4.0, cyclic_share=0.1, signal=1.0, rng=np.random.default_rng(0)), "responses must be an integer"),
    (
        lambda: hodge(4, cyclic_share="x", signal=1.0, rng=np.random.default_rng(0)),
        "cyclic_share must be an array of real",
    ),
    (lambda: example("hodge").sample(np.full((2, 6), 1 / 6), 2.5, np.random.default_rng(0)), "pairs must be integers"),
]


@pytest.mark.parametrize(("call", "message"), TYPE_ERRORS)
def test_type_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "options", "size", "message"),
    [
        ("hogde", {}, {}, "preference must be one of.*did you mean 'hodge'"),
        ("hodge", {"cyclic_shar": 1.0}, {"responses": 4}, "got 'cyclic_shar' \\(did you mean 'cyclic_share'\\?\\)"),
        ("hodge", {"signal": 1.0}, {"responses": 4}, "hodge must be given cyclic_share, got only signal"),
        ("hodge", {"rng": 3}, {"responses": 4}, "got 'rng'"),
        ("intransitive_dice", {}, {"responses": 5}, "as many responses as its data, 4; got 5"),
        ("intransitive_dice", {}, {"prompts": 2}, "as many prompts as its data, 1; got 2"),
    ],
)
def test_build_preference_refuses_what_it_does_not_know(name, options, size, message):
    with pytest.raises(ValueError, match=message):
        build_preference(name, options, rng=np.random.default_rng(0), **size)
