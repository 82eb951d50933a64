"""RatioTrainer: learns with every loss, accumulates exactly and evaluates exactly."""

import copy
import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch

import theory
from lm.collate import Collator
from lm.method import METHODS, PAIR_METHODS
from lm.objective import mismatched_examples
from lm.output_head import LogProbHead
from tests.lm.toy_examples import VOCABULARY, toy_examples
from tests.lm.toy_training import (
    CLOSE,
    adapted,
    log_probs_of,
    logged,
    make_trainer,
    model_of,
    weights_of,
    with_reference,
)


@pytest.fixture
def make(tmp_path):
    """Return a maker of trainers: ``make(examples, model=..., eval_dataset=..., **settings)``."""
    return partial(make_trainer, tmp_path)


@pytest.mark.parametrize(("method", "padding_free"), [*((m, False) for m in METHODS), ("rdro", True), ("kto", True)])
def test_every_loss_is_learned_from(make, method, padding_free):
    examples = toy_examples(24, pairs=method in PAIR_METHODS)
    held_out = toy_examples(24, pairs=method in PAIR_METHODS, seed=1)
    rate = {"ddro": 0.01, "mle": 0.01, "kto": 2.0, "dpo": 0.3, "ipo": 0.005}.get(method, 0.05)  # ddro's domain ends
    trainer = make(
        examples,
        eval_dataset=held_out,
        method=method,
        reference=None if method == "sft" else "frozen",
        max_steps=8,
        per_device_train_batch_size=24,
        learning_rate=rate,
        padding_free=padding_free,
    )
    trainer.train()
    losses = logged(trainer)
    assert losses[-1] < losses[0]
    if method != "sft":
        metric = "eval_rewards/accuracies" if method in PAIR_METHODS else "eval_rewards/auc"
        assert trainer.evaluate()[metric] > 0.75  # the class is in the first token
        assert logged(trainer, "rewards/margins")[-1] > 0 and logged(trainer, "logratio/max_abs")[0] < 1e-4
    if method == "rdro":
        assert losses[0] == pytest.approx(math.log(2.0), abs=1e-6)


@pytest.mark.parametrize("method", ["rdro", "ipo"])
@pytest.mark.parametrize("examples", [14, 22])  # micro-batches 4 4 4 2, and 4 4 4 4, then 4 2
def test_accumulation_is_exact(make, method, examples):
    data = with_reference(toy_examples(examples, pairs=method == "ipo"))
    settings = {"method": method, "num_train_epochs": 1, "max_steps": -1, "learning_rate": 1e-3}
    small = make(data, per_device_train_batch_size=4, gradient_accumulation_steps=4, **settings)
    large = make(data, per_device_train_batch_size=16, gradient_accumulation_steps=1, **settings)
    start = weights_of(small)
    for trainer in (small, large):
        trainer.train()
    assert small.state.global_step == large.state.global_step == (examples + 15) // 16
    torch.testing.assert_close(weights_of(small), weights_of(large), **CLOSE)
    assert (weights_of(small) - start).abs().max() > 20 * CLOSE["atol"]
    np.testing.assert_allclose(logged(small), logged(large), rtol=1e-5)
    assert logged(small, "num_tokens") == logged(large, "num_tokens")


@pytest.mark.parametrize(("interval", "intervals"), [(1, [(0, 4), (4, 8), (8, 10)]), (3, [(0, 10)])])
def test_a_logged_loss_is_the_mean_over_examples_since_the_last(make, interval, intervals):
    trainer = make(
        with_reference(toy_examples(10)),
        per_device_train_batch_size=4,
        num_train_epochs=1,
        max_steps=-1,
        logging_steps=interval,
        train_sampling_strategy="sequential",
        learning_rate=1e-9,  # log-ratios stay 0
    )
    trainer.train()
    prepared = trainer.train_dataset
    losses = prepared.weights * theory.rdro_losses(np.zeros(10), prepared.preferred, trainer.resolved.alpha)
    # Batches of 4, 4 and 2: over all of them a mean of means would weigh the last two examples twice.
    assert logged(trainer) == pytest.approx([losses[low:high].mean() for low, high in intervals], abs=1e-6)


def test_gradients_are_those_of_theory_with_weights_and_alpha_of_each_example(make):
    rng = np.random.default_rng(5)
    plain = toy_examples(12, weights=rng.random(12), alpha=rng.uniform(0.1, 0.9, 12))
    data = dataclasses.replace(plain, reference_log_probs=log_probs_of(model_of(), plain) + rng.normal(size=12))
    trainer = make(data, alpha="column", check_start=False, per_device_train_batch_size=12, learning_rate=1.0)
    model = copy.deepcopy(trainer.model)
    batch = Collator(0)([data[i] for i in range(12)])
    with LogProbHead(model, mode="full") as head:
        u = head.sequence_log_probs(model, batch) - torch.tensor(data.reference_log_probs, dtype=torch.float32)
    pi = data.preferred.mean()
    weights = data.weights * np.where(data.preferred, 0.5 / pi, 0.5 / (1 - pi))
    losses = theory.rdro_losses(u, torch.tensor(data.preferred), torch.tensor(data.alpha))
    loss = (torch.tensor(weights) * losses).mean()
    loss.backward()
    trainer.train()
    assert logged(trainer)[0] == pytest.approx(loss.item(), rel=1e-6)
    for before, after in zip(model.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(before.detach() - before.grad, after.detach(), **CLOSE)


def test_weightings_differ(make):
    data, ends = with_reference(toy_examples(20, prompts=2)), []
    for weighting in ("balanced", "pooled", "balanced_by_prompt"):
        trainer = make(data, weighting=weighting, per_device_train_batch_size=20)
        trainer.train()
        losses = theory.rdro_losses(np.zeros(20), data.preferred, data.preferred.mean())
        assert logged(trainer)[0] == pytest.approx((trainer.train_dataset.weights * losses).mean(), abs=1e-5)
        ends.append(weights_of(trainer))
    assert min((ends[i] - ends[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_references_agree(make):
    data = toy_examples(16)
    settings = {"max_steps": 4, "per_device_train_batch_size": 8}
    other = model_of(seed=7)
    runs = {
        "precomputed": make(with_reference(data), **settings),
        "frozen": make(data, reference="frozen", **settings),
        "given": make(data, reference="frozen", reference_model=model_of(), **settings),
        "another": make(data, reference="frozen", reference_model=other, check_start=False, **settings),
    }
    for trainer in runs.values():
        trainer.train()
    expected = weights_of(runs["precomputed"])
    for name in ("frozen", "given"):
        torch.testing.assert_close(weights_of(runs[name]), expected, **CLOSE)
    assert (weights_of(runs["another"]) - expected).abs().max() > 1e-3
    torch.testing.assert_close(
        runs["frozen"].log_ratios.reference_model.state_dict(), model_of().state_dict(), rtol=0, atol=0
    )


def test_the_reference_is_the_model_without_its_adapter(make):
    data = toy_examples(16)
    settings = {"max_steps": 4, "per_device_train_batch_size": 8}
    off, precomputed = (
        make(examples, model=adapted(), **options, **settings)
        for examples, options in ((data, {"reference": "adapter_off"}), (with_reference(data), {}))
    )
    for trainer in (off, precomputed):
        trainer.train()
    torch.testing.assert_close(weights_of(off), weights_of(precomputed), **CLOSE)
    assert logged(off)[-1] < logged(off)[0]
    with pytest.raises(ValueError, match="reference 'adapter_off' needs a model with LoRA adapters, got Qwen2For"):
        make(data, reference="adapter_off")


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_ktos_reference_point_is_of_mismatched_completions_and_not_negative(make, shift):
    doubled = mismatched_examples(toy_examples(10))
    offset = np.where(np.arange(20) % 2 == 1, -shift, 0.0)
    reference = log_probs_of(model_of(), doubled) + offset
    trainer = make(
        dataclasses.replace(doubled, reference_log_probs=reference.astype(np.float32)),
        method="kto",
        weighting="pooled",  # with balanced weights the loss of log-ratios of 0 is 1/2 whatever the point is
        check_start=False,
        per_device_train_batch_size=10,
    )
    trainer.train()
    first = trainer.train_dataset.preferred[::2]
    expected = theory.kto_losses(np.zeros(10), first, 0.1, max(0.0, shift))
    assert logged(trainer)[0] == pytest.approx((trainer.train_dataset.weights[::2] * expected).mean(), abs=1e-6)
    assert logged(trainer, "kl")[0] == pytest.approx(max(0.0, shift), abs=1e-5)


@pytest.mark.parametrize("method", ["sft", "rdro", "ddro", "kto", "dpo"])
def test_evaluation_is_exact_whatever_the_batches(make, method):
    held_out = toy_examples(17, pairs=method == "dpo", seed=4)
    policy, reference = model_of(seed=3), model_of()
    results = []
    for size in (4, 32):  # no example is dropped, as one of an incomplete batch would be in training
        trainer = make(
            toy_examples(8, pairs=method == "dpo"),
            model=policy,
            eval_dataset=held_out,
            reference_model=None if method == "sft" else reference,
            method=method,
            reference=None if method == "sft" else "frozen",
            alpha=0.1 if method in ("rdro", "ddro") else None,
            per_device_eval_batch_size=size,
            dataloader_drop_last=True,
        )
        results.append(trainer.evaluate())
    prepared = trainer.eval_dataset
    u = log_probs_of(policy, prepared)
    if method != "sft":
        u = u - log_probs_of(reference, prepared)
    losses = trainer.objective.losses(u.astype(np.float64), {"preferred": prepared.preferred})
    expected = (prepared.weights[:: prepared.width] * losses).mean()
    for result in results:
        # Log-probabilities are float32 sums of size 30.
        assert result["eval_loss"] == pytest.approx(expected, rel=1e-5)
    timing = ("_runtime", "_per_second", "_time")
    first, second = ({k: v for k, v in r.items() if not k.endswith(timing)} for r in results)
    assert first == pytest.approx(second, rel=1e-4)
    if method == "dpo":
        assert first["eval_rewards/accuracies"] == np.mean(u[::2] > u[1::2])


def test_several_held_out_sets_and_predictions(make):
    sets = {"near": toy_examples(6, seed=1), "far": toy_examples(9, seed=2)}
    trainer = make(toy_examples(8), reference="frozen", eval_dataset=sets)
    metrics = trainer.evaluate()
    assert {"eval_near_loss", "eval_far_loss", "eval_near_rewards/auc"} <= set(metrics)
    again = trainer.evaluate(sets["far"])
    assert again["eval_loss"] == pytest.approx(metrics["eval_far_loss"], rel=1e-6)
    output = trainer.predict(sets["far"])
    assert output.predictions.shape == (9, 1, 4) and output.metrics["test_loss"] == again["eval_loss"]


def test_a_held_out_set_takes_the_training_sets_alpha(make):
    trainer = make(toy_examples(20), reference="frozen", eval_dataset=toy_examples(30, seed=9))
    assert trainer.eval_dataset.preferred.mean() != trainer.resolved.alpha
    assert set(trainer.eval_dataset.alpha) == {trainer.resolved.alpha}


def test_a_held_out_column_alpha_is_its_own(make):
    policy, settings = model_of(seed=3), {"alpha": "column", "reference": "frozen", "reference_model": model_of()}
    trainers = [
        make(toy_examples(8, alpha=np.full(8, 0.3)), policy, toy_examples(9, alpha=np.full(9, alpha)), **settings)
        for alpha in (0.3, 0.6)
    ]
    first, second = (trainer.evaluate()["eval_loss"] for trainer in trainers)
    assert abs(first - second) > 1e-3


def test_evaluation_during_training_leaves_training_alone(make):
    data = with_reference(toy_examples(20))
    settings = {"max_steps": 6, "per_device_train_batch_size": 4, "logging_steps": 2}
    quiet = make(data, **settings)
    watched = make(
        data, eval_dataset=with_reference(toy_examples(7, seed=1)), eval_strategy="steps", eval_steps=2, **settings
    )
    for trainer in (quiet, watched):
        trainer.train()
    assert torch.equal(weights_of(quiet), weights_of(watched))
    assert logged(quiet) == logged(watched) and len(logged(watched, "eval_loss")) == 3


def test_the_model_has_its_own_head_back(make):
    model = model_of()
    trainer = make(toy_examples(8), model=model, reference="frozen")
    trainer.train()
    trainer.evaluate(toy_examples(5))
    assert "forward" not in vars(model.lm_head)
    assert model(torch.tensor([[4, 5]])).logits.shape == (1, 2, VOCABULARY)
    assert make(toy_examples(8), model=model, reference="frozen").train().global_step == 1  # and may be trained again


def test_half_precision_autocast_keeps_sums_in_float32(make):
    trainer = make(toy_examples(12), reference="frozen", bf16=True, max_steps=3, per_device_train_batch_size=12)
    trainer.train()
    assert logged(trainer)[0] == pytest.approx(math.log(2.0), abs=1e-6)  # same batch, same roundings
    assert logged(trainer)[-1] < math.log(2.0)


def test_reports_reach_tensorboard_under_their_names(make, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer = make(toy_examples(8), eval_dataset=toy_examples(8, seed=1), max_steps=2, report_to="tensorboard")
    trainer.train()
    trainer.evaluate()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert {"train/loss", "train/rewards/margins", "train/grad_norm", "eval/rewards/auc"} <= set(
        events.Tags()["scalars"]
    )
    shown = [event.value for event in events.Scalars("train/rewards/margins")]
    assert shown == pytest.approx(logged(trainer, "rewards/margins"), abs=1e-6)  # float32 in the file
