"""Validation: exact measures and targets, references, and what a single run measures."""

import dataclasses

import numpy as np
import pytest
import torch

from lm.validation.experiments import Method, World
from lm.validation.networks import (
    ensure_reference,
    language_of,
    load_reference,
    log_conditionals,
    log_prob_table,
    log_probs,
    network_of,
)
from lm.validation.scores import EnumeratedScorer, SampledScorer, exact_target
from lm.validation.store import find_checked
from lm.validation.training import train
from tests.lm.tiny_validation import tiny_run
from theory import kl_divergence, population_target, total_variation


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Folder with the reference of the tiny run."""
    folder = tmp_path_factory.mktemp("references")
    ensure_reference(tiny_run(), folder)
    return folder


# Measures


def test_table_of_a_network_is_what_it_says_of_each_completion_alone(references):
    run = tiny_run()
    language, model = language_of(run), load_reference(run, references)
    table = log_prob_table(model, language)
    everything = language.completions()
    for prompt in range(language.prompts):
        for c, ids in enumerate(language.completion_ids(everything)):
            head = language.prompt_ids(prompt)
            tokens = torch.from_numpy(np.concatenate([head, ids]).astype(np.int64))[None]
            with torch.no_grad():
                steps = torch.log_softmax(model(input_ids=tokens, use_cache=False).logits[0].double(), dim=1)
            alone = sum(steps[len(head) - 1 + t, token].item() for t, token in enumerate(ids))
            # Logits of size 10 in float32, three of them: about 1e-5 at most.
            assert table[prompt, c] == pytest.approx(alone, abs=2e-5)
    # No mass on anything but completions: 3 sums in float32.
    np.testing.assert_allclose(np.exp(table).sum(axis=1), 1.0, rtol=0, atol=1e-5)
    rows = np.repeat(np.arange(2), len(everything))
    flat = log_probs(model, language, rows, np.tile(everything, (2, 1)))
    np.testing.assert_allclose(flat.reshape(table.shape), table, rtol=0, atol=2e-5)


def test_exact_distances_are_those_of_theory_by_brute_force(references):
    run = tiny_run()
    language, model = language_of(run), load_reference(run, references)
    policy = np.exp(log_prob_table(model, language))
    policy /= policy.sum(axis=1, keepdims=True)
    preferred, nonpreferred = language.tables()
    target = population_target(language.problem(), "rdro", weighting="pooled", preferred_fraction=0.2)
    scores = EnumeratedScorer(language, target).preferred(model)
    by_hand = {
        "kl_preferred": (kl_divergence(preferred, policy), kl_divergence(preferred, target)),
        "tv_preferred": (total_variation(preferred, policy), total_variation(preferred, target)),
        "kl_target": (kl_divergence(target, policy), np.zeros(2)),
        "tv_target": (total_variation(target, policy), np.zeros(2)),
    }
    assert set(scores) == set(by_hand)
    for name, (value, exact) in by_hand.items():
        # The table's masses sum to 1 within 1e-5.
        assert scores[name].value == pytest.approx(value.mean(), abs=2e-5)
        assert scores[name].exact == pytest.approx(exact.mean(), abs=1e-12)
        assert scores[name].standard_error == 0.0
    mixture = EnumeratedScorer(language).mixture(model).value
    assert mixture == pytest.approx(kl_divergence(0.5 * preferred + 0.5 * nonpreferred, policy).mean(), abs=2e-5)


def test_sampled_distances_agree_with_the_exact_ones(references):
    run = tiny_run()
    language, model = language_of(run), load_reference(run, references)
    exact, sampled = EnumeratedScorer(language), SampledScorer(language, np.random.default_rng(0), samples=2000)
    for one, other in (
        (exact.preferred(model)["kl_preferred"], sampled.preferred(model)["kl_preferred"]),
        (exact.mixture(model), sampled.mixture(model)),
    ):
        assert 0.0 < other.standard_error < 0.05 * one.value
        assert abs(one.value - other.value) <= 4.0 * other.standard_error  # by chance once in 16,000 seeds


def test_conditionals_do_not_depend_on_what_comes_later(references):
    run = tiny_run()
    language, model = language_of(run), load_reference(run, references)
    completions = np.array([[0, 1, 2], [0, 2, 1]])
    steps = log_conditionals(model, language, np.zeros(2, dtype=np.int64), completions).numpy()
    np.testing.assert_allclose(steps[0, :2], steps[1, :2], rtol=0, atol=1e-6)
    assert np.abs(steps[0, 2] - steps[1, 2]).max() > 1e-3


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Method("a", "rdro"), {}),
        (Method("a", "rdro", {"weighting": "pooled"}), {"weighting": "pooled"}),
        (Method("a", "ddro", {"alpha": 0.3}), {"alpha": 0.3}),
        (Method("a", "rdro", {"alpha": "auto"}), {"alpha": 0.4}),
        (Method("a", "ipo", {"beta": 0.5}), {"beta": 0.5}),
    ],
)
def test_exact_targets_are_those_of_theory(method, expected):
    run = tiny_run(world=World("w", {"prompts": 2, "symbols": 3, "longest": 2, "preferred_fraction": [0.3, 0.5]}))
    language = language_of(run)
    found = exact_target(language, method, np.log(language.problem().mixture))
    wanted = population_target(
        language.problem(), method.method, preferred_fraction=language.preferred_fraction, **expected
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_weights_by_prompt_repair_rdro_where_rates_depend_on_the_prompt():
    run = tiny_run(world=World("w", {"prompts": 2, "symbols": 3, "longest": 2, "alpha": [0.1, 0.8]}))
    language = language_of(run)
    mixture = np.log(language.problem().mixture)
    repaired = exact_target(language, Method("a", "rdro", {"weighting": "balanced_by_prompt"}), mixture)
    np.testing.assert_allclose(repaired, language.tables()[0], rtol=0, atol=1e-9)
    alone = exact_target(language, Method("a", "rdro"), mixture)
    assert kl_divergence(language.tables()[0], alone).mean() > 0.005


def test_ddro_beyond_its_domain_has_no_known_target():
    language = language_of(tiny_run())
    method = Method("a", "ddro", {"beyond_domain": "extend"})
    assert exact_target(language, method, np.log(language.problem().mixture)) is None


# References


def test_a_reference_learns_the_mixture_and_is_the_same_each_time(references):
    run = tiny_run()
    language = language_of(run)
    judge = EnumeratedScorer(language)
    learned = judge.mixture(load_reference(run, references)).value
    assert learned < 0.3 * judge.mixture(network_of(language)).value
    path, again = find_checked(references, run.reference_key), references.parent / "again"
    ensure_reference(run, again)
    assert find_checked(again, run.reference_key).name == path.name  # which holds a checksum of the weights


def test_references_are_shared_by_what_does_not_change_them():
    run = tiny_run()
    labels = dataclasses.replace(run.world, language=run.world.language | {"preferred_fraction": 0.2})
    assert tiny_run(world=labels, n=1000, learning_rate=1.0).reference_key == run.reference_key
    for change in ({"replicate": 1}, {"pretraining_steps": 41}, {"seed": 2}):
        assert tiny_run(**change).reference_key != run.reference_key


def test_a_missing_reference_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="reference of a run must be trained first"):
        load_reference(tiny_run(), tmp_path)


# Runs


def test_all_methods_of_a_repetition_start_from_the_same_reference_and_data(references):
    labels = ("rdro", "sft", "kto", "dpo", "mle")
    outcomes = {label: train(tiny_run(method=Method(label, label)), references) for label in labels}
    start = {
        label: {m.metric: m.score.value for m in outcome.measurements if m.step == 0}
        for label, outcome in outcomes.items()
    }
    assert len({values["kl_preferred"] for values in start.values()}) == 1
    for label in ("rdro", "sft", "kto", "dpo"):
        assert outcomes[label].status == "ok" and outcomes[label].steps == 4
        steps = [m.step for m in outcomes[label].measurements if m.metric == "held_out_loss"]
        assert steps == [2, 4]


def test_ddro_meets_an_infinite_loss_which_is_an_outcome_where_rdro_trains_on(references):
    outcome = train(tiny_run(method=Method("ddro", "ddro"), learning_rate=0.1, steps=20), references)
    assert outcome.status == "diverged" and "step" in outcome.message and outcome.steps < 20
    values = {m.metric: m.score.value for m in outcome.measurements if m.step == 20}
    assert values["diverged"] == 1.0 and values["steps_taken"] == outcome.steps
    assert values["largest_log_ratio"] >= np.log(2.0)  # beyond log(1/alpha), which is why it diverged
    rdro = train(tiny_run(method=Method("rdro", "rdro"), learning_rate=0.1, steps=20), references)
    assert (rdro.status, rdro.steps) == ("ok", 20)


def test_exact_log_probabilities_may_stand_in_for_the_networks_own(references):
    run = tiny_run()
    outcome = train(tiny_run(world=dataclasses.replace(run.world, reference="exact")), references)
    assert outcome.status == "ok"
    exact = {m.metric: m.score.exact for m in outcome.measurements if m.step == 4}
    assert exact["kl_preferred"] == pytest.approx(0.0, abs=1e-9)  # assumption M holds
