"""A resumed run is the uninterrupted one, bit by bit, and is refused where it would be another run."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from lm.config import RatioConfig
from lm.examples import ExampleSet
from lm.resume import (
    STATE_FILE,
    check_same,
    data_fingerprints,
    last_checkpoint,
    model_fingerprint,
    read_state,
    remove_checkpoints,
)
from lm.tiny_models import tiny_qwen2
from lm.trainer import RatioTrainer
from tests.lm.toy_examples import VOCABULARY, toy_examples

TIMES = ("runtime", "per_second", "flos")


class _Stop(TrainerCallback):
    """Save and stop after some steps, as a user's interruption would."""

    def __init__(self, step):
        self._step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self._step:
            control.should_save = control.should_training_stop = True
        return control


def _trainer(folder, examples=None, *, seed=0, callbacks=None, reference_model=None, **settings):
    """Return a trainer with dropout, so that random states matter, and an evaluation within each logging interval."""
    usual = {
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 5,
        "save_strategy": "no",
        "warmup_steps": 2,
        "reference": "frozen",
        "check_start": False,
        "disable_tqdm": True,
    }
    args = RatioConfig(output_dir=str(folder), use_cpu=True, **{**usual, **settings})
    model = tiny_qwen2(VOCABULARY, hidden_size=16, layers=1, attention_dropout=0.2, seed=seed)
    held_out = toy_examples(7, seed=1)
    examples = toy_examples(22) if examples is None else examples
    return RatioTrainer(model, args, examples, held_out, None, reference_model, callbacks)


def _history(trainer):
    """Return what was logged, without times."""
    return [
        {name: value for name, value in entry.items() if not any(word in name for word in TIMES)}
        for entry in trainer.state.log_history
        if "train_runtime" not in entry  # the summary is of this call alone
    ]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Return the folder of a run that was stopped after step 3, in the middle of an epoch and of a logging interval."""
    folder = tmp_path_factory.mktemp("interrupted")
    _trainer(folder, callbacks=[_Stop(3)]).train()
    return folder


@pytest.mark.parametrize("method", ["rdro", "kto"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, interrupted, method):
    folder = tmp_path / "run"
    if method == "rdro":
        shutil.copytree(interrupted, folder)
    else:
        _trainer(folder, method=method, callbacks=[_Stop(3)]).train()
    whole = _trainer(tmp_path / "whole", method=method)
    whole.train()
    resumed = _trainer(folder, method=method)
    resumed.train(resume_from_checkpoint=True)
    assert whole.state.global_step == resumed.state.global_step == 6
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    states = [trainer.optimizer.state_dict()["state"] for trainer in (whole, resumed)]
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert _history(resumed) == _history(whole)
    assert len([entry for entry in _history(whole) if "loss" in entry]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.5}, r"alpha was 0\.\d+ and is 0\.5"),
        ({"method": "ddro"}, "method was 'rdro' and is 'ddro'; beyond_domain was None and is 'infinite'"),
        ({"generator": "kl"}, "generator was 'logistic' and is 'kl'"),
        ({"weighting": "pooled"}, "weighting was 'balanced' and is 'pooled'.*; weights was [0-9a-f]{12} and is"),
        ({"examples": toy_examples(21)}, "examples was 22 and is 21"),
        ({"examples": toy_examples(22, seed=5)}, "data was [0-9a-f]{12} and is [0-9a-f]{12}"),
        ({"examples": toy_examples(22, weights=np.full(22, 2.0))}, "weights was [0-9a-f]{12} and is [0-9a-f]{12}$"),
        ({"seed": 1}, "reference_model was [0-9a-f]{12} and is [0-9a-f]{12}$"),
        (
            {
                "reference": "precomputed",
                "examples": dataclasses.replace(toy_examples(22), reference_log_probs=np.zeros(22, dtype=np.float32)),
            },
            "reference_log_probs was None and is [0-9a-f]{12}; reference was 'frozen' and is 'precomputed'",
        ),
    ],
)
def test_another_run_is_not_resumed(interrupted, changes, message):
    if changes.get("reference") == "precomputed":
        changes = {**changes, "eval_strategy": "no"}
        trainer = _without_held_out(interrupted, **changes)
    else:
        trainer = _trainer(interrupted, **changes)
    before = [weight.clone() for weight in trainer.model.parameters()]
    with pytest.raises(ValueError, match=f"a resumed run must be the run of .*checkpoint-3, but .*{message}"):
        trainer.train(resume_from_checkpoint=True)
    assert all(map(torch.equal, before, trainer.model.parameters()))


def _without_held_out(folder, examples, **settings):
    args = RatioConfig(output_dir=str(folder), use_cpu=True, **settings)
    return RatioTrainer(tiny_qwen2(VOCABULARY, hidden_size=16, layers=1), args, examples)


def test_what_is_the_same_under_another_name_is_resumed(interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path / "run")
    share = float(toy_examples(22).preferred.mean())
    trainer = _trainer(tmp_path / "run", alpha=share, generator="logistic", max_steps=4)  # what "auto" and None came to
    assert trainer.train(resume_from_checkpoint=True).global_step == 4


def test_a_resumed_run_is_not_checked_for_its_start(interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path / "run")
    trainer = _trainer(tmp_path / "run", check_start=True, max_steps=4)
    assert trainer.train(resume_from_checkpoint=True).global_step == 4
    with pytest.raises(ValueError, match="training must start from the reference"):  # for its dropout
        _trainer(tmp_path / "new", check_start=True).train()


def test_a_checkpoint_that_was_cut_short_is_passed_over(interrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(interrupted, folder)
    for step, content in ((10, None), (11, '{"global_st')):  # killed before, and while the trainer's state was written
        (folder / f"checkpoint-{step}").mkdir()
        if content is not None:
            (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(content)
    (folder / "checkpoint-best").mkdir()
    assert last_checkpoint(folder) == str(folder / "checkpoint-3")
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_a_run_that_is_resumed_from_its_last_step_takes_no_other(interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path / "run")
    saved = load_file(tmp_path / "run" / "checkpoint-3" / "model.safetensors")
    trainer = _trainer(tmp_path / "run", max_steps=3, lr_scheduler_type="constant")
    assert trainer.train(resume_from_checkpoint=True).global_step == 3
    weights = trainer.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in saved.items())


def _checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_checkpoints_are_kept_by_step_and_never_by_the_clock(tmp_path):
    class ClockJumpsBack(TrainerCallback):
        def on_save(self, args, state, control, **_):
            for path in tmp_path.glob("checkpoint-*"):
                os.utime(path, times=(2e9 - 1e5 * state.global_step,) * 2)

    trainer = _trainer(tmp_path, save_strategy="steps", save_steps=1, save_total_limit=2, callbacks=[ClockJumpsBack()])
    trainer.train()
    assert _checkpoints(tmp_path) == ["checkpoint-5", "checkpoint-6"]
    assert trainer.args.save_total_limit == 2


def test_a_resumed_run_removes_what_a_kill_left_and_goes_on_from_what_is_whole(interrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(interrupted, folder)
    (folder / "checkpoint-5").mkdir()  # more than the limit, newer than what is saved next, and not whole
    _trainer(folder, max_steps=4, save_strategy="steps", save_steps=4, save_total_limit=1).train(True)
    assert _checkpoints(folder) == ["checkpoint-4"]
    assert last_checkpoint(folder) == str(folder / "checkpoint-4")


@pytest.mark.parametrize(
    ("limit", "kept", "left"),
    [
        (None, [], [2, 4, 6, 10]),
        (1, [], [10]),
        (2, [], [6, 10]),
        (1, [4], [4]),
        (2, [4], [4, 10]),
        (3, [2, 4], [2, 4, 10]),
        (1, [2, 4], [2, 4]),
        (2, [8], [6, 10]),  # not whole
    ],
)
def test_what_is_kept_of_checkpoints(tmp_path, limit, kept, left):
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if step != 8:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-mine").mkdir()
    remove_checkpoints(tmp_path, limit, [tmp_path / f"checkpoint-{step}" for step in kept])
    assert _checkpoints(tmp_path) == sorted(["checkpoint-mine", *(f"checkpoint-{step}" for step in left)])


def test_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="resuming needs a complete checkpoint, got none in"):
        _trainer(tmp_path).train(resume_from_checkpoint=True)
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(ValueError, match=f"a checkpoint must hold {STATE_FILE}, got .*checkpoint-1, which has none"):
        _trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_the_final_model_says_what_it_was_trained_on(tmp_path, interrupted):
    trainer = _trainer(tmp_path, alpha=0.3)
    trainer.save_model(str(tmp_path / "final"))
    run = read_state(tmp_path / "final")["run"]
    assert (run["method"], run["alpha"], run["examples"]) == ("rdro", 0.3, 22)
    assert read_state(interrupted / "checkpoint-3")["run"]["data"] == run["data"]
    json.loads((tmp_path / "final" / STATE_FILE).read_text())


def test_fingerprints_tell_every_column_apart():
    data = toy_examples(10, weights=np.ones(10))
    base = data_fingerprints(data)
    assert data_fingerprints(toy_examples(10, weights=np.ones(10))) == base
    # The same tokens, divided otherwise into prompt and completion.
    moved = [np.concatenate([p, c[:1]]) for p, c in zip(data.prompt_ids, data.completion_ids, strict=True)]
    cut = [np.concatenate([c[1:], [4]]).astype(np.int32) for c in data.completion_ids]
    # The same tokens in the same order, divided otherwise among the examples.
    short = [np.array(ids, dtype=np.int32) for ids in ([5, 6], [7], [5], [6, 7])]
    last = [np.array([4], dtype=np.int32)] * 2
    one, other = (ExampleSet(ids, last, np.array([True, False]), np.arange(2)) for ids in (short[:2], short[2:]))
    assert data_fingerprints(one)["data"] != data_fingerprints(other)["data"]
    variants = {
        "data": [
            dataclasses.replace(data, preferred=~data.preferred),
            dataclasses.replace(data, prompt_ids=moved, completion_ids=cut),
            data.select(np.arange(10)[::-1]),
        ],
        "weights": [dataclasses.replace(data, weights=np.full(10, 2.0))],
        "alphas": [dataclasses.replace(data, alpha=np.full(10, 0.2))],
        "reference_log_probs": [dataclasses.replace(data, reference_log_probs=np.zeros(10))],
    }
    for column, others in variants.items():
        for other in others:
            changed = data_fingerprints(other)
            assert [name for name in base if changed[name] != base[name]] == [column]


def test_fingerprints_tell_models_apart():
    model = tiny_qwen2(VOCABULARY, hidden_size=16, layers=1)
    base = model_fingerprint(model)
    assert model_fingerprint(tiny_qwen2(VOCABULARY, hidden_size=16, layers=1)) == base
    assert model_fingerprint(tiny_qwen2(VOCABULARY, hidden_size=16, layers=1, seed=1)) != base
    assert model_fingerprint(model.double()) != base
    frozen = model_fingerprint(model, trainable=False)
    model.model.norm.weight.requires_grad_(False)
    assert model_fingerprint(model, trainable=False) != frozen


def test_every_change_is_named():
    with pytest.raises(ValueError, match=r"but alpha was 0\.4 and is 0\.5; beta was None and is 0\.1$"):
        check_same({"alpha": 0.4, "data": "x"}, {"alpha": 0.5, "data": "x", "beta": 0.1}, "out")
