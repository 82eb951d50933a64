"""What every registered preference model promises, checked for each of its kinds."""

import inspect

import numpy as np
import pytest

from sim.preferences import PREFERENCE_MODELS, PairwisePreference, ThumbsPreference, build_preference
from tests.sim.preferences.models import EPS, EXAMPLES, KINDS, PAIRED, RELABELLED, example, exceeds_chance, policy_for

# Models whose size is theirs to choose: all but those that follow from data.
SIZED = [kind for kind in KINDS if "responses" in EXAMPLES[kind]]
RANDOM = [kind for kind in SIZED if "rng" in inspect.signature(PREFERENCE_MODELS[kind.split("/")[0]].build).parameters]


def test_registry_is_complete():
    assert set(PREFERENCE_MODELS) == {
        "additive_difference",
        "annotator_mixture",
        "blade_chest",
        "bradley_terry",
        "context",
        "from_counts",
        "general_preference",
        "hodge",
        "intransitive_dice",
        "label_flip",
        "noisy_sorting",
        "rock_paper_scissors",
        "thumbs",
        "thurstone",
        "tournament",
    }
    assert {kind.split("/")[0] for kind in KINDS} == set(RELABELLED) == set(PREFERENCE_MODELS)
    assert len(PAIRED) == len(KINDS) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_entry_is_documented_and_builds_its_regime(kind):
    entry = PREFERENCE_MODELS[kind.split("/")[0]]
    assert all((entry.summary, entry.formula, entry.source))
    assert "`" not in entry.summary
    for section in ("Parameters", "Returns", "Raises", "References", "Examples"):
        assert f"{section}\n    ---" in entry.build.__doc__
    for parameter in inspect.signature(entry.build).parameters:
        assert parameter in entry.build.__doc__.split("Returns\n")[0].split("Parameters\n")[1]
    model = example(kind)
    assert isinstance(model, {"paired": PairwisePreference, "unpaired": ThumbsPreference}[entry.regime])
    assert model.name == kind.split("/")[0]


@pytest.mark.parametrize("kind", PAIRED)
def test_probabilities_are_complementary(kind):
    matrix = example(kind).probabilities
    # Each of P_ij and P_ji is at most 1 and rounded within 2 eps of it; their sum is rounded once more.
    assert np.abs(matrix + matrix.swapaxes(1, 2) - 1.0).max() <= 5 * EPS
    assert np.all(np.diagonal(matrix, axis1=1, axis2=2) == 0.5)


@pytest.mark.parametrize("kind", PAIRED)
def test_pair_law_has_the_borda_marginals(kind):
    model = example(kind)
    policy = policy_for(model)
    law, borda = model.pair_law(policy), model.borda(policy)
    tolerance = 4 * model.responses * EPS  # sums of K products, each at most 1
    np.testing.assert_allclose(law.sum(axis=2), 2.0 * policy * borda, rtol=0, atol=tolerance)
    np.testing.assert_allclose(law.sum(axis=1), 2.0 * policy * (1.0 - borda), rtol=0, atol=tolerance)
    np.testing.assert_allclose((law.sum(axis=1) + law.sum(axis=2)) / 2.0, policy, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_sampler_agrees_with_the_law(kind):
    model = example(kind)
    policy = policy_for(model)
    law = model.pair_law(policy) if isinstance(model, PairwisePreference) else model.label_law(policy)
    counts = model.sample(policy, 100_000, np.random.default_rng(11))
    assert counts.shape == law.shape
    assert counts.dtype == np.int64
    assert (counts.sum(axis=(1, 2)) == 100_000).all()
    for prompt in range(model.prompts):
        assert not exceeds_chance(counts[prompt], law[prompt] / law[prompt].sum())


@pytest.mark.parametrize("kind", KINDS)
def test_the_sampler_check_can_fail(kind):
    model = example(kind)
    policy = policy_for(model)
    law = (model.pair_law(policy) if isinstance(model, PairwisePreference) else model.label_law(policy))[0]
    counts = model.sample(policy, 100_000, np.random.default_rng(11))[0]
    wrong = law.T if law.shape[0] == law.shape[1] else law[:, ::-1]  # winner and loser, or the labels, exchanged
    assert exceeds_chance(counts, wrong)


@pytest.mark.parametrize("name", sorted(RELABELLED))
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
    assert not np.allclose(law, permuted[:, ::-1])  # the check can fail


@pytest.mark.parametrize("kind", KINDS)
def test_same_generator_state_gives_the_same_model_and_sample(kind):
    first, second = example(kind), example(kind)
    key = "probabilities" if isinstance(first, PairwisePreference) else "label_probabilities"
    assert np.array_equal(getattr(first, key), getattr(second, key))
    policy = policy_for(first)
    draws = [model.sample(policy, 50, np.random.default_rng(3)) for model in (first, second)]
    assert np.array_equal(*draws)
    with pytest.raises(ValueError, match="read-only"):
        getattr(first, key)[0] = 0.5


@pytest.mark.parametrize("kind", RANDOM)
def test_generator_states_and_prompts_give_different_models(kind):
    key = "label_probabilities" if kind == "thumbs" else "probabilities"
    first, second = getattr(example(kind), key), getattr(example(kind, seed=70), key)
    assert np.abs(first - second).max() > 0.01
    assert np.abs(first[0] - first[1]).max() > 0.01


@pytest.mark.parametrize("kind", SIZED)
def test_sizes_from_3_to_64(kind):
    options = {key: value for key, value in EXAMPLES[kind].items() if key not in ("responses", "prompts", "menu_size")}
    for responses in (3, 63 if kind == "rock_paper_scissors/sign" else 64):  # odd, as that kind must be
        model = build_preference(
            kind.split("/")[0], options, responses=responses, prompts=2, rng=np.random.default_rng(1)
        )
        assert (model.prompts, model.responses) == (2, responses)


def test_sample_takes_replicates_and_huge_numbers():
    model = example("hodge")
    pairs = np.array([[5, 0], [7, 10**9], [1, 2]])
    counts = model.sample(policy_for(model), pairs, np.random.default_rng(0))
    assert counts.shape == (3, 2, 6, 6)
    assert np.array_equal(counts.sum(axis=(2, 3)), pairs)
