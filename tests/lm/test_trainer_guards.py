"""RatioTrainer stops where it must: losses that are not finite, wrong starts, settings that do not fit."""

import dataclasses
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lm.callbacks import NonFiniteLossError
from lm.objective import mismatched_examples
from tests.lm.toy_examples import VOCABULARY, toy_examples
from tests.lm.toy_training import (
    CLOSE,
    adapted,
    log_probs_of,
    logged,
    make_trainer,
    model_of,
    move_reference,
    weights_of,
    with_reference,
)


@pytest.fixture
def make(tmp_path):
    """Return a maker of trainers: ``make(examples, model=..., eval_dataset=..., **settings)``."""
    return partial(make_trainer, tmp_path)


def test_a_trained_adapter_is_no_start(make):
    model = adapted()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    with pytest.raises(ValueError, match=r"must start from the reference.*an adapter that is trained already"):
        make(toy_examples(16), model=model, reference="adapter_off").train()


def beyond_domain(row=5, distance=50.0):
    """Return examples of which one is far beyond ddro's domain."""
    data = with_reference(toy_examples(12))
    reference = data.reference_log_probs.copy()
    reference[row] -= distance
    return dataclasses.replace(data, reference_log_probs=reference), row


def test_a_loss_that_is_not_finite_stops_before_the_step(make):
    data, row = beyond_domain()
    trainer = make(data, method="ddro", check_start=False, per_device_train_batch_size=4, gradient_accumulation_steps=3)
    start = weights_of(trainer)
    with pytest.raises(
        NonFiniteLossError, match=r"row 105: loss inf at log-ratio 50 in step 1, which was not"
    ) as caught:
        trainer.train()
    error = caught.value
    assert isinstance(error, ArithmeticError)
    assert (error.rows.tolist(), error.step, error.losses.tolist()) == ([100 + row], 1, [math.inf])
    assert error.log_ratios == pytest.approx([50.0], abs=1e-3)
    assert torch.equal(weights_of(trainer), start)


@pytest.mark.parametrize("options", [{"method": "ddro"}, {"generator": "kl"}])  # e^200 is no float32, nor is its slope
def test_skipped_rows_have_no_weight_and_no_gradient(make, options):
    data, row = beyond_domain(distance=200.0)
    own = np.ones(12)
    own[row] = 0.0
    harmless = dataclasses.replace(with_reference(toy_examples(12)), weights=own)
    settings = {"check_start": False, "per_device_train_batch_size": 12, **options}
    skipping = make(data, on_nonfinite="skip", **settings)
    without = make(harmless, **settings)
    for trainer in (skipping, without):
        trainer.train()
    torch.testing.assert_close(weights_of(skipping), weights_of(without), **CLOSE)
    assert logged(skipping, "nonfinite") == [1.0] and logged(without, "nonfinite") == []
    assert logged(skipping)[0] == pytest.approx(logged(without)[0], rel=1e-6)


@pytest.mark.parametrize("policy", ["raise", "skip"])
@pytest.mark.parametrize("method", ["rdro", "dpo", "kto"])
def test_nan_is_never_skipped(make, method, policy):
    if method == "kto":
        model, data = model_of(), toy_examples(12)
        with torch.no_grad():
            model.lm_head.weight[1] = math.nan
        trainer = make(
            data,
            model=model,
            reference="frozen",
            reference_model=model_of(),
            method="kto",
            on_nonfinite=policy,
            check_start=False,
        )
        rows = data.rows
    else:
        data = with_reference(toy_examples(12, pairs=method == "dpo"))
        trainer = make(data, method=method, on_nonfinite=policy, check_start=False)
        move_reference(trainer, math.nan, 3)
        rows = data.rows[3:4]
    trainer.args.per_device_train_batch_size = trainer._train_batch_size = 12
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.train()
    assert set(caught.value.rows) == set(rows)


@pytest.mark.parametrize("scale", [-1e4, 1e4])
@pytest.mark.parametrize("method", ["rdro", "ddro", "kto", "dpo"])
def test_huge_log_ratios_have_finite_losses_and_gradients(make, method, scale):
    plain = toy_examples(8, pairs=method == "dpo")
    data = with_reference(mismatched_examples(plain) if method == "kto" else plain)
    options = {"beyond_domain": "extend"} if method == "ddro" else {}
    trainer = make(data, method=method, check_start=False, **options)
    move_reference(trainer, -scale)
    trainer.train()
    assert logged(trainer, "logratio/max_abs")[0] == pytest.approx(1e4, abs=1.0)
    assert weights_of(trainer).isfinite().all() and math.isfinite(logged(trainer)[0])


def test_the_start_is_checked_and_moves_no_random_state(make):
    data = with_reference(toy_examples(12))
    # With a new adapter dropout changes nothing at the start, and everything later.
    ends = []
    for check in (True, False):
        trainer = make(data, adapted(dropout=0.5), check_start=check, max_steps=3)
        trainer.train()
        ends.append(weights_of(trainer))
    assert torch.equal(*ends)


def test_the_start_is_checked_with_tf32_on(make, monkeypatch):
    # As the setting tf32 leaves it: from torch 2.9 on the older allow_tf32 then raises.
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision="tf32"))
    reference = log_probs_of(model_of(), toy_examples(12)) - np.float32(0.01)  # 32 sqrt(2) / 2^11 = 0.022 is allowed
    data = dataclasses.replace(toy_examples(12), reference_log_probs=reference)
    assert make(data).train().global_step == 1


@pytest.mark.parametrize("cause", ["dropout", "reference", "row", "nan"])
def test_a_start_that_is_not_the_reference_is_refused(make, cause):
    data, model = with_reference(toy_examples(12)), model_of()
    reference = data.reference_log_probs.copy()
    if cause == "dropout":
        model = model_of(attention_dropout=0.5)
    elif cause == "reference":
        reference = log_probs_of(model_of(seed=1), data)
    else:
        reference[0] -= 1e-2
    data = dataclasses.replace(data, reference_log_probs=reference)
    trainer = make(data, model=model, per_device_train_batch_size=24)
    if cause == "nan":
        move_reference(trainer, math.nan, 0)
    start = weights_of(trainer)
    with pytest.raises(ValueError, match=r"training must start from the reference.*usual causes: dropout"):
        trainer.train()
    assert torch.equal(weights_of(trainer), start)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy must be random or sequential"),
        ({"reference": "adapter_off"}, "reference must be precomputed for data with|needs a model with LoRA"),
        ({"reference": "frozen"}, "reference must be precomputed for data with reference log-probabilities"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(with_reference(toy_examples(8)), **settings)


def test_a_reference_model_has_no_place_where_the_adapter_is_off(make):
    with pytest.raises(ValueError, match="reference_model must be left out with reference 'adapter_off', got one"):
        make(toy_examples(8), model=adapted(), reference="adapter_off", reference_model=model_of())


def test_float16_weights_are_not_scaled(make):
    with pytest.raises(ValueError, match=r"fp16 needs float32 weights.*got float16 in model.embed_tokens.weight"):
        make(with_reference(toy_examples(8)), model=model_of().half(), fp16=True)


def test_sequences_that_the_model_cannot_hold_are_refused(make):
    data = toy_examples(8)
    data.completion_ids[3] = np.array([VOCABULARY], dtype=np.int32)
    with pytest.raises(ValueError, match=rf"token ids must lie.*\[0, {VOCABULARY}\), got {VOCABULARY} in row 103"):
        make(data, reference="frozen")
    data.completion_ids[3] = np.full(30, 4, dtype=np.int32)
    with pytest.raises(
        ValueError, match=r"at most the model's 16 positions, got 3\d tokens in row 103; set max_length"
    ):
        make(data, model=model_of(max_position_embeddings=16), reference="frozen")


def test_new_examples_after_training_are_refused_as_the_reference_is_gone(make):
    trainer = make(toy_examples(8), max_steps=2)
    trainer.evaluate(toy_examples(8, seed=1))  # the model is its reference still
    trainer.train()
    with pytest.raises(ValueError, match="the reference must be the model before training, got new examples after 2"):
        trainer.evaluate(toy_examples(8, seed=2))
