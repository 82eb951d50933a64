"""Losses are those of theory; alpha and weights follow from the counts of the whole set, whatever the batches."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

import theory
from lm.examples import ExampleSet
from lm.method import METHODS, PAIR_METHODS, resolve_method
from lm.objective import Objective, mismatched_examples, prepare_examples
from lm.settings import MethodConfig
from tests.lm.toy_examples import toy_examples
from tests.lm.toy_training import make_trainer


def _set(prompts, preferred, **columns):
    """Return examples with these one-token prompts, whose completions are their own numbers."""
    return ExampleSet(
        prompt_ids=[np.array([p], dtype=np.int32) for p in prompts],
        completion_ids=[np.array([i], dtype=np.int32) for i in range(len(prompts))],
        preferred=np.array(preferred, dtype=bool),
        rows=np.arange(len(prompts)),
        **columns,
    )


def _expected(name, u, preferred, alpha):
    """Return what theory says, for beta = 0.1 and the logistic generator."""
    if name in PAIR_METHODS:
        return getattr(theory, f"{name}_losses")(u[::2], u[1::2], 0.1)
    if name == "kto":
        return theory.kto_losses(u[::2], preferred[::2], 0.1, max(0.0, u[1::2].mean()))
    if name == "sft":
        return theory.sft_losses(u, preferred)
    return getattr(theory, f"{name}_losses")(u, preferred, alpha)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("shift", [-1.0, 1.0])  # kto's reference point is cut at 0 in the first case
@pytest.mark.parametrize("name", METHODS)
def test_losses_are_theorys(name, shift, library):
    u = np.random.default_rng(1).normal(scale=0.2, size=12) + (shift if name == "kto" else 0.0)
    preferred = np.arange(12) % 2 == 0 if name in PAIR_METHODS else np.arange(12) % 3 == 0
    objective = Objective(resolve_method(MethodConfig(name)), alpha=0.3)
    as_array = np.asarray if library == "numpy" else torch.tensor
    losses = objective.losses(as_array(u), {"preferred": as_array(preferred)})
    # The same operations in float64; the two libraries' exp and log differ by an eps or two.
    np.testing.assert_allclose(losses, _expected(name, u, preferred, 0.3), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", ["rdro", "ddro", "mle"])
def test_each_example_has_its_own_alpha(name):
    u, preferred = np.array([0.1, -0.4, 0.3]), np.array([True, False, True])
    alpha = np.array([0.2, 0.5, 0.6])
    losses = Objective(resolve_method(MethodConfig(name))).losses(u, {"preferred": preferred, "alpha": alpha})
    each = [_expected(name, u[i : i + 1], preferred[i : i + 1], alpha[i])[0] for i in range(3)]
    np.testing.assert_allclose(losses, each, rtol=1e-14)


def test_options_reach_the_loss():
    u, preferred = np.array([0.5, 2.0]), np.array([True, False])
    for options in ({"generator": "kl"}, {"method": "ddro", "beyond_domain": "extend", "generator": "least_squares"}):
        method = resolve_method(MethodConfig(**options))
        losses = Objective(method, 0.5).losses(u, {"preferred": preferred})
        if method.name == "rdro":
            np.testing.assert_array_equal(losses, theory.rdro_losses(u, preferred, 0.5, "kl"))
        else:
            np.testing.assert_array_equal(
                losses, theory.ddro_losses(u, preferred, 0.5, "least_squares", beyond_domain="extend")
            )


def test_ktos_reference_point_has_no_gradient():
    u = torch.tensor([0.1, 2.0, 0.3, 1.0], requires_grad=True)
    batch = {"preferred": torch.tensor([True, True, False, False])}
    Objective(resolve_method(MethodConfig("kto"))).losses(u, batch).sum().backward()
    assert u.grad[1::2].tolist() == [0.0, 0.0] and u.grad[::2].abs().min() > 0


@pytest.mark.parametrize("alpha", [0.05, 0.39, 0.9, "auto"])
@pytest.mark.parametrize("weights", [None, np.ones(40)])
def test_balanced_rdro_starts_at_ln_2(alpha, weights):
    prepared, resolved = prepare_examples(toy_examples(40, weights=weights), MethodConfig(alpha=alpha))
    objective = Objective(resolve_method(MethodConfig(alpha=alpha)), resolved.alpha)
    losses = objective.losses(np.zeros(40), {"preferred": prepared.preferred})
    assert (prepared.weights * losses).mean() == pytest.approx(np.log(2.0), rel=1e-14)


def test_weights_are_theorys_times_the_datas_own():
    own = np.array([1.0, 2.0, 3.0, 0.0, 5.0])
    data = _set([1, 1, 2, 2, 2], [True, False, True, False, False], weights=own)
    expected = theory.class_weights(0.4)
    prepared, resolved = prepare_examples(data, MethodConfig("kto"))
    by_class = np.where(data.preferred, expected.preferred, expected.nonpreferred)
    np.testing.assert_array_equal(prepared.weights[::2], own * by_class)
    assert resolved.class_weights == (1.25, pytest.approx(5 / 6, rel=1e-15))
    for config in (MethodConfig("rdro", weighting="pooled"), MethodConfig("mle")):
        np.testing.assert_array_equal(prepare_examples(data, config)[0].weights, own)


def test_weights_by_prompt():
    data = _set([1, 1, 1, 1, 2, 2], [True, False, False, False, True, True])
    prepared, resolved = prepare_examples(data, MethodConfig("rdro", weighting="balanced_by_prompt"))
    # 1/(2 pi) at pi = 1/4, and 1/(2 (1 - pi)); where a class is missing the other one weighs 1/2, as in sim.
    np.testing.assert_allclose(prepared.weights, [2.0, 2 / 3, 2 / 3, 2 / 3, 0.5, 0.5], rtol=1e-11)
    assert resolved.class_weights is None
    assert resolved.notes == ("1 of 2 prompts have examples of one class only and weigh half",)


def test_alpha_by_prompt_adds_one_half_to_each_class():
    data = _set([1, 1, 1, 1, 2, 2], [True, False, False, False, True, True])
    prepared, resolved = prepare_examples(data, MethodConfig("rdro", alpha="auto_by_prompt"))
    np.testing.assert_allclose(prepared.alpha, [1.5 / 5] * 4 + [2.5 / 3] * 2, rtol=1e-15)
    assert resolved.alpha is None and resolved.alpha_range == (1.5 / 5, 2.5 / 3)


def test_alpha_of_the_data_a_number_and_the_share():
    data = _set([1, 2, 3, 4], [True, False, False, False], alpha=np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_array_equal(prepare_examples(data, MethodConfig(alpha="column"))[0].alpha, data.alpha)
    for config, known, expected in (
        (MethodConfig(), None, 0.25),
        (MethodConfig(), 0.6, 0.6),  # a held-out set takes the training set's share
        (MethodConfig(alpha=0.3), 0.3, 0.3),
    ):
        prepared, resolved = prepare_examples(data, config, alpha=known)
        assert resolved.alpha == expected and set(prepared.alpha) == {expected}


def test_a_far_alpha_is_noted_and_the_trainer_tells_it_once(tmp_path, caplog):
    data = _set([1, 2, 3, 4], [True, False, False, False])
    assert prepare_examples(data, MethodConfig(alpha=0.39))[1].notes == ()  # 0.14 away
    note = "alpha is 0.41, but the share of preferred examples is 0.25"
    assert prepare_examples(data, MethodConfig(alpha=0.41))[1].notes == (note,)
    with caplog.at_level(logging.WARNING, logger="lm.trainer"):
        make_trainer(tmp_path, data, eval_dataset=data, alpha=0.41)
    assert [record.getMessage() for record in caplog.records if record.name == "lm.trainer"] == [note]


def test_sft_keeps_preferred_examples():
    data = toy_examples(30)
    prepared, resolved = prepare_examples(data, MethodConfig("sft"))
    np.testing.assert_array_equal(prepared.rows, data.rows[data.preferred])
    assert prepared.preferred.all() and resolved.examples == resolved.preferred == data.preferred.sum()
    assert prepared.alpha is None and set(prepared.weights) == {1.0}


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        (MethodConfig("rdro"), _set([1, 2], [True, True]), "rdro needs examples of both classes, got 2 preferred ones"),
        (MethodConfig("kto"), _set([1, 2], [False, False]), "kto needs examples of both classes, got 0 preferred"),
        (MethodConfig("mle", alpha=0.5), _set([1], [True]), "mle needs examples of both classes"),
        (MethodConfig("sft"), _set([1, 2], [False, False]), "sft must have at least one example that is preferred"),
        (MethodConfig("dpo"), toy_examples(4), r"dpo needs pairs \(chosen, rejected\), got single completions"),
        (MethodConfig("rdro"), toy_examples(4, pairs=True), "rdro needs examples of single completions, got pairs"),
        (MethodConfig(alpha="column"), toy_examples(4), "alpha 'column' needs a column alpha in the data, got none"),
        (
            MethodConfig(alpha="column"),
            _set([1, 2], [True, False], alpha=np.array([0.5, 1.0])),
            "column alpha must lie strictly between 0 and 1, got 1",
        ),
        (
            MethodConfig(),
            _set([1, 2], [True, False], weights=np.array([1.0, -1.0])),
            "weights must be finite and not negative, got -1 at index",
        ),
        (MethodConfig(), _set([1, 2], [True, False], weights=np.zeros(2)), "weights must not all be 0"),
        (
            MethodConfig("kto"),
            _set([1, 2], [True, False], reference_log_probs=np.zeros(2)),
            "kto needs reference log-probabilities of mismatched completions too",
        ),
    ],
)
def test_data_that_do_not_fit_the_method(config, data, message):
    with pytest.raises(ValueError, match=message):
        prepare_examples(data, config)


def test_pairs_the_wrong_way_round_are_refused():
    data = toy_examples(4, pairs=True)
    with pytest.raises(
        ValueError,
        match=r"dpo needs pairs \(chosen, rejected\), got pairs whose first is not preferred or whose second is",
    ):
        prepare_examples(dataclasses.replace(data, preferred=~data.preferred), MethodConfig("dpo"))


@pytest.mark.parametrize("prompts", [1, 2, 7])
def test_mismatched_completions_are_of_another_example_and_prompt(prompts):
    data = toy_examples(31, prompts=prompts)
    doubled = mismatched_examples(data, seed=3)
    assert doubled.width == 2 and len(doubled) == len(data)
    own = {ids.tobytes() for ids in data.completion_ids}
    texts = np.array([ids.tobytes().hex() for ids in data.prompt_ids])
    by_prompt = np.unique(texts, return_counts=True)[1].max()
    longest = max(len(p) + len(c) for p, c in zip(data.prompt_ids, data.completion_ids, strict=True))
    for i in range(len(data)):
        np.testing.assert_array_equal(doubled.completion_ids[2 * i], data.completion_ids[i])
        np.testing.assert_array_equal(doubled.prompt_ids[2 * i + 1], data.prompt_ids[i])
        assert len(doubled.prompt_ids[2 * i + 1]) + len(doubled.completion_ids[2 * i + 1]) <= longest
        assert any(ids.startswith(doubled.completion_ids[2 * i + 1].tobytes()) for ids in own)
    np.testing.assert_array_equal(doubled.preferred, np.repeat(data.preferred, 2))
    np.testing.assert_array_equal(doubled.rows, np.repeat(data.rows, 2))
    if 2 * by_prompt <= len(data):
        at_prompt = {}
        for text, ids in zip(texts, data.completion_ids, strict=True):
            at_prompt.setdefault(text, set()).add(ids.tobytes())
        elsewhere = [
            doubled.completion_ids[2 * i + 1].tobytes() not in at_prompt[texts[i]]
            or len(doubled.completion_ids[2 * i + 1]) == 1
            for i in range(len(data))
        ]
        assert all(elsewhere)


def test_mismatched_completions_depend_on_the_seed_alone():
    data = toy_examples(20)
    first, again, other = (mismatched_examples(data, seed).completion_ids for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_one_example_has_no_mismatched_completion():
    with pytest.raises(ValueError, match="kto needs at least 2 examples for mismatched completions, got 1"):
        mismatched_examples(_set([1], [True]))
